"""How much a run may use: calls, tokens, money and time."""

from __future__ import annotations

from pydantic import Field

from reflectory.config.base import Settings


class BudgetConfig(Settings):
    """How much a run may use, over all agents and all sessions of its run directory.

    A limit is checked before a call is made; what was recorded is answered for nothing. At a
    limit the run stops with everything kept, and the same command with more goes on.

    Attributes:
        calls: Most calls of models.
        tokens: Most tokens, read and written together.
        cost: Most US dollars. Needs a price for every model.
        hours: Most hours of wall-clock time; no call is begun after them.
        prices: File with prices of your own; see docs/budget.md.
    """

    calls: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    cost: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    hours: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    prices: str | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by their field."""
        fields = {n: getattr(self, n) for n in ("calls", "tokens", "cost", "hours")}
        return {name: value for name, value in fields.items() if value is not None}
