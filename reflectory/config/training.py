"""From rows to an adapter: how they are learnt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reflectory.config.base import Settings


class TrainingConfig(Settings):
    """One round of LoRA.

    Attributes:
        rank: Rank r of the adapter matrices.
        alpha: Scale; the update is multiplied by alpha / rank.
        dropout: Dropout on the adapter's input.
        target_modules: Which layers get an adapter; ``all-linear`` for every one.
        learning_rate: Peak learning rate, decayed linearly.
        epochs: Passes over the rows, unless ``max_steps`` is given.
        max_steps: Optimiser steps.
        batch_size: Rows per optimiser step.
        max_length: Most tokens of a row; longer prompts lose their beginning, never
            the completion.
        seed: Seed of initialisation and order.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    learning_rate: float = Field(default=2e-4, gt=0.0, allow_inf_nan=False)
    epochs: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=4, ge=1)
    max_length: int = Field(default=1024, ge=16)
    seed: int = Field(default=0, ge=0)
