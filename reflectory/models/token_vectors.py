"""One vector per token of a text, for metrics that match tokens one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenVectors:
    """The tokens of one text.

    Attributes:
        vectors: One unit vector per token in its context, float32 of shape (tokens, dimension).
        counted: Which tokens are of the text, shape (tokens,). The others are marks that the
            tokenizer added, such as ``[CLS]``.
    """

    vectors: NDArray[np.float32]
    counted: NDArray[np.bool_]


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also gives the vectors of single tokens.

    Contract: ``embed_tokens`` returns one entry per text, in order, which does not depend on
    the other texts of the call; a blank text has no counted token. What is longer than the
    model reads is cut.
    """

    async def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Return the vectors of each text's tokens."""
        ...


def no_tokens(dimension: int) -> TokenVectors:
    """Return what a blank text has."""
    return TokenVectors(np.zeros((0, dimension), np.float32), np.zeros(0, np.bool_))


def encode_tokens(model: Any, texts: Sequence[str], batch_size: int) -> list[TokenVectors]:
    """Return the last hidden states of a sentence-transformers model, scaled to length 1.

    Args:
        model: The model; called in the torch thread.
        texts: Texts with equally many tokens, none blank.
        batch_size: Most texts that go through the model together.
    """
    rows = model.encode(
        list(texts), batch_size=batch_size, show_progress_bar=False, output_value=None
    )
    marks = set(getattr(model.tokenizer, "all_special_ids", ()))
    found = []
    for row in rows:
        seen = row["attention_mask"].bool().cpu()
        hidden = row["token_embeddings"].detach().float().cpu()[seen].numpy()
        ids = row["input_ids"].cpu()[seen].tolist()
        lengths = np.linalg.norm(hidden, axis=-1, keepdims=True)
        unit = hidden / np.where(lengths > 0, lengths, 1)
        counted = np.array([token not in marks for token in ids], dtype=np.bool_)
        found.append(TokenVectors(unit.astype(np.float32), counted))
    return found
