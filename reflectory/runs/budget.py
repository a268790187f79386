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
from reflectory.models.prices import Price, PriceList
from reflectory.models.protocol import Completion, Model, Request, ScoreRequest, Scores, Usage
from reflectory.models.wrapping import WrappedModel
from reflectory.types import Record

_TEMPLATE_TOKENS = 8
"""Tokens that a chat template puts around one message, roughly."""
_KEPT_COUNTS = 1024
"""Texts whose tokens are remembered; prompts repeat the same documents."""


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
class _Held:
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
        self._held = _Held()
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def counts_tokens(self) -> bool:
        """Whether a limit depends on how long a call is."""
        return self.limits.tokens is not None or self.limits.cost is not None

    def around(self, model: Model) -> Model:
        """Return the model behind this ledger, or the model itself where there is no limit."""
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

    async def reserve(self, tokens: int, cost: float | None) -> _Held:
        """Wait until a call fits that uses at most so much, and hold it.

        Args:
            tokens: Most tokens, read and written.
            cost: Most US dollars; ``None`` when the price is unknown.

        Raises:
            BudgetSpent: It does not fit, and no call is in flight that might leave something.
        """
        want = _Held(1, tokens, cost or 0.0)
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

    def settle(self, held: _Held, *, tokens: int, cost: float | None) -> None:
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

    def _hold(self, what: _Held, sign: int) -> None:
        self._held.calls += sign * what.calls
        self._held.tokens += sign * what.tokens
        self._held.cost += sign * what.cost
        if not self._held.calls:
            self._held.cost = 0.0  # and not what rounding has left

    def _now(self) -> Spent:
        seconds = self._spent.seconds + self._clock() - self._began
        return self._spent.model_copy(update={"seconds": seconds})

    def _refused(self, want: _Held) -> str:
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

    def _refuse(self, name: str, want: _Held) -> NoReturn:
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
            hint=f"everything is kept; the same command with a larger --max-{name} (budget.{name} "
            "in a configuration) goes on from here",
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


class BudgetedModel(WrappedModel):
    """A model that is asked only as far as the budget goes.

    Args:
        model: What answers; left open by :meth:`aclose` of this one.
        ledger: Shared by all models of a run.
    """

    def __init__(self, model: Model, ledger: Ledger) -> None:
        super().__init__(model)
        self._ledger = ledger
        self._counts: dict[str, int] = {}
        self._factor = 1.0

    @property
    def _price(self) -> Price | None:
        return self._ledger.prices.of(self.inner.fingerprint)

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``, if the budget has room for it.

        Raises:
            BudgetSpent: It has not.
        """
        prompt, held = await self._reserve(request, request.sampling.max_tokens)
        try:
            answer = await self.inner.complete(request)
        except BaseException as error:
            self._settle_failed(held, prompt, error)
            raise
        self._settle(held, prompt, self._used(answer.usage, request, answer.text))
        return answer

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihoods of ``request``, if the budget has room for it.

        Raises:
            BudgetSpent: It has not.
        """
        prompt, held = await self._reserve(request, 0)
        try:
            scores = await self.inner.score(request)
        except BaseException as error:
            self._settle_failed(held, prompt, error)
            raise
        self._settle(held, prompt, self._used(scores.usage, request, ""))
        return scores

    async def aclose(self) -> None:
        """Close the model: the cache in front of this one hands that on."""
        await self.inner.aclose()

    async def _reserve(self, request: Request | ScoreRequest, written: int) -> tuple[int, _Held]:
        """Return the tokens of the prompt, as far as a limit needs them, and what is held."""
        if not self._ledger.counts_tokens:
            return 0, await self._ledger.reserve(0, None)
        prompt = int(self._prompt_tokens(request) * self._factor) + 1
        price = self._price
        most = Usage(prompt_tokens=prompt, completion_tokens=written)
        cost = None if price is None else price.of(most)
        return prompt, await self._ledger.reserve(prompt + written, cost)

    def _used(self, usage: Usage, request: Request | ScoreRequest, text: str) -> Usage:
        """Return what a call used: what was reported, or what is counted where nothing was."""
        if usage.prompt_tokens or usage.completion_tokens:
            return usage
        prompt = self._prompt_tokens(request)
        return Usage(prompt_tokens=prompt, completion_tokens=self._count(text))

    def _settle(self, held: _Held, prompt: int, used: Usage) -> None:
        price = self._price
        self._ledger.settle(
            held,
            tokens=used.prompt_tokens + used.completion_tokens,
            cost=None if price is None else price.of(used),
        )
        if prompt:
            # Where tokens are only estimated, the next estimates learn from the worst one.
            self._factor = max(self._factor, self._factor * used.prompt_tokens / prompt)

    def _settle_failed(self, held: _Held, prompt: int, error: BaseException) -> None:
        """Count a call that gave nothing; a server that was hung up on has read the prompt."""
        cancelled = isinstance(error, asyncio.CancelledError)
        used = Usage(prompt_tokens=prompt if cancelled else 0)
        price = self._price
        cost = None if price is None else price.of(used)
        self._ledger.settle(held, tokens=used.prompt_tokens, cost=cost)

    def _prompt_tokens(self, request: Request | ScoreRequest) -> int:
        """Return how many tokens a call reads, as far as that is known beforehand."""
        texts = [segment.text for segment in request.segments]
        if isinstance(request, ScoreRequest):
            texts += request.continuations
        else:
            texts.append(request.prefill)
        return sum(map(self._count, texts)) + _TEMPLATE_TOKENS * len(request.segments)

    def _count(self, text: str) -> int:
        if not text:
            return 0
        if text not in self._counts:
            if len(self._counts) >= _KEPT_COUNTS:
                self._counts.clear()
            self._counts[text] = self.inner.count_tokens(text)
        return self._counts[text]


def said_of(name: str, amount: float) -> str:
    """Return an amount of a limit in words: ``100 calls``, ``$2.50``."""
    return f"${amount:,.4g}" if name == "cost" else f"{amount:,.6g} {name}"


def spent_in_words(spent: Spent) -> str:
    """Return what is spent in one line."""
    cost = "cost unknown" if spent.cost is None else f"${spent.cost:,.4f}"
    hours = spent.seconds / 3600
    return f"{spent.calls:,} calls, {spent.tokens:,} tokens, {cost}, {hours:,.2f} hours"
