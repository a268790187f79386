"""The alignment matrix A[j,t], its convergence and the rules that stop a loop.

Pure numpy: nothing in here knows of models, graphs or files.
"""

from reflectory.alignment.equations import alignment_score, column_change, cosine_similarity
from reflectory.alignment.matrix import AlignmentMatrix, CellStatus
from reflectory.alignment.stopping import (
    EpsilonRule,
    PatienceRule,
    StopDecision,
    StopRule,
    TargetRule,
    first_to_fire,
    is_constant,
)

__all__ = [
    "AlignmentMatrix",
    "CellStatus",
    "EpsilonRule",
    "PatienceRule",
    "StopDecision",
    "StopRule",
    "TargetRule",
    "alignment_score",
    "column_change",
    "cosine_similarity",
    "first_to_fire",
    "is_constant",
]
