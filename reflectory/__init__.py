"""reflectory: a multi-agent reflective learning framework.

A teacher agent examines a student's answer with questions of rising
difficulty; the student answers them from documents, is graded, reflects, and
answers better. What it learnt becomes training data, and LoRA makes it
permanent. The distance travelled is the alignment matrix.

Public names are loaded when they are first used, so importing the package
loads none of torch, faiss, langgraph or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AlignmentMatrix": "reflectory.alignment",
    "Document": "reflectory.types",
    "Evaluator": "reflectory.evaluator",
    "Level": "reflectory.config",
    "LoopConfig": "reflectory.config",
    "ReflectiveLoop": "reflectory.loop",
    "ReflectoryError": "reflectory.errors",
    "RunConfig": "reflectory.config",
    "SelfImprovement": "reflectory.improvement",
    "Trajectory": "reflectory.types",
    "open_run": "reflectory.report.opened_run",
}

__all__ = [*sorted(_HOMES), "__version__"]

if TYPE_CHECKING:
    from reflectory.alignment import AlignmentMatrix as AlignmentMatrix
    from reflectory.config import Level as Level
    from reflectory.config import LoopConfig as LoopConfig
    from reflectory.config import RunConfig as RunConfig
    from reflectory.errors import ReflectoryError as ReflectoryError
    from reflectory.evaluator import Evaluator as Evaluator
    from reflectory.improvement import SelfImprovement as SelfImprovement
    from reflectory.loop import ReflectiveLoop as ReflectiveLoop
    from reflectory.report.opened_run import open_run as open_run
    from reflectory.types import Document as Document
    from reflectory.types import Trajectory as Trajectory


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'reflectory' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
