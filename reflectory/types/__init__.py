"""The records of a reflective loop: immutable, typed, with a JSON round trip.

No record holds a clock reading or a path of a machine, so two runs with the
same seed write the same bytes; times live in the run's manifest and cache.
"""

from reflectory.types.answers import Answer, Evidence, Failure, Feedback, Question, Statement
from reflectory.types.documents import Document, Passage, PathStep, ScoredPassage
from reflectory.types.loop import (
    ContextAddition,
    Draft,
    Examination,
    Flag,
    Response,
    StopReason,
    matrix_of,
)
from reflectory.types.practice import Candidate, CandidateSet, PracticeQuestion
from reflectory.types.record import Record
from reflectory.types.shown import Shown
from reflectory.types.trajectory import MIGRATIONS, SCHEMA_VERSION, Trajectory

__all__ = [
    "MIGRATIONS",
    "SCHEMA_VERSION",
    "Answer",
    "Candidate",
    "CandidateSet",
    "ContextAddition",
    "Document",
    "Draft",
    "Evidence",
    "Examination",
    "Failure",
    "Feedback",
    "Flag",
    "Passage",
    "PathStep",
    "PracticeQuestion",
    "Question",
    "Record",
    "Response",
    "ScoredPassage",
    "Shown",
    "Statement",
    "StopReason",
    "Trajectory",
    "matrix_of",
]
