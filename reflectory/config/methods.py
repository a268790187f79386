"""Which parameters are trained: methods by name, or any configuration of PEFT."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from reflectory.config.base import Settings

Method = Literal["lora", "qlora", "dora", "ia3", "prefix", "prompt", "p-tuning", "bitfit"]
"""Names of the methods."""


class MethodConfig(Settings):
    """What of the student is trained; docs/training_methods.md says when to use which.

    Attributes:
        method: ``lora`` (Equation 7), ``qlora`` (the same over a base in 4 bits, needs
            CUDA), ``dora``, ``ia3``, ``prefix`` (Equations 20 to 22), ``prompt``,
            ``p-tuning`` or ``bitfit`` (biases only).
        rank: Rank r of the adapter matrices (lora, qlora, dora).
        alpha: Scale; the update is multiplied by alpha / rank.
        dropout: Dropout on the adapter's input.
        target_modules: Which layers get an adapter; ``all-linear`` for every one.
        virtual_tokens: Length of what is learnt before the prompt (prefix, prompt,
            p-tuning).
        peft: Any configuration of PEFT: ``peft_type`` and its fields; ``null`` goes by
            ``method``.
    """

    method: Method = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    virtual_tokens: int = Field(default=20, ge=1)
    peft: dict[str, Any] | None = None

    @field_validator("peft")
    @classmethod
    def _names_a_type(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value.get("peft_type"), str):
            raise ValueError("peft_type is missing: name a type of PEFT such as LORA or VERA")
        return value
