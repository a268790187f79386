"""A model in front of which the call cache stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from reflectory.errors import IntegrityError
from reflectory.models.notes import CALL_NOTES
from reflectory.models.protocol import (
    Completion,
    Model,
    Request,
    ScoreRequest,
    Scores,
    content_hash,
)
from reflectory.models.wrapping import WrappedModel
from reflectory.runs.call_cache import CallCache

Asked = TypeVar("Asked", Request, ScoreRequest)
Answered = TypeVar("Answered", Completion, Scores)


class _Flight:
    """A call that is being made, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.waiting = 0


class CachedModel(WrappedModel):
    """A model that is asked only what was never asked before.

    What is recorded is answered from the cache. The same call made several times
    at once is made once, and all get its answer; when one of those who wait is
    cancelled the others go on, and when the last one is, so is the call. Errors
    and cancelled completions are passed on and not recorded.

    It belongs to the event loop that it is first used on.

    Args:
        model: What answers; closed by :meth:`aclose`.
        cache: Where answers are recorded; left open by :meth:`aclose`, because
            teacher and student share it.

    Attributes:
        inner: The model.
        hits: Calls that were answered without asking the model.
        misses: Calls for which the model was asked.
    """

    def __init__(self, model: Model, cache: CallCache) -> None:
        super().__init__(model)
        self.hits = 0
        self.misses = 0
        self._cache = cache
        self._flights: dict[tuple[str, float | None], _Flight] = {}

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``, from the cache where it is recorded.

        Raises:
            StorageError: The answer could not be recorded.
            IntegrityError: The cache is damaged.
        """
        return await self._answer("complete", request, Completion, self.inner.complete)

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihoods of ``request``, from the cache where recorded.

        Raises:
            StorageError: The answer could not be recorded.
            IntegrityError: The cache is damaged.
        """
        return await self._answer("score", request, Scores, self.inner.score)

    async def aclose(self) -> None:
        """Close the model; the cache stays open."""
        await self.inner.aclose()

    async def _answer(
        self,
        kind: str,
        request: Asked,
        answer_type: type[Answered],
        ask: Callable[[Asked], Awaitable[Answered]],
    ) -> Answered:
        content = request.content()
        key = content_hash(self.fingerprint, kind, content)
        notes = CALL_NOTES.get()
        if notes is not None:
            notes.key, notes.cached = key, True
        while True:
            recorded = self._cache.recall(
                key, kind=kind, role=request.role, model=self.fingerprint, request=content
            )
            if recorded is not None:
                self.hits += 1
                return self._parse(recorded, answer_type)
            # The deadline does not decide what is said, but it decides when to
            # give up, so only callers of one patience share a call.
            place = (key, request.deadline_s)
            flight = self._flights.get(place)
            joined = flight is not None and not flight.task.done()
            if flight is None or flight.task.done():
                self.misses += 1
                coroutine = self._ask(key, kind, request, content, answer_type, ask)
                flight = self._flights[place] = _Flight(asyncio.create_task(coroutine))
            answer: Answered = await self._wait(place, flight)
            if not joined:
                if notes is not None:
                    notes.cached = False
                return answer
            if getattr(answer, "finish", "") != "cancelled":
                self.hits += 1
                return answer
            # It ran out of the time of whoever began it, not out of ours.

    async def _ask(
        self,
        key: str,
        kind: str,
        request: Asked,
        content: dict[str, Any],
        answer_type: type[Answered],
        ask: Callable[[Asked], Awaitable[Answered]],
    ) -> Answered:
        """Make the call and record it; there is no point between at which it could be lost."""
        began = time.perf_counter()
        answer = await ask(request)
        if getattr(answer, "finish", "") == "cancelled":
            return answer
        is_new = self._cache.put(
            key,
            kind=kind,
            role=request.role,
            model=self.fingerprint,
            request=content,
            response=answer.model_dump(mode="json"),
            seconds=time.perf_counter() - began,
        )
        if not is_new:
            # Another process was faster. What is recorded counts, for all.
            recorded = self._cache.get(key)
            if recorded is not None:
                return self._parse(recorded, answer_type)
        return answer

    async def _wait(self, place: tuple[str, float | None], flight: _Flight) -> Any:
        """Wait for a call that others may be waiting for, too."""
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 or flight.task.done():
                # Out of the way first: whoever asks now must not join a call
                # that is finished or about to be cancelled.
                if self._flights.get(place) is flight:
                    del self._flights[place]
                if not flight.task.done():
                    flight.task.cancel()
                    await asyncio.wait({flight.task})
                    if not flight.task.cancelled():
                        flight.task.exception()  # seen; whoever asked has gone away

    def _parse(self, recorded: dict[str, Any], answer_type: type[Answered]) -> Answered:
        try:
            return answer_type.model_validate(recorded)
        except ValidationError as error:
            raise IntegrityError(
                f"{self._cache.path} is damaged: a recorded call is no {answer_type.__name__}",
                hint="move the file aside and start again; the calls are made again",
            ) from error
