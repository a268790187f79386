"""Rounds of self-improvement: how many, what they are checked on, when one is promoted."""

from __future__ import annotations

from pydantic import Field

from reflectory.config.base import Settings


class ImprovementConfig(Settings):
    """Rounds of self-improvement.

    Attributes:
        rounds: How many rounds to make.
        held_out: Files of questions with answers (JSON Lines) that promotion is decided on.
    """

    rounds: int = Field(default=2, ge=1, le=1000)
    held_out: tuple[str, ...] = ()
