"""What every call of a model on a server goes through: its pace, its pauses, its repetitions."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reflectory.config.remote import RemoteConfig
from reflectory.errors import BackendError, RateLimited, RunStopped
from reflectory.models.circuit import LONGEST_WAIT_S, Circuit
from reflectory.models.pacing import Departure, Pacer
from reflectory.models.protocol import Completion, derive_seed
from reflectory.models.slots import Slots

logger = logging.getLogger(__name__)

Attempt = Callable[[], Awaitable[Completion]]

_LOOK_AGAIN_S = 0.5
"""A wait may become shorter: a call used fewer tokens than it might have."""


@dataclass(frozen=True)
class Calling:
    """One call, however often it is attempted.

    Attributes:
        attempt: Asks the server once.
        tokens: Most tokens that one attempt reads and writes.
        seed: Of the jitter.
        give_up_at: When its deadline passes, on the gate's clock; ``None`` for never.
    """

    attempt: Attempt
    tokens: int
    seed: int = 0
    give_up_at: float | None = None


class Gate:
    """Lets calls through one after the other, in the order of asking, when each may go.

    What one call learns holds for all: where the server asks for a wait, everybody
    waits, and where it fails again and again one call at a time tries it, each time
    another one. May be used from several event loops at the same time.

    Args:
        name: Of the model, for messages.
        config: The limits.
        ping: A call that asks next to nothing; tells a server that is away from a
            request that breaks it.
        clock: Seconds that never go back.
        sleep: Waits.
    """

    def __init__(
        self,
        name: str,
        config: RemoteConfig,
        *,
        ping: Calling | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock = clock
        self._config = config
        self._ping = ping
        self._sleep = sleep
        self._places = Slots(config.max_concurrency)
        self._turn = Slots(1)
        self._pacer = Pacer(config.requests_per_minute, config.tokens_per_minute, clock=clock)
        self._circuit = Circuit(
            name,
            pause_after=config.pause_after,
            backoff_s=config.backoff_s,
            longest_pause_s=config.longest_pause_s,
            clock=clock,
        )
        self._refusals = 0
        self._refused_at = -float("inf")

    def hold(self, seconds: float) -> None:
        """Send nothing for so long, as the server's headers advise; at most a minute."""
        self._pacer.hold(min(seconds, LONGEST_WAIT_S))

    async def call(self, calling: Calling) -> Completion:
        """Make a call, repeating it while that may help.

        Its place is kept while it waits, so that a server that asks for fewer
        calls gets fewer.

        Raises:
            ServerUnavailable: The server gave no answer for too long.
            BackendError: The repetitions were not enough, or would not help.
            TimeoutError: The wait would be longer than the deadline allows.
        """
        outage, failures, tries = self._circuit.outage, 0, 0
        at_fault, refused_since = False, None
        async with self._places:
            while True:
                tried = False
                try:
                    async with self._turn:
                        departure = await self._departure(calling, outage)
                        tried = self._circuit.is_open
                        if tried:  # Nobody else goes until it is known how this one ends.
                            return await self._attempt(calling, departure, tried=True)
                    return await self._attempt(calling, departure)
                except RateLimited:
                    refused_since = refused_since or departure.sent
                    if self.clock() - refused_since > self._config.longest_pause_s:
                        raise  # Others are served; this one never is.
                except RunStopped:
                    raise
                except BackendError as error:
                    if not error.retryable:
                        raise
                    tries += tried
                    if at_fault:
                        raise  # The server answered another one before it failed on this.
                    if tries > self._config.retries:
                        at_fault = await self._is_alive(outage)
                    if self._circuit.is_open:
                        continue  # It is the server's failure, not this call's.
                    failures += 1
                    if failures > self._config.retries:
                        raise
                    await self._back_off(calling.seed, failures, error)

    async def _departure(self, calling: Calling, outage: int) -> Departure:
        """Wait until a request may go, and note that it goes."""
        while True:
            self._circuit.check(outage)
            certain = max(self._circuit.wait_s, self._pacer.held_s)
            if calling.give_up_at is not None and self.clock() + certain > calling.give_up_at:
                raise TimeoutError
            wait = max(certain, self._pacer.wait_s(calling.tokens))
            if wait <= 0.0:
                return self._pacer.start(calling.tokens)
            await self._sleep(min(wait, _LOOK_AGAIN_S))

    async def _attempt(
        self, calling: Calling, departure: Departure, *, tried: bool = False
    ) -> Completion:
        """Ask once, and let pace and pauses learn from how it ends."""
        try:
            completion = await calling.attempt()
        except RunStopped:
            raise
        except BackendError as error:
            self._pacer.settle(departure)
            if isinstance(error, RateLimited):
                self._circuit.refused()
                self._hold_all(error, self._asked_wait(calling.seed, departure, error))
            elif error.retryable:
                self._circuit.failed(error, tried=tried, took_s=self.clock() - departure.sent)
                self._hold_all(error, error.retry_after or 0.0)
            else:
                self._circuit.answered()
            raise
        usage = completion.usage
        self._pacer.settle(departure, (usage.prompt_tokens + usage.completion_tokens) or None)
        self._circuit.answered()
        self._refusals = 0
        return completion

    def _hold_all(self, error: BackendError, seconds: float) -> None:
        """Make everybody wait; not at all where that would be longer than anybody waits."""
        try:
            self._circuit.pause(self._pacer.hold(seconds), error)
        except RunStopped:
            self._pacer.release()
            raise

    def _asked_wait(self, seed: int, departure: Departure, error: RateLimited) -> float:
        """Return what the server asks for, or a wait that doubles with each refusal."""
        if departure.sent >= self._refused_at:
            # Those that were on their way at an earlier refusal do not make it longer.
            self._refusals += 1
            self._refused_at = self.clock()
        return error.retry_after or self._doubled(seed, self._refusals)

    def _doubled(self, seed: int, number: int) -> float:
        """Return the wait before repetition ``number``, from 1, with jitter."""
        jitter = random.Random(derive_seed(seed, "retry", number)).uniform(0.5, 1.5)
        wait = self._config.backoff_s * 2.0 ** min(number - 1, 60) * jitter
        return min(wait, LONGEST_WAIT_S)

    async def _back_off(self, seed: int, number: int, error: BackendError) -> None:
        wait = self._doubled(seed, number)
        logger.info("%s; waiting %.1f s", error.message, wait)
        await self._sleep(wait)

    async def _is_alive(self, outage: int) -> bool:
        """Return whether the server answers something small now."""
        if self._ping is None:
            return False
        async with self._turn:
            departure = await self._departure(self._ping, outage)
            try:
                await self._ping.attempt()
            except RunStopped:
                raise
            except BackendError as error:
                if error.retryable and not isinstance(error, RateLimited):
                    took_s = self.clock() - departure.sent
                    self._circuit.failed(error, tried=True, took_s=took_s)
                    return False
            finally:
                self._pacer.settle(departure)
        return True
