"""Nearness in meaning: cosine of sentence vectors, and a light BERTScore of token vectors.

BERTScore (Zhang et al. 2020, arXiv:1904.09675) matches every token of one text with its
nearest token of the other. Here the vectors are those of the embedder that is there anyway,
from its last layer, without inverse document frequencies and without rescaling. So its
figures are its own: they rank answers of one evaluation and are not comparable with
published BERTScores, which other models made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reflectory.errors import UnsupportedCapability, UserError
from reflectory.evaluation.metrics.answers import as_references
from reflectory.models.protocol import Embedder
from reflectory.models.token_vectors import TokenEmbedder, TokenVectors


@dataclass(frozen=True)
class TokenMatch:
    """A greedy matching of the tokens of an answer and a reference.

    Attributes:
        precision: Mean similarity of the answer's tokens to their nearest of the reference.
        recall: Mean similarity of the reference's tokens to their nearest of the answer.
        f1: Harmonic mean of both. All three lie in [-1, 1], in practice above 0, and are 0
            where a side has no token.
    """

    precision: float
    recall: float
    f1: float


def match_tokens(answer: TokenVectors, reference: TokenVectors) -> TokenMatch:
    """Return the matching of two texts (Zhang et al. 2020, Section 3).

    Marks that a tokenizer added may be matched with and have no share in the means, as in
    the bert-score package.
    """
    if not answer.counted.any() or not reference.counted.any():
        return TokenMatch(0.0, 0.0, 0.0)
    similarities = answer.vectors.astype(np.float64) @ reference.vectors.astype(np.float64).T
    # P_BERT and R_BERT: the nearest token of the other side, averaged over the own tokens.
    precision = float(np.clip(similarities.max(axis=1)[answer.counted].mean(), -1.0, 1.0))
    recall = float(np.clip(similarities.max(axis=0)[reference.counted].mean(), -1.0, 1.0))
    if precision <= 0.0 or recall <= 0.0:
        # The harmonic mean of numbers that are not positive has no meaning; it says "unlike".
        return TokenMatch(precision, recall, min(precision, recall, 0.0))
    return TokenMatch(precision, recall, 2 * precision * recall / (precision + recall))


async def cosine_similarities(
    texts: Sequence[str], references: Sequence[str | Sequence[str]], embedder: Embedder
) -> list[float]:
    """Return each answer's cosine to its nearest reference, in [-1, 1].

    An answer without words has the cosine 0. Each distinct text is embedded once.

    Args:
        texts: The answers.
        references: Right answers of each, of which the nearest counts.
        embedder: Makes the vectors.

    Raises:
        UserError: A reference is missing, or the numbers differ.
    """
    wanted = _paired(texts, references)
    distinct = list(dict.fromkeys([*texts, *(r for group in wanted for r in group)]))
    if not distinct:
        return []
    vectors = dict(zip(distinct, (await embedder.embed(distinct)).astype(np.float64), strict=True))
    return [
        float(np.clip(max(vectors[text] @ vectors[r] for r in group), -1.0, 1.0))
        for text, group in zip(texts, wanted, strict=True)
    ]


async def bert_scores(
    texts: Sequence[str], references: Sequence[str | Sequence[str]], embedder: Embedder
) -> list[TokenMatch]:
    """Return each answer's matching with the reference that has the highest F1.

    Args:
        texts: The answers.
        references: Right answers of each, of which the nearest counts.
        embedder: Gives the vectors of single tokens as well.

    Raises:
        UserError: A reference is missing, or the numbers differ.
        UnsupportedCapability: The embedder gives vectors of whole texts only.
    """
    if not isinstance(embedder, TokenEmbedder):
        raise UnsupportedCapability(
            f"{embedder.fingerprint} gives no vectors of single tokens, which bertscore matches",
            hint="use `local`, any sentence-transformers model, or the metric `similarity`",
        )
    wanted = _paired(texts, references)
    distinct = list(dict.fromkeys([*texts, *(r for group in wanted for r in group)]))
    vectors = dict(zip(distinct, await embedder.embed_tokens(distinct), strict=True))
    return [
        max((match_tokens(vectors[text], vectors[r]) for r in group), key=lambda match: match.f1)
        for text, group in zip(texts, wanted, strict=True)
    ]


def _paired(
    texts: Sequence[str], references: Sequence[str | Sequence[str]]
) -> list[tuple[str, ...]]:
    if len(texts) != len(references):
        raise UserError(
            f"{len(texts)} answers and references for {len(references)}",
            hint="pass the references of each answer",
        )
    return [as_references(group) for group in references]
