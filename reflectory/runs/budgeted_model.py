"""A model behind the budget of a run: what a call may take is held before, and settled after."""

from __future__ import annotations

import asyncio

from reflectory.models.prices import Price
from reflectory.models.protocol import Completion, Model, Request, ScoreRequest, Scores, Usage
from reflectory.models.wrapping import WrappedModel
from reflectory.runs.budget import Held, Ledger

_TEMPLATE_TOKENS = 8
"""Tokens that a chat template puts around one message, roughly."""
_KEPT_COUNTS = 1024
"""Texts whose tokens are remembered; prompts repeat the same documents."""


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

    async def _reserve(self, request: Request | ScoreRequest, written: int) -> tuple[int, Held]:
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

    def _settle(self, held: Held, prompt: int, used: Usage) -> None:
        price = self._price
        self._ledger.settle(
            held,
            tokens=used.prompt_tokens + used.completion_tokens,
            cost=None if price is None else price.of(used),
        )
        if prompt:
            # Where tokens are only estimated, the next estimates learn from the worst one.
            self._factor = max(self._factor, self._factor * used.prompt_tokens / prompt)

    def _settle_failed(self, held: Held, prompt: int, error: BaseException) -> None:
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
