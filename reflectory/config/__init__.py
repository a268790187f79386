"""One validated configuration, from Python or YAML.

Every problem is reported at once, with the field that has it. Values are plain
data: live objects (a model, a retriever, a user's grader) are handed to
:class:`~reflectory.loop.ReflectiveLoop` beside the configuration.
"""

from reflectory.config.base import Settings, Unit, problems_of
from reflectory.config.budget import BudgetConfig
from reflectory.config.cluster import ClusterConfig
from reflectory.config.curation import CurationConfig
from reflectory.config.evaluation import EvaluationConfig
from reflectory.config.improvement import ImprovementConfig
from reflectory.config.levels import DEFAULT_LEVELS, Level
from reflectory.config.loop import LoopConfig, SamplingConfig
from reflectory.config.practice import CandidateConfig, PracticeConfig
from reflectory.config.remote import RemoteConfig
from reflectory.config.retrieval import Layer, RetrievalConfig
from reflectory.config.revision import RevisionConfig
from reflectory.config.run import RunConfig
from reflectory.config.training import TrainingConfig

__all__ = [
    "DEFAULT_LEVELS",
    "BudgetConfig",
    "CandidateConfig",
    "ClusterConfig",
    "CurationConfig",
    "EvaluationConfig",
    "ImprovementConfig",
    "Layer",
    "Level",
    "LoopConfig",
    "PracticeConfig",
    "RemoteConfig",
    "RetrievalConfig",
    "RevisionConfig",
    "RunConfig",
    "SamplingConfig",
    "Settings",
    "TrainingConfig",
    "Unit",
    "problems_of",
]
