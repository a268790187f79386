"""Models that the packed pass cannot run: one sequence at a time, with their own cache.

Sliding windows, recurrent layers, prompt tuning: whatever transformers can generate
with. Slow, and right.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from reflectory.models.engine.sampling import draw_tokens
from reflectory.models.engine.scoring import logprobs_of
from reflectory.models.engine.work import CompletionRow, Counts, ScoreRow


class PlainBatch:
    """At most one completion at a time; the same door as :class:`Batch`.

    Args:
        model: A transformers causal language model, or one that PEFT wrapped.
        eos_ids: Tokens that end a completion.
        tokenizer: Decodes, to find stop strings.
        counts: Where tokens are counted.
    """

    nbytes = 0

    def __init__(self, model: Any, eos_ids: Iterable[int], tokenizer: Any, counts: Counts) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._model = model
        self._config = base.config
        self._keeps = "logits_to_keep" in inspect.signature(base.forward).parameters
        self._device = next(base.parameters()).device
        self._eos_ids = frozenset(eos_ids)
        self._tokenizer = tokenizer
        self._counts = counts
        # PEFT puts virtual tokens before whatever it is given, so it is given everything.
        adapter = getattr(model, "active_peft_config", None)
        self._caches = not getattr(adapter, "is_prompt_learning", False)
        self._cache: Any = None
        self.rows: list[CompletionRow] = []

    def start(self, rows: Sequence[CompletionRow]) -> None:
        """Read the prompt of one row and write its first token."""
        (row,) = rows
        self._cache = DynamicCache(config=self._config) if self._caches else None
        self._counts.prefilled += len(row.tokens)
        self.rows = [row]
        self._accept(self._forward(row.tokens, 1))

    def step(self) -> None:
        """Write one more token."""
        row = self.rows[0]
        everything = (*row.tokens, *row.generated)
        self._accept(self._forward(everything[-1:] if self._caches else everything, 1))

    def score(self, rows: Sequence[ScoreRow]) -> None:
        """Set the log-likelihoods of some rows, one after the other."""
        running, self._cache = self._cache, None
        for row in rows:
            self._counts.prefilled += len(row.tokens)
            logits = self._forward(row.tokens, len(row.targets))
            row.logprobs = logprobs_of(logits, row.targets)
        self._cache = running

    def sweep(self) -> list[CompletionRow]:
        """Take out the row if it has ended and return it."""
        ended = [row for row in self.rows if row.finish]
        if ended:
            self.clear()
        return ended

    def clear(self) -> None:
        """Give up the row."""
        self.rows, self._cache = [], None

    def forget(self) -> None:
        """Nothing is kept."""

    def _forward(self, tokens: Sequence[int], keep: int) -> torch.Tensor:
        arguments: dict[str, Any] = {"logits_to_keep": keep} if self._keeps else {}
        if self._cache is not None:
            arguments |= {"past_key_values": self._cache, "use_cache": True}
        ids = torch.tensor([list(tokens)], device=self._device)
        logits: torch.Tensor = self._model(input_ids=ids, **arguments).logits[0, -keep:]
        return logits

    def _accept(self, logits: torch.Tensor) -> None:
        (row,) = self.rows
        drawn = draw_tokens(logits, [row.sampling], [row.generated], [row.generator])
        self._counts.decoded += 1
        self._counts.near_ties += drawn.near_ties
        row.accept(drawn.tokens[0], self._eos_ids, self._tokenizer)
