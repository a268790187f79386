"""The run directory: what models said, what loops made of it, and how to resume.

Light to import: LangGraph is loaded when a checkpointer is opened.
"""

from reflectory.runs.cached_model import CachedModel
from reflectory.runs.call_cache import CallCache
from reflectory.runs.call_records import CacheStats, CallTotals, RecordedCall
from reflectory.runs.checkpoints import open_checkpointer, prune
from reflectory.runs.directory import RunDirectory, RunView
from reflectory.runs.instructions import Instruction, read_instructions
from reflectory.runs.manifest import Manifest, ModelRecord
from reflectory.runs.scheduler import run_many
from reflectory.runs.trajectories import TrajectoryStore

__all__ = [
    "CacheStats",
    "CachedModel",
    "CallCache",
    "CallTotals",
    "Instruction",
    "Manifest",
    "ModelRecord",
    "RecordedCall",
    "RunDirectory",
    "RunView",
    "TrajectoryStore",
    "open_checkpointer",
    "prune",
    "read_instructions",
    "run_many",
]
