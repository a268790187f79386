"""What stands in front of a model and passes on what it does not change."""

from __future__ import annotations

from reflectory.models.protocol import (
    Capability,
    Completion,
    Model,
    Request,
    ScoreRequest,
    Scores,
)


class WrappedModel:
    """A model in front of another one; subclasses change what they are for.

    Args:
        model: What answers; left open by :meth:`aclose`.

    Attributes:
        inner: The model.
    """

    def __init__(self, model: Model) -> None:
        self.inner = model

    @property
    def fingerprint(self) -> str:
        """Identity of what answers."""
        return self.inner.fingerprint

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model can do besides completing."""
        return self.inner.capabilities

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together; ``None`` when unknown."""
        return self.inner.context_window

    def count_tokens(self, text: str) -> int:
        """Return how many tokens ``text`` has."""
        return self.inner.count_tokens(text)

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``."""
        return await self.inner.complete(request)

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihoods of ``request``."""
        return await self.inner.score(request)

    async def aclose(self) -> None:
        """Leave the model open: whoever wrapped it did not open it."""
