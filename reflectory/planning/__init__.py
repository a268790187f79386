"""What a run takes before it begins, and beside it what it took.

Nothing heavy is imported; models are loaded for a probe alone.
"""

from reflectory.planning.calls import GraderKind, LoopCalls, count_calls, grader_kind
from reflectory.planning.forecast import Forecast, Need, RunPlan, plan_run
from reflectory.planning.learning import LearningNeed, plan_learning
from reflectory.planning.making import plan_of_names, plan_of_parts
from reflectory.planning.probe import Probe, RoleProbe, probe_run, sizes_of
from reflectory.planning.record import PLAN, Comparison, compare, note_plan, read_plan

__all__ = [
    "PLAN",
    "Comparison",
    "Forecast",
    "GraderKind",
    "LearningNeed",
    "LoopCalls",
    "Need",
    "Probe",
    "RoleProbe",
    "RunPlan",
    "compare",
    "count_calls",
    "grader_kind",
    "note_plan",
    "plan_learning",
    "plan_of_names",
    "plan_of_parts",
    "plan_run",
    "probe_run",
    "read_plan",
    "sizes_of",
]
