"""From rows to an adapter: how they are learnt."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reflectory.config.base import Unit
from reflectory.config.methods import MethodConfig

Objective = Literal["sft", "dpo", "sft+dpo"]
"""Names of what training minimises."""


class TrainingConfig(MethodConfig):
    """One round of training; what is trained is inherited.

    Attributes:
        objective: ``sft`` (Equation 6, on rows), ``dpo`` (Equation 12, on pairs) or
            ``sft+dpo``, one after the other on the same adapter.
        learning_rate: Peak learning rate of supervised training.
        schedule: How it falls after the warm-up: ``linear``, ``cosine`` or ``constant``.
        warmup: Share of the steps over which it rises, in [0, 1].
        weight_decay: Of AdamW.
        max_gradient_norm: Longer gradients are cut to this; 0 cuts none.
        epochs: Passes over the rows, unless ``max_steps`` is given.
        max_steps: Optimiser steps of each objective.
        batch_size: Rows (or pairs) per optimiser step, over all processes.
        micro_batch: Rows of one forward pass and process; divides the batch. ``null`` takes
            one on a processor, and on a GPU what the plan finds room for.
        max_length: Most tokens of a row; longer prompts lose their beginning, never
            the completion.
        share_prompts: Read what several rows begin with once for all of them: ``auto`` where
            it saves a tenth of the tokens and the network can, or ``off``. Loss and gradient
            are the same; an optimiser step then holds about ``batch_size`` rows.
        activation_checkpointing: Compute activations again instead of keeping them: ``auto``
            where keeping them would cost too much memory, ``on`` or ``off``.
        seed: Seed of initialisation and order.
        preference_learning_rate: Peak learning rate of DPO.
        preference_epochs: Passes over the pairs, unless ``max_steps`` is given.
        beta: How much DPO holds on to its reference.
        reference: What DPO compares with: ``base`` (the model without its adapter) or
            ``start`` (the adapter as it is when DPO begins, so after SFT or of the parent).
        margin_weight: DPO's loss asks the better answer to lead by so much of the grades'
            margin; 0 ignores margins.
        kl_weight: Weight of the divergence from a teacher in supervised training
            (Equations 2 and 3); 0 leaves it out.
        kl_temperature: Temperature of both distributions in it.
        validation_share: Share of the rows that is held back to stop early; 0 holds none.
        validation_steps: Steps between two checks on them; ``null`` makes about ten checks.
        patience: Checks without progress before training stops; the best weights stay.
        checkpoint_steps: Optimiser steps between two checkpoints; ``null`` goes by time.
        checkpoint_seconds: Seconds between two checkpoints; ``null`` writes none by time.
    """

    objective: Objective = "sft"
    learning_rate: float = Field(default=3e-4, gt=0.0, allow_inf_nan=False)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Unit = 0.0
    weight_decay: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    max_gradient_norm: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    epochs: float = Field(default=2.0, gt=0.0, allow_inf_nan=False)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=4, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    max_length: int = Field(default=1024, ge=16)
    share_prompts: Literal["auto", "off"] = "auto"
    activation_checkpointing: Literal["auto", "on", "off"] = "auto"
    seed: int = Field(default=0, ge=0)
    preference_learning_rate: float = Field(default=2e-5, gt=0.0, allow_inf_nan=False)
    preference_epochs: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    beta: float = Field(default=0.1, gt=0.0, allow_inf_nan=False)
    reference: Literal["base", "start"] = "base"
    margin_weight: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    kl_weight: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    kl_temperature: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    validation_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    validation_steps: int | None = Field(default=None, ge=1)
    patience: int = Field(default=3, ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    checkpoint_seconds: float | None = Field(default=300.0, gt=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} does not divide batch_size {self.batch_size}; "
                "choose one of its divisors"
            )
        return self

    @property
    def objectives(self) -> tuple[Literal["sft", "dpo"], ...]:
        """The objectives in the order in which they are trained."""
        if self.objective == "sft+dpo":
            return ("sft", "dpo")
        return (self.objective,)
