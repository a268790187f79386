"""What a run directory has spent, and the ledger that goes on from there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from reflectory.config import BudgetConfig
from reflectory.errors import UserError
from reflectory.models.prices import PriceList
from reflectory.models.protocol import Model, Usage
from reflectory.observability.listening import current_listener
from reflectory.runs.budget import Ledger, Spent
from reflectory.runs.call_cache import CallCache
from reflectory.runs.directory import RunDirectory
from reflectory.runs.manifest import Session


def open_ledger(
    limits: BudgetConfig,
    models: Iterable[tuple[Model, Any]],
    directory: RunDirectory | None = None,
) -> Ledger:
    """Return the ledger of a run, with what its earlier sessions spent.

    Args:
        limits: The budget.
        models: Every model with what the user called it.
        directory: The run directory, where there is one.

    Raises:
        UserError: The prices cannot be read, or the cost is limited and a price is unknown.
    """
    prices = PriceList.load(limits.prices)
    fingerprints = set()
    for model, named in models:
        prices.know(model, named)
        fingerprints.add(model.fingerprint)
    before = spent_before(limits, prices, fingerprints, directory)
    ledger = Ledger(limits, before=before, prices=prices)
    listener = current_listener()
    if listener is not None:
        listener.budget_opened(ledger)
    return ledger


def spent_before(
    limits: BudgetConfig,
    prices: PriceList,
    fingerprints: set[str],
    directory: RunDirectory | None,
) -> Spent:
    """Return what earlier sessions spent.

    Args:
        limits: The budget.
        prices: Prices of the models.
        fingerprints: The models that will be called.
        directory: The run directory, where there is one.

    Raises:
        UserError: The cost is limited and a price is unknown.
    """
    before = Spent()
    if directory is not None:
        fingerprints = fingerprints | set(directory.calls.by_model())
        before = spent_in(directory, prices, session=False)
    unknown = sorted(name for name in fingerprints if prices.of(name) is None)
    if limits.cost is not None and unknown:
        raise UserError(
            f"the cost is limited, and nobody said what {', '.join(unknown)} costs",
            hint="name its price in a file and the file in budget.prices (--prices); "
            "see docs/budget.md",
        )
    return before


def spent_in(directory: RunDirectory, prices: PriceList, *, session: bool = True) -> Spent:
    """Return what counts against the budget of a run directory.

    Calls, tokens and cost are those of the recorded calls. Calls that failed are not recorded
    and count in their own session alone.

    Args:
        directory: The run directory.
        prices: Prices of its models.
        session: Whether the session that is under way counts, too.
    """
    calls = tokens = 0
    cost: float | None = 0.0
    for model, sums in directory.calls.by_model().items():
        calls += sums.calls
        tokens += sums.prompt_tokens + sums.completion_tokens
        price = prices.of(model)
        usage = Usage(
            prompt_tokens=sums.prompt_tokens,
            reused_tokens=sums.reused_tokens,
            completion_tokens=sums.completion_tokens,
        )
        cost = None if price is None or cost is None else cost + price.of(usage)
    sessions = directory.manifest.sessions
    seconds = seconds_of(sessions[:-1], directory.calls, _moment(sessions[-1].started))
    if session:
        seconds += max(0.0, time.time() - _moment(sessions[-1].started))
    return Spent(calls=calls, tokens=tokens, cost=cost, seconds=seconds)


def seconds_of(sessions: Iterable[Session], calls: CallCache, until: float) -> float:
    """Return how long sessions lasted together, killed ones up to their last call.

    Args:
        sessions: Oldest first.
        calls: The call cache of the run.
        until: When the session after them began, in seconds since 1970.
    """
    known = list(sessions)
    starts = [_moment(session.started) for session in known]
    total = 0.0
    for session, start, following in zip(known, starts, [*starts, until][1:], strict=True):
        # A killed session had no time to write when it ended.
        last = calls.last_created(following) or start
        total += max(_moment(session.updated), last, start) - start
    return total


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
