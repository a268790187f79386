"""Rounds of self-improvement: how many, what they are checked on, when one is promoted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from reflectory.config.base import Settings, Unit

Metric = Literal["f1", "exact_match", "contains", "groundedness"]
"""What promotion can be decided on; of all of them more is better."""


class ImprovementConfig(Settings):
    """Rounds of self-improvement.

    Attributes:
        rounds: How many rounds to make.
        held_out: Files of questions with answers (JSON Lines) that promotion is decided on.
            Without any, practice questions from documents that are kept out of training are
            checked against the answers that the teacher proposed.
        held_out_documents: Files and folders that held-out questions are answered from; the
            run's documents when there are none. A question's own ``documents`` come first.
        check_share: Share of the documents that is kept out of training where there is no
            ``held_out``, in (0, 0.9].
        check_questions: Most practice questions that are written from them.
        metric: What promotion is decided on, averaged over the held-out questions.
        minimum_gain: The mean of the metric must rise by more than this.
        tolerance: The lower bound of the gain's interval may lie so far below zero.
        significance: ``tolerated`` allows that; ``required`` wants the bound above zero.
        confidence: Of the one-sided bound and of all intervals, in [0.5, 1).
        resamples: Draws of the bootstrap and of the permutation test.
        rehearsal: Rows that hold what the first student says to plain instructions, so that
            training on short answers does not make it forget the rest; at most 40 are there.
        maximum_forgetting: Promotion is refused when the share of general instructions that
            are followed falls by more than this.
        accumulate: Whose rows a round adds its own to (Equation 4): of ``all`` rounds before,
            of those that were ``promoted``, or of ``none``.
        start: A round trains on from the current ``student``'s adapter, or anew from the
            ``base``.
        manual_rows: Files of rows that people wrote, part of every data set (Equation 5).
        base: Folder or hub id of the model that is trained, where the student's name does
            not say it (a server).
        review: Ask a person before training (``rows``) or before ``promotion``.
        seed: Seed of the split of the documents, the bootstrap and the permutation test.
    """

    rounds: int = Field(default=2, ge=1, le=1000)
    held_out: tuple[str, ...] = ()
    held_out_documents: tuple[str, ...] = ()
    check_share: Annotated[float, Field(gt=0.0, le=0.9)] = 0.25
    check_questions: int = Field(default=40, ge=2)
    metric: Metric = "f1"
    minimum_gain: float = Field(default=0.0, ge=0.0, le=1.0)
    tolerance: Unit = 0.02
    significance: Literal["tolerated", "required"] = "tolerated"
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.9
    resamples: int = Field(default=10_000, ge=100, le=1_000_000)
    rehearsal: int = Field(default=40, ge=0, le=40)
    maximum_forgetting: Unit = 0.1
    accumulate: Literal["all", "promoted", "none"] = "all"
    start: Literal["student", "base"] = "student"
    manual_rows: tuple[str, ...] = ()
    base: str | None = None
    review: tuple[Literal["rows", "promotion"], ...] = ()
    seed: int = Field(default=0, ge=0)

    @field_validator("held_out", "held_out_documents", "manual_rows", "review", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value
