"""The only place that calls the transformers model.

Knows what a given architecture allows (batches of rows with gaps, prefixes that
are cut out of a cache) and hides it from the rest of the engine.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicCache

from reflectory.models.engine.kv import Prefix, cache_of, empty_cache, prefix_of
from reflectory.models.engine.shared_attention import NAME, SharedPrefixes


class Runner:
    """A loaded model and what it can do.

    Args:
        model: A transformers causal language model, or one that PEFT wrapped.
        eos_ids: Tokens that end a completion.
        share_attention: Let rows attend to one copy of a prefix where the model
            can do that; else every row gets a copy.

    Attributes:
        device: Where the model is.
        dtype: Number format of its weights.
        eos_ids: Tokens that end a completion.
        batches: Whether rows of different lengths can share a forward pass.
        shares: Whether the beginning of a prompt can be kept and reused.
        cascades: Whether rows attend to one copy of a prefix.
        token_bytes: Bytes that the cache needs per token, roughly; 0 if unknown.
    """

    def __init__(
        self, model: Any, eos_ids: Iterable[int], *, share_attention: bool = False
    ) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        parameters = inspect.signature(base.forward).parameters
        self._model = model.eval()
        self._keeps = "logits_to_keep" in parameters
        self._config = base.config
        weight = next(base.parameters())
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = base.dtype
        self.eos_ids = frozenset(eos_ids)
        text = base.config.get_text_config()
        kinds = _attention_kinds(text)
        # A sliding window counts columns, gaps included, so its rows run alone.
        self.batches = kinds == {"full_attention"} and "position_ids" in parameters
        self.shares = kinds <= {"full_attention", "sliding_attention"}
        self.token_bytes = _bytes_per_token(text, weight.element_size())
        self.cascades = share_attention and self.batches and self._can_share(base)

    def start(self, prefixes: Sequence[Prefix | None], capacity: int) -> Cache:
        """Return a cache with one row per prefix and room for ``capacity`` more tokens."""
        if not self.shares:
            return DynamicCache(config=self._config)
        if self.cascades:
            return empty_cache(capacity)
        longest = max(0 if prefix is None else len(prefix) for prefix in prefixes)
        return cache_of(prefixes, longest + capacity)

    def forward(
        self,
        token_ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        keep: int,
        shared: SharedPrefixes | None = None,
    ) -> torch.Tensor:
        """Run the model over new tokens and write them into the cache.

        Args:
            token_ids: New tokens, shape (rows, n).
            mask: 1 where a column holds a token of its row, shape
                (rows, columns of the cache + n).
            positions: Position of each new token in its own sequence, (rows, n).
            cache: Written in place.
            keep: For how many of the last tokens logits are wanted.
            shared: Prefixes that lie before the columns of the cache.

        Returns:
            Logits, shape (rows, keep, vocabulary), in the model's number format.
        """
        arguments: dict[str, Any] = {"attention_mask": mask, "use_cache": True}
        if self.batches:
            arguments["position_ids"] = positions
        if self._keeps:
            arguments["logits_to_keep"] = keep
        if shared is not None:
            arguments["shared_prefixes"] = shared
        output = self._model(input_ids=token_ids, past_key_values=cache, **arguments)
        logits: torch.Tensor = output.logits[:, -keep:]
        return logits

    def compute_prefix(self, tokens: NDArray[np.int64], base: Prefix | None) -> Prefix:
        """Return the prefix for ``tokens``, continuing ``base`` where it is given."""
        cache = empty_cache(len(tokens)) if base is None else cache_of([base], len(tokens))
        known = 0 if base is None else len(base)
        ids = torch.from_numpy(tokens[known:]).to(self.device)[None]
        positions = torch.arange(known, len(tokens), device=self.device)[None]
        mask = torch.ones((1, len(tokens)), dtype=torch.long, device=self.device)
        self.forward(ids, mask, positions, cache, keep=1)
        return prefix_of(cache, tokens)

    def _can_share(self, base: Any) -> bool:
        """Switch the model to shared attention and find out whether that is the same.

        Not every architecture hands the arguments on to its attention layers, or
        has plain attention. Trying it with a few tokens is surer than a list.
        """
        before = getattr(base.config, "_attn_implementation", "")
        if before not in {"sdpa", NAME} or not hasattr(base, "set_attn_implementation"):
            return False
        base.set_attn_implementation(NAME)
        with torch.inference_mode():
            prefix = self.compute_prefix(np.arange(4, 12), None)
            shared = SharedPrefixes.of([prefix], self.device)
            ids = torch.arange(12, 15, device=self.device)[None]
            mask = torch.ones((1, 11), dtype=torch.long, device=self.device)
            positions = torch.arange(8, 11, device=self.device)[None]
            rest = mask[:, 8:]
            copied = self.forward(ids, mask, positions, cache_of([prefix], 11), 1)
            once = self.forward(ids, rest, positions, empty_cache(3), 1, shared)
            without = self.forward(ids, rest, positions, empty_cache(3), 1)
        # Half precision rounds the two ways differently: compared with what the
        # prefix changes at all, the difference must be small.
        same = bool((once - copied).abs().mean() < 0.25 * (without - copied).abs().mean())
        if not same:
            base.set_attn_implementation(before)
        return same


def _attention_kinds(config: Any) -> set[str]:
    """Return the kinds of the layers, for configurations that name them or do not."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds)
    return {"sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"}


def _bytes_per_token(config: Any, element_size: int) -> int:
    """Return the size of one token's keys and values over all layers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * element_size)
