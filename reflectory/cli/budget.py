"""What the verbs share about budgets: a configuration's changes, and what is spent in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reflectory.runs.manifest import Manifest


def budget_changes(
    calls: int | None,
    tokens: int | None,
    cost: float | None,
    hours: float | None,
    prices: Path | None,
) -> dict[str, Any]:
    """Return the options as changes of a configuration; see :func:`config_from`."""
    return {
        "budget.calls": calls,
        "budget.tokens": tokens,
        "budget.cost": cost,
        "budget.hours": hours,
        "budget.prices": None if prices is None else str(prices),
    }


def spent_line(manifest: Manifest) -> str:
    """Return what a run directory has spent, and what is left of its budget; empty if unknown."""
    spent = manifest.totals.spent
    if not spent:
        return ""
    line = f"Spent: {_amounts(spent)}"
    limits = manifest.sessions[-1].budget if manifest.sessions else {}
    left = {name: max(0.0, most - (spent.get(name) or 0.0)) for name, most in limits.items()}
    return f"{line}; left: {_amounts(left)}." if left else f"{line}."


def _amounts(amounts: Mapping[str, float | None]) -> str:
    forms = {"calls": "{:,.0f} calls", "tokens": "{:,.0f} tokens", "cost": "${:,.4f}"}
    said = []
    for name, amount in amounts.items():
        if amount is None:
            said.append(f"{name} unknown")
        else:
            said.append(forms.get(name, "{:,.2f} " + name).format(amount))
    return ", ".join(said)
