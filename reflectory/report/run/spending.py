"""What a run took: calls and tokens by role, cost, time, and the plan beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from reflectory.errors import ReflectoryError
from reflectory.planning import Comparison, compare, read_plan
from reflectory.report.run.parts import RunParts
from reflectory.runs.manifest import Manifest


@dataclass
class RoleSpending:
    """What one role took.

    Attributes:
        calls: Calls that models answered.
        prompt_tokens: Tokens that were read.
        reused_tokens: Of them, those that were computed before.
        completion_tokens: Tokens that were written.
        seconds: Time of the calls added up; calls overlap.
    """

    calls: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def add(self, sums: dict[str, float]) -> None:
        """Add what a manifest counts of the role."""
        self.calls += int(sums.get("calls", 0))
        self.prompt_tokens += int(sums.get("prompt_tokens", 0))
        self.reused_tokens += int(sums.get("reused_tokens", 0))
        self.completion_tokens += int(sums.get("completion_tokens", 0))
        self.seconds += sums.get("seconds", 0.0)


@dataclass(frozen=True)
class Spending:
    """What a run took, rounds and all.

    Attributes:
        roles: By role.
        total: Over all roles.
        hits: Calls that were answered without asking a model.
        cost: US dollars; ``None`` where a price is unknown or nobody counted.
        worked: Seconds that sessions of the run itself lasted.
        limits: Of the budget, by field.
        engines: What local engines computed, by the parts they play.
        plan: The plan of the loops beside what they took; ``None`` without a plan.
        problem: Why a plan could not be read; empty otherwise.
    """

    roles: dict[str, RoleSpending]
    total: RoleSpending
    hits: int
    cost: float | None
    worked: float
    limits: dict[str, float]
    engines: dict[str, dict[str, float]] = field(default_factory=dict)
    plan: Comparison | None = None
    problem: str = ""


def spending_of(parts: RunParts) -> Spending:
    """Return what a run took, from its manifests and its plan."""
    roles: dict[str, RoleSpending] = {}
    total = RoleSpending()
    engines: dict[str, dict[str, float]] = {}
    for manifest in parts.manifests:
        for role, sums in manifest.totals.tokens.items():
            roles.setdefault(role, RoleSpending()).add(sums)
            total.add(sums)
        for session in manifest.sessions:
            for name, counts in session.engines.items():
                known = engines.setdefault(name, {})
                for field_, count in counts.items():
                    known[field_] = known.get(field_, 0.0) + count
    plan, problem = _plan(parts)
    own = parts.manifest
    return Spending(
        roles=dict(sorted(roles.items())),
        total=total,
        hits=sum(manifest.totals.hits for manifest in parts.manifests),
        cost=_cost(parts.manifests),
        worked=sum(_seconds(s.started, s.updated) for s in own.sessions),
        limits=own.sessions[-1].budget if own.sessions else {},
        engines=engines,
        plan=plan,
        problem=problem,
    )


def _plan(parts: RunParts) -> tuple[Comparison | None, str]:
    if len(parts.loops) != 1:
        return None, ""
    view = parts.loops[0].view
    try:
        plan = read_plan(view.path)
    except ReflectoryError as error:
        return None, error.message
    return (None if plan is None else compare(view, plan)), ""


def _cost(manifests: tuple[Manifest, ...]) -> float | None:
    """Return the sum; unknown as soon as one of those that made calls is."""
    costs = [m.totals.spent.get("cost") for m in manifests if m.totals.calls]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _seconds(started: str, updated: str) -> float:
    try:
        return (datetime.fromisoformat(updated) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
