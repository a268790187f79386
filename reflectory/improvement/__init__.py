"""Rounds of self-improvement: the facade, and the real work of the graph of rounds.

It wires loops, curation, training and evaluation into
:class:`~reflectory.graphs.round_state.RoundWork`; importing it loads LangGraph, and no torch.
"""

from reflectory.improvement.facade import SelfImprovement
from reflectory.improvement.records import (
    ImprovementResult,
    Lineage,
    RoundRecord,
    StudentRecord,
)
from reflectory.improvement.watcher import RoundWatcher

__all__ = [
    "ImprovementResult",
    "Lineage",
    "RoundRecord",
    "RoundWatcher",
    "SelfImprovement",
    "StudentRecord",
]
