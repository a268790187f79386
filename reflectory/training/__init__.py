"""Trajectories -> curated rows -> data sets -> adapters, with their lineage.

Importing this package loads no torch: :func:`train_adapter` imports it when called.
"""

from reflectory.training.counts import CurationCounts, Tally
from reflectory.training.curation import Curation, CurationTools, curate, refine
from reflectory.training.dataset import DatasetManifest, RowSet, read_dataset, write_dataset
from reflectory.training.dataset_manual import read_manual
from reflectory.training.formats import feedback_rows, kto_rows, prompt_rows
from reflectory.training.lineage import AdapterManifest, read_adapter_manifest
from reflectory.training.merging import merge_rows
from reflectory.training.plan import TrainingPlan
from reflectory.training.prompting import prompter_for
from reflectory.training.rewards import reward_function
from reflectory.training.rows import (
    FeedbackRow,
    LabelledRow,
    Message,
    PreferenceRow,
    Prompter,
    PromptRow,
    Provenance,
    TrainingRow,
)
from reflectory.training.trainer import TrainingReport, plan_adapter, train_adapter

__all__ = [
    "AdapterManifest",
    "Curation",
    "CurationCounts",
    "CurationTools",
    "DatasetManifest",
    "FeedbackRow",
    "LabelledRow",
    "Message",
    "PreferenceRow",
    "PromptRow",
    "Prompter",
    "Provenance",
    "RowSet",
    "Tally",
    "TrainingPlan",
    "TrainingReport",
    "TrainingRow",
    "curate",
    "feedback_rows",
    "kto_rows",
    "merge_rows",
    "plan_adapter",
    "prompt_rows",
    "prompter_for",
    "read_adapter_manifest",
    "read_dataset",
    "read_manual",
    "refine",
    "reward_function",
    "train_adapter",
    "write_dataset",
]
