"""Does a language model keep the contract of its protocol?

See :mod:`reflectory.testing.conformance`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Coroutine, Sequence
from typing import Any

from reflectory.errors import BackendError, UnsupportedCapability
from reflectory.models.protocol import (
    Capability,
    Completion,
    Model,
    Request,
    SamplingParameters,
    ScoreRequest,
    Scores,
    Segment,
    TokenScores,
)
from reflectory.testing.conformance_findings import Findings

_ROLE = "conformance"
_SHARED = (
    Segment(text="You answer in one short sentence.", speaker="system", shared=True),
    Segment(text="[1] Colours\nThe sky is blue. Grass is green. Coal is black.", shared=True),
)
_TASKS = ("What colour is the sky?", "What is green?", "Name two colours.", "What is coal like?")
_TEXTS = ("Blue.", "The sky is blue, says the first document.", "Green")


async def check_model(model: Model, *, exact: bool = True, timeout_s: float = 300.0) -> None:
    """Check that a model keeps the contract of :class:`~reflectory.models.protocol.Model`.

    Asks some thirty short questions. The model stays open.

    Args:
        model: The model.
        exact: Whether calls that run together must give the very texts and scores
            that each gives alone. Engines that compute batches in a short number
            format cannot promise that.
        timeout_s: How long one call may take before it counts as hanging.

    Raises:
        ConformanceError: With every point of the contract that does not hold.
    """
    findings = Findings(model, timeout_s=timeout_s)
    findings.protocol(model, Model)
    check = _ModelCheck(model, findings, exact=exact)
    check.identity()
    await check.completions()
    await check.stop_strings()
    await check.prefill()
    await check.scores()
    await check.many_at_once()
    await check.deadline()
    findings.conclude()


class _ModelCheck:
    """The parts of the check, in the order in which they are run."""

    def __init__(self, model: Model, findings: Findings, *, exact: bool) -> None:
        self._model = model
        self._findings = findings
        self._expect = findings.expect
        self._exact = exact
        self._capabilities: frozenset[Capability] = frozenset()
        self._alone: list[Completion | None] = []

    def identity(self) -> None:
        """Fingerprint, capabilities, window and the counting of tokens."""
        model, value = self._model, self._findings.value
        self._findings.fingerprint(model)
        window = value("context_window", lambda: model.context_window)
        self._expect(
            window is None or (isinstance(window, int) and window >= 1),
            f"context_window is {window!r}, neither a positive number nor None",
        )
        texts = ("", "a word", "a word", "a word and another one. " * 20)
        found = [value("count_tokens", functools.partial(model.count_tokens, t)) for t in texts]
        counts = [count for count in found if isinstance(count, int)]
        if self._expect(len(counts) == len(texts), "count_tokens does not give a whole number"):
            nothing, once, again, much = counts
            self._expect(once == again, "count_tokens counts the same text differently")
            self._expect(
                0 <= nothing <= once < much, "count_tokens does not count more in a longer text"
            )
        given = value("capabilities", lambda: model.capabilities)
        if isinstance(given, frozenset) and all(isinstance(c, Capability) for c in given):
            self._capabilities = given
        else:
            self._expect(False, "capabilities is no frozenset of Capability")

    async def completions(self) -> None:
        """Each task by itself, and whether it can be repeated."""
        self._alone = [await self._ask("complete", _request(task)) for task in _TASKS]
        await self._ask("complete", _request(_TASKS[0], max_tokens=1))
        if Capability.SEED not in self._capabilities:
            return
        likeliest = _request(_TASKS[0])
        drawn = _request(_TASKS[0], seed=7, temperature=1.0)
        renamed = likeliest.model_copy(update={"role": "another role", "deadline_s": 3600.0})
        again = await self._ask("complete", likeliest)
        elsewhere = await self._ask("complete", renamed)
        one, two = [await self._ask("complete", drawn) for _ in range(2)]
        first = _text(self._alone[0])
        self._expect(first == _text(again), "the same request at temperature 0 gives another text")
        self._expect(first == _text(elsewhere), "the text depends on role or deadline")
        self._expect(
            _text(one) == _text(two),
            "declares SEED, but the same request with the same seed gives another text",
        )

    async def stop_strings(self) -> None:
        """Ask again with a piece of the text as the stop string."""
        text = (_text(self._alone[0]) or "").strip()
        if len(text) < 3:
            return
        stop = text[len(text) // 2 :][:3]
        cut = await self._ask("complete with a stop string", _request(_TASKS[0], stop=(stop,)))
        if cut is None or not self._expect(stop not in cut.text, "a stop string is in the text"):
            return
        if Capability.SEED in self._capabilities:
            self._expect(
                cut.text.strip() == text[: text.find(stop)].strip(),
                "a completion does not end before the first stop string",
            )
            self._expect(cut.finish == "stop", "a stop string does not count as finish 'stop'")

    async def prefill(self) -> None:
        """Where it is declared it is honoured; elsewhere it is not passed over in silence."""
        declared = Capability.PREFILL in self._capabilities
        request = _request(_TASKS[0], prefill="The colour of the sky")
        allowed = () if declared else (UnsupportedCapability,)
        call = self._model.complete(request)
        completion = await self._findings.call("complete with a prefill", call, *allowed)
        if isinstance(completion, Completion):
            self._expect(
                completion.text.startswith(request.prefill),
                "declares PREFILL, but the text does not begin with the prefill"
                if declared
                else "passes over a prefill instead of raising UnsupportedCapability",
            )

    async def scores(self) -> None:
        """Order, independence and range of log-likelihoods; or a refusal."""
        if Capability.SCORE not in self._capabilities:
            call = self._model.score(_score_request(*_TEXTS))
            refusal = await self._findings.call("score", call, UnsupportedCapability)
            if refusal is not None and not isinstance(refusal, UnsupportedCapability):
                self._expect(False, "score gives something although SCORE is not declared")
            return
        forward = await self._score(*_TEXTS)
        backward = (await self._score(*reversed(_TEXTS)))[::-1]
        again = await self._score(*_TEXTS)
        single = [entry for text in _TEXTS for entry in await self._score(text)]
        if not len(forward) == len(backward) == len(again) == len(single):
            return  # What is missing has been noted already.
        self._expect(
            self._close(forward, backward), "scores are not in the order of the continuations"
        )
        self._expect(self._close(forward, again), "the same texts get other scores")
        self._expect(
            self._close(forward, single), "a score depends on the other continuations of its call"
        )

    async def many_at_once(self) -> None:
        """Ask everything at once; then again, while one of the calls is cancelled."""
        requests = [_request(task) for task in _TASKS]
        what = "complete, many at once,"
        everything = await self._findings.together(what, self._calls(requests))
        others = await self._findings.without("complete", self._calls(requests))
        for request, given in zip([*requests, *requests[1:]], [*everything, *others], strict=True):
            self._completion(given, request)
        if self._exact and Capability.SEED in self._capabilities:
            alone = [_text(completion) for completion in self._alone]
            self._expect(
                [_text(c) for c in everything] == alone, "calls that run together change each other"
            )
            self._expect(
                [_text(c) for c in others] == alone[1:], "a call that is cancelled changes others"
            )

    async def deadline(self) -> None:
        """A deadline may be met or pass, but it passes as an error of the contract."""
        request = _request(_TASKS[0]).model_copy(update={"deadline_s": 0.001})
        call = self._model.complete(request)
        outcome = await self._findings.call("complete with a deadline", call, BackendError)
        if isinstance(outcome, BackendError):
            self._expect(outcome.retryable, "a passed deadline does not count as retryable")
        await self._ask("complete after a deadline", _request(_TASKS[0]))

    def _calls(self, requests: Sequence[Request]) -> list[Coroutine[Any, Any, Completion]]:
        return [self._model.complete(request) for request in requests]

    async def _ask(self, what: str, request: Request) -> Completion | None:
        given = await self._findings.call(what, self._model.complete(request))
        return self._completion(given, request)

    def _completion(self, given: Any, request: Request) -> Completion | None:
        if given is None:
            return None  # Noted when the call failed.
        if not isinstance(given, Completion):
            self._expect(False, f"complete gives {type(given).__name__} and no Completion")
            return None
        usage, most = given.usage, request.sampling.max_tokens
        self._expect(given.finish != "cancelled", "a call that nobody cancelled says it was")
        self._expect(
            0 <= usage.reused_tokens <= usage.prompt_tokens, "more tokens reused than read"
        )
        counted = self._findings.value("count_tokens", lambda: self._model.count_tokens(given.text))
        # Counting may be an estimate, so the text itself is given some room.
        self._expect(
            0 <= usage.completion_tokens <= most and (counted or 0) <= 2 * most + 8,
            "more tokens than max_tokens are written",
        )
        return given

    async def _score(self, *texts: str) -> list[TokenScores]:
        """Return checked scores, none after a violation."""
        given = await self._findings.call("score", self._model.score(_score_request(*texts)))
        if given is None:
            return []
        if not isinstance(given, Scores):
            self._expect(False, f"score gives {type(given).__name__} and no Scores")
            return []
        found = list(given.continuations)
        numbers = [number for entry in found for number in entry.logprobs]
        usable = [
            self._expect(len(found) == len(texts), "score does not give one entry per text"),
            self._expect(all(e.logprobs for e in found), "a text is scored without any token"),
            self._expect(all(map(math.isfinite, numbers)), "a log-likelihood is not finite"),
            self._expect(all(n <= 0.0 for n in numbers), "a log-likelihood is above 0"),
        ]
        return found if all(usable) else []

    def _close(self, left: Sequence[TokenScores], right: Sequence[TokenScores]) -> bool:
        """Compare number by number; a short number format loses a few hundredths."""
        room = 1e-4 if self._exact else 0.25
        return all(
            len(a.logprobs) == len(b.logprobs)
            and max(abs(x - y) for x, y in zip(a.logprobs, b.logprobs, strict=True)) <= room
            for a, b in zip(left, right, strict=True)
        )


def _request(task: str, *, seed: int = 0, prefill: str = "", **sampling: Any) -> Request:
    return Request(
        segments=(*_SHARED, Segment(text=task)),
        role=_ROLE,
        sampling=SamplingParameters(**{"max_tokens": 8, **sampling}),
        seed=seed,
        prefill=prefill,
    )


def _score_request(*texts: str) -> ScoreRequest:
    segments = (*_SHARED, Segment(text=_TASKS[0]))
    return ScoreRequest(segments=segments, continuations=texts, role=_ROLE)


def _text(completion: object) -> str | None:
    return completion.text if isinstance(completion, Completion) else None
