"""From rows to an adapter: how they are learnt."""

from __future__ import annotations

from pydantic import Field

from reflectory.config.methods import MethodConfig


class TrainingConfig(MethodConfig):
    """One round of training; what is trained is inherited.

    Attributes:
        learning_rate: Peak learning rate, decayed linearly.
        epochs: Passes over the rows, unless ``max_steps`` is given.
        max_steps: Optimiser steps.
        batch_size: Rows per optimiser step.
        max_length: Most tokens of a row; longer prompts lose their beginning, never
            the completion.
        seed: Seed of initialisation and order.
    """

    learning_rate: float = Field(default=2e-4, gt=0.0, allow_inf_nan=False)
    epochs: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=4, ge=1)
    max_length: int = Field(default=1024, ge=16)
    seed: int = Field(default=0, ge=0)
