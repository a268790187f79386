"""Models that say what a test tells them to, and remember what they were asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from reflectory.errors import UnsupportedCapability
from reflectory.models.protocol import (
    Capability,
    Completion,
    Request,
    ScoreRequest,
    Scores,
    TokenScores,
    Usage,
    content_hash,
)

Script = Mapping[str, Sequence[str]] | Callable[[Request], str | Awaitable[str]]


class ScriptedModel:
    """Answers by script instead of by weights.

    Args:
        script: Either a function of the request, or texts by role (``teacher.ask``)
            that are given out in turn and then from the beginning again.
        name: Part of the fingerprint.
        capabilities: What it claims to be able to do.
        score: Log-likelihood per token of a continuation, for models that score;
            by default one that depends on the text alone.
        delay_s: How long every call takes.
        context_window: Most tokens, for tests of limits.

    Attributes:
        requests: Every completion request, in the order of arrival.
        score_requests: Every score request, in the order of arrival.
    """

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        capabilities: frozenset[Capability] = frozenset(),
        score: Callable[[ScoreRequest, str], float] | None = None,
        delay_s: float = 0.0,
        context_window: int | None = None,
    ) -> None:
        self._script = script
        self._name = name
        self._capabilities = capabilities
        self._score = score
        self._delay_s = delay_s
        self._context_window = context_window
        self._turn: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.score_requests: list[ScoreRequest] = []

    @property
    def fingerprint(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it was told to claim."""
        return self._capabilities

    @property
    def context_window(self) -> int | None:
        """The window it was given."""
        return self._context_window

    async def complete(self, request: Request) -> Completion:
        """Return the next line of the script for the request's role."""
        self.requests.append(request)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if callable(self._script):
            said = self._script(request)
            text = said if isinstance(said, str) else await said
        else:
            lines = self._script.get(request.role)
            if not lines:
                raise KeyError(f"the script has no lines for the role {request.role!r}")
            text = lines[self._turn[request.role] % len(lines)]
            self._turn[request.role] += 1
        words = sum(self.count_tokens(s.text) for s in request.segments)
        usage = Usage(prompt_tokens=words, completion_tokens=self.count_tokens(text))
        return Completion(text=text, usage=usage)

    async def score(self, request: ScoreRequest) -> Scores:
        """Return one log-likelihood per continuation from the given function.

        Raises:
            UnsupportedCapability: The model was made without that capability.
        """
        if Capability.SCORE not in self._capabilities:
            raise UnsupportedCapability(
                f"the model {self._name!r} cannot score texts",
                hint="use the spoken grader with it",
            )
        self.score_requests.append(request)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        function = self._score or _default_score
        return Scores(
            continuations=tuple(
                TokenScores(logprobs=(function(request, text),) * max(1, len(text.split())))
                for text in request.continuations
            )
        )

    def count_tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    async def aclose(self) -> None:
        """Nothing is held."""


def _default_score(request: ScoreRequest, text: str) -> float:
    """Return a number in [-4, 0) that looks arbitrary and depends on the text alone."""
    return -4.0 * (int(content_hash(text)[:8], 16) + 1) / 2**32
