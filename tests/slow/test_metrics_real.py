"""Metrics with the real default models: token vectors, and judges of pairs."""

import asyncio

import numpy as np
import pytest

from reflectory.evaluation.metrics.if_score import if_score
from reflectory.evaluation.metrics.pair_judges import LikelihoodPairJudge, SpokenPairJudge
from reflectory.evaluation.metrics.preference import prefer, win_rate
from reflectory.evaluation.metrics.similarity import bert_scores, cosine_similarities
from reflectory.models.resolve import resolve_model
from reflectory.models.token_vectors import TokenEmbedder
from reflectory.types import Passage

pytestmark = pytest.mark.slow

TEXTS = ("The cat sat on the mat.", "Apollo 17 flew in 1972", "yes", "")
REFERENCES = ("A cat was sitting on a rug.", "It was 1972 when it flew", "no", "something")


def test_token_vectors_do_not_depend_on_other_texts_and_marks_are_told_apart(embedder):
    assert isinstance(embedder, TokenEmbedder)
    together = asyncio.run(embedder.embed_tokens(TEXTS))
    for text, found in zip(TEXTS, together, strict=True):
        alone = asyncio.run(embedder.embed_tokens([text]))[0]
        np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-5)
        if text:
            np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=-1), 1, atol=1e-5)
            # [CLS] and [SEP] around the text's own tokens.
            assert found.counted.tolist() == [False, *[True] * (len(found.counted) - 2), False]
        else:
            assert len(found.counted) == 0
    assert len(together[2].counted) == 3


def test_bertscore_is_what_the_bert_score_package_gives_on_these_vectors(embedder):
    # greedy_cos_idf of version 0.3.13 on all-MiniLM-L6-v2, last layer, marks not counted.
    expected = [(0.7374, 0.7192, 0.7282), (0.6613, 0.7311, 0.6945), (0.7999, 0.7999, 0.7999)]
    found = asyncio.run(bert_scores(TEXTS, REFERENCES, embedder))
    for match, values in zip(found, expected, strict=False):
        assert (match.precision, match.recall, match.f1) == pytest.approx(values, abs=2e-3)
    assert found[3].f1 == 0.0


def test_a_paraphrase_is_nearer_than_another_sentence(embedder):
    texts = ["The rover landed on the moon in 1972."] * 2
    references = ["In 1972 the vehicle touched down on the lunar surface.", "Bread needs yeast."]
    near, far = asyncio.run(cosine_similarities(texts, references, embedder))
    assert near > far + 0.3
    near, far = (match.f1 for match in asyncio.run(bert_scores(texts, references, embedder)))
    assert near > far + 0.1
    for similarity in ("similarity", "bertscore"):
        score = if_score(texts, texts, similarity=similarity, embedder=embedder)
        assert asyncio.run(score) == pytest.approx(1.0, abs=1e-4)


def test_the_default_model_compares_answers_in_both_orders(language_model):
    text = "The lighthouse at Cape Arlen was built in 1874 by Anna Reis."
    passage = Passage(
        id="a-0", document_id="a", title="Cape Arlen", text=text, start=0, end=len(text)
    )
    pairs = [
        ("Who built the lighthouse at Cape Arlen?", "Anna Reis", "The fog and the ships"),
        ("When was the lighthouse built?", "1874", "bananas are yellow"),
        ("Where is the lighthouse?", "Cape Arlen", "I like it"),
    ]

    async def compared(make):
        model = resolve_model(f"local:{language_model}")
        try:
            judge = make(model)
            return [await prefer(judge, q, a, b, (passage,)) for q, a, b in pairs]
        finally:
            await model.aclose()

    for make in (LikelihoodPairJudge, SpokenPairJudge):
        found = asyncio.run(compared(make))
        rate = win_rate(found)
        print(make.__name__, rate, found)
        assert rate.wins + rate.losses + rate.ties + rate.failures == len(pairs)
        # A small model may fail in words, and every failure keeps what was said.
        assert all(bool(p.failure) == (p.winner is None) for p in found)
    again = asyncio.run(compared(LikelihoodPairJudge))
    first = asyncio.run(compared(LikelihoodPairJudge))
    assert again == first
    assert win_rate(again).failures == 0
