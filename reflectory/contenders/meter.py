"""What one contender spends on one question."""

from __future__ import annotations

from dataclasses import dataclass

from reflectory.models.protocol import (
    Completion,
    Model,
    Request,
    ScoreRequest,
    Scores,
    Usage,
)
from reflectory.models.wrapping import WrappedModel


@dataclass
class Meter:
    """Calls and tokens so far.

    Attributes:
        calls: Completions and scorings alike; a scoring of several texts is one.
        tokens: Read and written, whether a cache held them or not.
    """

    calls: int = 0
    tokens: int = 0

    def add(self, other: Meter) -> None:
        """Add what a piece of work cost that was metered by itself."""
        self.calls += other.calls
        self.tokens += other.tokens


class MeteredModel(WrappedModel):
    """A model whose calls are counted.

    It stands in front of the call cache, so that a call that was recorded costs the same
    as one that is made: an evaluation that is resumed ends with the same figures. What a
    backend does not count is counted here with its own tokenizer. Failed calls cost
    nothing, as they brought nothing.

    Args:
        model: What answers; left open by :meth:`aclose`.
        meter: What is counted up.
    """

    def __init__(self, model: Model, meter: Meter) -> None:
        super().__init__(model)
        self.meter = meter

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``, and count it."""
        completion = await self.inner.complete(request)
        self._count(completion.usage, request, [completion.text, completion.thinking])
        return completion

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihoods of ``request``, and count it."""
        scores = await self.inner.score(request)
        self._count(scores.usage, request, list(request.continuations))
        return scores

    def _count(self, usage: Usage, request: Request | ScoreRequest, said: list[str]) -> None:
        tokens = usage.prompt_tokens + usage.completion_tokens
        if tokens == 0:  # the backend does not say
            texts = [*(segment.text for segment in request.segments), *said]
            tokens = sum(self.inner.count_tokens(text) for text in texts if text)
        self.meter.calls += 1
        self.meter.tokens += tokens
