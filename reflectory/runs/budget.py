"""The budget of a run: one ledger over all models, asked before every call.

A call reserves what it may cost at most, so calls that run at the same time cannot pass a
limit together, and settles for what it did cost. The ledger stands behind the call cache:
what is recorded costs nothing and passes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from reflectory.config import BudgetConfig
from reflectory.errors import BudgetSpent
from reflectory.models.prices import PriceList
from reflectory.models.protocol import Model
from reflectory.types import Record


class Spent(Record):
    """What calls have used.

    Attributes:
        calls: Calls that were made.
        tokens: Tokens read and written.
        cost: US dollars; ``None`` when a model without a known price took part.
        seconds: Wall-clock time of the sessions.
    """

    calls: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0

    @property
    def figures(self) -> dict[str, float | None]:
        """What is spent by the fields of :class:`~reflectory.config.BudgetConfig`."""
        cost = None if self.cost is None else round(self.cost, 6)
        hours = round(self.seconds / 3600, 4)
        return {"calls": self.calls, "tokens": self.tokens, "cost": cost, "hours": hours}


@dataclass
class Held:
    """What a call may use at most, or all calls in flight together."""

    calls: int = 0
    tokens: int = 0
    cost: float = 0.0


class Ledger:
    """Knows what is spent, and lets a call begin only when its most fits.

    May be used from several threads and event loops. A call that does not fit beside those
    in flight waits for them, because they mostly settle for less; it is refused when none is
    left. So nothing that is paid for is in flight when a run stops.

    Args:
        limits: The budget.
        before: What earlier sessions spent.
        prices: Prices of the models; unknown ones leave the cost unknown.
        clock: Seconds that only grow; for tests.
    """

    def __init__(
        self,
        limits: BudgetConfig,
        *,
        before: Spent | None = None,
        prices: PriceList | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.prices = prices or PriceList()
        self._clock = clock
        self._began = clock()
        self._spent = before or Spent()
        self._held = Held()
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def counts_tokens(self) -> bool:
        """Whether a limit depends on how long a call is."""
        return self.limits.tokens is not None or self.limits.cost is not None

    def around(self, model: Model) -> Model:
        """Return the model behind this ledger, or the model itself where there is no limit."""
        from reflectory.runs.budgeted_model import BudgetedModel  # which needs this module

        return BudgetedModel(model, self) if self.limits.limits else model

    def spent(self) -> Spent:
        """Return what is spent now, earlier sessions included; calls in flight are not in it."""
        with self._lock:
            return self._now()

    def left(self) -> dict[str, float]:
        """Return what is left of each limit that is set, at least 0."""
        used = self.spent().figures
        return {
            name: max(0.0, limit - (used[name] or 0.0))
            for name, limit in self.limits.limits.items()
        }

    async def reserve(self, tokens: int, cost: float | None) -> Held:
        """Wait until a call fits that uses at most so much, and hold it.

        Args:
            tokens: Most tokens, read and written.
            cost: Most US dollars; ``None`` when the price is unknown.

        Raises:
            BudgetSpent: It does not fit, and no call is in flight that might leave something.
        """
        want = Held(1, tokens, cost or 0.0)
        first = True
        while True:
            with self._lock:
                # Whoever came before is not overtaken, or a long call might never fit.
                if not (first and self._waiting):
                    refused = self._refused(want)
                    if not refused:
                        self._hold(want, 1)
                        self._wake()
                        return want
                    if not self._held.calls:
                        self._wake()
                        self._refuse(refused, want)
                place = (asyncio.get_running_loop(), asyncio.get_running_loop().create_future())
                # Who was woken for nothing keeps the first place.
                (self._waiting.append if first else self._waiting.appendleft)(place)
            first = False
            await self._wait(place)

    def settle(self, held: Held, *, tokens: int, cost: float | None) -> None:
        """Put what a call did use in the place of what it held.

        Args:
            held: From :meth:`reserve`.
            tokens: Tokens read and written.
            cost: US dollars; ``None`` when the price is unknown.
        """
        with self._lock:
            self._hold(held, -1)
            spent = self._spent
            unknown = cost is None or spent.cost is None
            self._spent = Spent(
                calls=spent.calls + 1,
                tokens=spent.tokens + tokens,
                cost=None if unknown else (spent.cost or 0.0) + (cost or 0.0),
                seconds=spent.seconds,
            )
            self._wake()

    async def _wait(self, place: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]) -> None:
        try:
            await place[1]
        except asyncio.CancelledError:
            with self._lock:
                if place in self._waiting:
                    self._waiting.remove(place)
                else:  # It was this one's turn.
                    self._wake()
            raise

    def _hold(self, what: Held, sign: int) -> None:
        self._held.calls += sign * what.calls
        self._held.tokens += sign * what.tokens
        self._held.cost += sign * what.cost
        if not self._held.calls:
            self._held.cost = 0.0  # and not what rounding has left

    def _now(self) -> Spent:
        seconds = self._spent.seconds + self._clock() - self._began
        return self._spent.model_copy(update={"seconds": seconds})

    def _refused(self, want: Held) -> str:
        """Return the limit that a call might pass, in the field's name; empty when it fits."""
        now, held, limits = self._now(), self._held, self.limits
        cost = (now.cost or 0.0) + held.cost + want.cost
        if limits.calls is not None and now.calls + held.calls + want.calls > limits.calls:
            return "calls"
        if limits.tokens is not None and now.tokens + held.tokens + want.tokens > limits.tokens:
            return "tokens"
        if limits.cost is not None and (now.cost is None or cost > limits.cost):
            return "cost"
        if limits.hours is not None and now.seconds >= 3600 * limits.hours:
            return "hours"
        return ""

    def _refuse(self, name: str, want: Held) -> NoReturn:
        limit = self.limits.limits[name]
        more = {
            "calls": "",
            "tokens": f"; the next call may take {want.tokens:,} tokens",
            "cost": f"; the next call may cost ${want.cost:.6f}",
            "hours": "",
        }[name]
        raise BudgetSpent(
            f"the budget of {said_of(name, limit)} is spent: {spent_in_words(self._now())} "
            f"so far{more}",
            hint=f"raise budget.{name} (--max-{name}); in a run directory everything is kept, and "
            "the same command goes on from here",
        )

    def _wake(self) -> None:
        """Give its turn to whoever has waited longest."""
        while self._waiting:
            loop, place = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(_turn, place)
            except RuntimeError:
                continue  # That loop was closed with the call still waiting.
            return


def _turn(place: asyncio.Future[None]) -> None:
    if not place.done():  # Else it was cancelled, and that call gives the turn on.
        place.set_result(None)


def said_of(name: str, amount: float) -> str:
    """Return an amount of a limit in words: ``100 calls``, ``$2.50``."""
    return f"${amount:,.4g}" if name == "cost" else f"{amount:,.6g} {name}"


def spent_in_words(spent: Spent) -> str:
    """Return what is spent in one line."""
    cost = "cost unknown" if spent.cost is None else f"${spent.cost:,.4f}"
    hours = spent.seconds / 3600
    return f"{spent.calls:,} calls, {spent.tokens:,} tokens, {cost}, {hours:,.2f} hours"
