"""Calls of models as an observer sees them: outside of cache and budget, inside a node."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from reflectory.models.notes import CALL_NOTES, CallNotes
from reflectory.models.protocol import Completion, Model, Request, ScoreRequest, Scores
from reflectory.models.wrapping import WrappedModel
from reflectory.observability import spans
from reflectory.observability.callbacks import ReportedCall, is_reported_by_itself, listeners
from reflectory.observability.listening import current_listener
from reflectory.observability.place import Place, current_place

Asked = TypeVar("Asked", Request, ScoreRequest)
Answered = TypeVar("Answered", Completion, Scores)

_log = logging.getLogger(__name__)


class ObservedModel(WrappedModel):
    """A model whose calls are spans, log lines, and entries in the record of a run.

    It changes nothing of what is said. Where nobody observes, a call passes at the
    cost of a few look-ups.

    Args:
        model: What answers, with everything that stands in front of it.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._reports_itself = is_reported_by_itself(model)

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``."""
        return await self._observe("complete", request, self.inner.complete)

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihoods of ``request``."""
        return await self._observe("score", request, self.inner.score)

    async def _observe(
        self, kind: str, request: Asked, ask: Callable[[Asked], Awaitable[Answered]]
    ) -> Answered:
        place = current_place()
        span = spans.begin_call(place, request, self.fingerprint)
        heard = None if self._reports_itself else listeners()
        record = place.run.record if place.run is not None and place.loop else None
        listener = current_listener()
        unheard = span is None and heard is None and record is None and listener is None
        if unheard and not _logs():
            return await ask(request)
        notes = CallNotes()
        token = CALL_NOTES.set(notes)
        began = time.perf_counter()
        reported = None
        try:
            if heard is not None:
                reported = await ReportedCall.begin(heard, request, self.fingerprint)
            with spans.current(span):
                answer = await ask(request)
        except BaseException as error:
            spans.end(span, error)
            self._log(kind, request, place, error=type(error).__name__)
            if reported is not None:
                await reported.fail(error)
            raise
        finally:
            CALL_NOTES.reset(token)
        seconds = time.perf_counter() - began
        spans.end_call(span, answer, cached=notes.cached, seconds=seconds)
        if record is not None and notes.key:
            record(place, request.role, notes.key)
        if listener is not None:
            listener.call_ended(answer.usage, cached=notes.cached)
        if reported is not None:
            await reported.end(answer, cached=notes.cached)
        if _logs():
            usage = answer.usage
            self._log(
                kind,
                request,
                place,
                cached=notes.cached,
                finish=getattr(answer, "finish", None),
                prompt_tokens=usage.prompt_tokens,
                reused_tokens=usage.reused_tokens,
                completion_tokens=usage.completion_tokens,
                seconds=round(seconds, 6),
                key=notes.key or None,
            )
        return answer

    def _log(self, kind: str, request: Request | ScoreRequest, place: Place, **found: Any) -> None:
        if not _logs():
            return
        fields = {"kind": kind, "role": request.role, "model": self.fingerprint, **found}
        known = {name: value for name, value in fields.items() if value is not None}
        message = "call failed" if "error" in known else "call finished"
        _log.debug(message, extra={"place": place, "fields": known})


def _logs() -> bool:
    return _log.isEnabledFor(logging.DEBUG)
