"""Answers, ROUGE, BLEU and vectors against their reference implementations."""

import asyncio
import re
import string
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics.pairwise import cosine_similarity

from reflectory.errors import UnsupportedCapability, UserError
from reflectory.evaluation.metrics import exact_match, normalise_answer, token_f1
from reflectory.evaluation.metrics.if_score import SIMILARITIES, if_score
from reflectory.evaluation.metrics.overlap import bleu, corpus_bleu, rouge
from reflectory.evaluation.metrics.similarity import (
    bert_scores,
    cosine_similarities,
    match_tokens,
)
from reflectory.models.embedding_cache import CachedEmbedder
from reflectory.models.token_vectors import TokenVectors
from reflectory.testing.embedder import HashingEmbedder

# Answers with references: long, short, empty, repeated, other scripts, markup, yes and no.
CASES = [
    ("The rover landed in the Sea of Rains.", ["It landed in the Sea of Rains"]),
    ("Apollo 17", ["Apollo 15", "The Apollo 17 mission"]),
    ("", ["something"]),
    ("   \n", ["something", "else"]),
    ("yes", ["yes"]),
    ("Yes, they are.", ["yes"]),
    ("no", ["no evidence at all"]),
    ("noanswer", ["It is not known"]),
    ("the the the", ["the"]),
    ("It's 3,5 km (about two miles) away!", ["3.5 km", "about 2 miles"]),
    ("Übergröße kostet 20€", ["Übergröße kostet mehr"]),
    ("月は地球の衛星である", ["月は衛星である"]),
    ("a an the", ["!"]),
    ("one two three four five six", ["six five four three two one", "one two four five"]),
    ("**bold** `code` <b>tag</b>", ["bold code tag"]),
    ("gold gold silver\n\nbronze.", ["gold silver gold bronze"]),
]
words = st.lists(
    st.sampled_from(["red", "stone", "moon", "the", "yes", "1969", "old", "river"]), max_size=8
)
phrases = words.map(" ".join)
lists = st.lists(phrases, min_size=1, max_size=4)


def squad_normal(text):
    """SQuAD's steps, one after another: case, punctuation, articles, white space."""
    lowered = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lowered).split())


def hotpot_f1(prediction, truth):
    """HotpotQA's F1 with its rule for closed answers, written from its definition."""
    said, wanted = squad_normal(prediction), squad_normal(truth)
    for closed in ("yes", "no", "noanswer"):
        if closed in (said, wanted) and said != wanted:
            return 0.0
    a, b = said.split(), wanted.split()
    if not a or not b:
        return float(a == b)  # SQuAD 2.0
    same = sum(min(a.count(word), b.count(word)) for word in set(a))
    return (
        0.0 if not same else 2 * (same / len(a)) * (same / len(b)) / (same / len(a) + same / len(b))
    )


@pytest.mark.parametrize(("text", "references"), CASES)
def test_answers_agree_with_the_official_definitions(text, references):
    assert normalise_answer(text) == squad_normal(text)
    assert exact_match(text, references) == any(
        squad_normal(text) == squad_normal(r) for r in references
    )
    assert token_f1(text, references) == pytest.approx(max(hotpot_f1(text, r) for r in references))


@pytest.mark.parametrize(("text", "references"), CASES)
@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
@pytest.mark.parametrize("stem", [False, True])
def test_rouge_is_that_of_rouge_score(text, references, kind, stem):
    scorer = RougeScorer([kind], use_stemmer=stem)
    expected = max(scorer.score(r, text)[kind].fmeasure for r in references)
    assert rouge(text, references, kind, stem=stem) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "references"), CASES)
def test_rouge_1_is_counted_by_hand(text, references):
    def tokens(given):
        return Counter(re.findall(r"[a-z0-9]+", given.lower()))

    best = 0.0
    for reference in references:
        a, b = tokens(text), tokens(reference)
        same = (a & b).total()
        if same:
            best = max(best, 2 * same / (a.total() + b.total()))
    assert rouge(text, references, "rouge1") == pytest.approx(best)


