"""Trajectories -> curated rows -> data sets -> LoRA adapters, with their lineage.

Importing this package loads no torch: :func:`train_adapter` imports it when called.
"""

from reflectory.training.counts import CurationCounts, Tally
from reflectory.training.curation import Curation, CurationTools, curate, refine
from reflectory.training.dataset import DatasetManifest, RowSet, read_dataset, write_dataset
from reflectory.training.lineage import AdapterManifest, read_adapter_manifest
from reflectory.training.rows import Message, PreferenceRow, Prompter, Provenance, TrainingRow
from reflectory.training.trainer import TrainingReport, train_adapter

__all__ = [
    "AdapterManifest",
    "Curation",
    "CurationCounts",
    "CurationTools",
    "DatasetManifest",
    "Message",
    "PreferenceRow",
    "Prompter",
    "Provenance",
    "RowSet",
    "Tally",
    "TrainingReport",
    "TrainingRow",
    "curate",
    "read_adapter_manifest",
    "read_dataset",
    "refine",
    "train_adapter",
    "write_dataset",
]
