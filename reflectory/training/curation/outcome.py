"""What curation hands over."""

from __future__ import annotations

from dataclasses import dataclass

from reflectory.config import CurationConfig
from reflectory.training.counts import CurationCounts
from reflectory.training.rows import PreferenceRow, TrainingRow


@dataclass(frozen=True)
class Curation:
    """The outcome of :func:`~reflectory.training.curation.curate` and ``refine``.

    Attributes:
        rows: Examples for supervised training, in the order of the trajectories.
        preferences: Pairs for preference training, in the same order.
        counts: What was seen, accepted and refused, and why.
        config: The rule.
    """

    rows: tuple[TrainingRow, ...]
    preferences: tuple[PreferenceRow, ...]
    counts: CurationCounts
    config: CurationConfig