@pytest.mark.parametrize(("text", "references"), CASES)
def test_bleu_is_that_of_sacrebleu(text, references):
    expected = sacrebleu.sentence_bleu(text, references).score / 100
    assert bleu(text, references) == pytest.approx(expected)


def test_bleu_of_a_corpus_is_that_of_sacrebleu():
    texts = [text for text, _ in CASES]
    first = [references[0] for _, references in CASES]
    expected = sacrebleu.corpus_bleu(texts, [first]).score / 100
    assert corpus_bleu(texts, first) == pytest.approx(expected)
    second = [references[1] if len(references) > 1 else None for _, references in CASES]
    expected = sacrebleu.corpus_bleu(texts, [first, second]).score / 100
    assert corpus_bleu(texts, [references for _, references in CASES]) == pytest.approx(expected)
    assert 0.0 < expected < 1.0


@given(phrases, lists, st.randoms(use_true_random=False))
def test_overlap_is_a_share_and_the_order_of_references_does_not_matter(text, references, random):
    mixed = list(references)
    random.shuffle(mixed)
    for metric in (
        token_f1,
        bleu,
        *(lambda t, r, k=k: rouge(t, r, k) for k in ("rouge1", "rouge2", "rougeL")),
    ):
        value = metric(text, references)
        assert 0.0 <= value <= 1.0
        assert metric(text, mixed) == pytest.approx(value)


@given(st.text(), st.lists(st.text(), min_size=1, max_size=3))
def test_any_text_has_a_score(text, references):
    embedder = HashingEmbedder(64)
    values = [
        bleu(text, references),
        corpus_bleu([text], [references]),
        *(rouge(text, references, kind) for kind in ("rouge1", "rouge2", "rougeL")),
        *asyncio.run(cosine_similarities([text], [references], embedder)),
        asyncio.run(bert_scores([text], [references], embedder))[0].f1,
    ]
    assert all(0.0 <= value <= 1.0 for value in values)
    if not text.strip():
        assert set(values) == {0.0}


@given(phrases.filter(lambda p: len(p.split()) >= 2), lists)
def test_an_answer_that_is_a_reference_scores_1(text, others):
    references = [*others, text]
    assert rouge(text, references, "rouge1") == 1.0
    assert rouge(text, references, "rouge2") == 1.0
    assert rouge(text, references, "rougeL") == 1.0
    assert bleu(text, [text]) == pytest.approx(1.0)
    assert corpus_bleu([text] * 2 + ["one two three four"], [text, text, "one two three four"]) == (
        pytest.approx(1.0)
    )


@pytest.mark.parametrize("metric", [rouge, bleu])
def test_no_reference_is_an_error(metric):
    with pytest.raises(UserError, match="reference"):
        metric("text", [])


@pytest.mark.parametrize(("texts", "references"), [([], []), (["a"], []), (["a"], [[]])])
def test_a_corpus_without_references_is_an_error(texts, references):
    with pytest.raises(UserError, match="reference"):
        corpus_bleu(texts, references)


def test_cosine_is_that_of_scikit_learn():
    embedder = HashingEmbedder()
    texts, references = zip(*CASES, strict=True)
    found = asyncio.run(cosine_similarities(texts, references, embedder))
    for text, group, value in zip(texts, references, found, strict=True):
        vectors = asyncio.run(embedder.embed([text, *group]))
        assert value == pytest.approx(cosine_similarity(vectors[:1], vectors[1:]).max(), abs=1e-6)
    assert asyncio.run(cosine_similarities([], [], embedder)) == []


def vectors_of(rows, counted):
    array = np.asarray(rows, dtype=np.float32)
    return TokenVectors(
        array / np.linalg.norm(array, axis=-1, keepdims=True), np.array(counted, dtype=np.bool_)
    )


def token_lists(width=4):
    number = st.floats(-1, 1, width=16).filter(lambda x: abs(x) > 0.01)
    row = st.lists(number, min_size=width, max_size=width)
    return st.lists(st.tuples(row, st.booleans()), min_size=1, max_size=6).map(
        lambda pairs: vectors_of([r for r, _ in pairs], [c for _, c in pairs])
    )


@given(token_lists(), token_lists())
def test_token_matching_is_the_formula_of_the_paper(answer, reference):
    found = match_tokens(answer, reference)
    if not answer.counted.any() or not reference.counted.any():
        assert (found.precision, found.recall, found.f1) == (0, 0, 0)
        return

    def mean_of_nearest(own, other):
        nearest = [
            max(float(np.dot(x, y)) for y in other.vectors)
            for x, counts in zip(own.vectors, own.counted, strict=True)
            if counts
        ]
        return sum(nearest) / len(nearest)

    precision = mean_of_nearest(answer, reference)
    recall = mean_of_nearest(reference, answer)
    assert found.precision == pytest.approx(precision, abs=1e-5)
    assert found.recall == pytest.approx(recall, abs=1e-5)
    if precision > 1e-3 and recall > 1e-3:
        harmonic = 2 * precision * recall / (precision + recall)
        assert found.f1 == pytest.approx(harmonic, rel=1e-3)
    assert match_tokens(reference, answer).f1 == pytest.approx(found.f1, abs=1e-6)
    assert -1.0 <= found.f1 <= 1.0


def test_values_computed_by_the_bert_score_package():
    # Its greedy_cos_idf (version 0.3.13) on these vectors, first and last token not counted.
    ring = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, -0.6]]
    answer = vectors_of(ring, [False, True, True, False])
    reference = vectors_of([[0.96, 0.28], [1.0, 0.0], [-0.6, 0.8]], [False, True, True])
    found = match_tokens(answer, reference)
    assert (found.precision, found.recall, found.f1) == pytest.approx(
        (0.8000000715, 0.8999999762, 0.8470588326), abs=1e-6
    )


def test_bertscore_takes_the_nearest_reference_and_survives_empty_answers(tmp_path):
    texts = ["red stone", "", "moon"]
    references = [["red", "stone red", "blue"], ["red"], "river"]
    inner = HashingEmbedder(4096)
    for embedder in (inner, CachedEmbedder(inner, tmp_path / "vectors.sqlite")):
        scores = asyncio.run(bert_scores(texts, references, embedder))
        assert [s.f1 for s in scores] == [1.0, 0.0, 0.0]


class WholeTexts:
    fingerprint = "whole"
    dimension = 3

    async def embed(self, texts):
        return np.zeros((len(texts), 3), np.float32)


def test_bertscore_says_what_it_lacks(tmp_path):
    for embedder in (WholeTexts(), CachedEmbedder(WholeTexts(), tmp_path / "v.sqlite")):
        with pytest.raises(UnsupportedCapability, match="single tokens"):
            asyncio.run(bert_scores(["a"], ["a"], embedder))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_if_score_is_the_mean_similarity(similarity):
    embedder = HashingEmbedder()
    text = "the old river runs past the red stone"

    def score(responses, references):
        return asyncio.run(
            if_score(responses, references, similarity=similarity, embedder=embedder)
        )

    assert score([text], [text]) == pytest.approx(1.0)
    assert score([text, None], [text, text]) == pytest.approx(0.5)
    one, two = score(["the moon is old"], [text]), score([text], [["no", text]])
    assert score(["the moon is old", text], [text, ["no", text]]) == pytest.approx((one + two) / 2)
    assert one < two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["a"], "words"), "no similarity"),
        (([], [], "f1"), "nothing to average"),
        ((["a"], ["a"], "similarity"), "embedder"),
        ((["a"], ["a", "b"], "f1"), "one of each"),
    ],
)
def test_if_score_refuses_what_it_cannot_average(arguments, message):
    responses, references, similarity = arguments
    with pytest.raises(UserError, match=message):
        asyncio.run(if_score(responses, references, similarity=similarity))
