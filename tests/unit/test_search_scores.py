"""First hits on one scale, and pairs: against brute force, and what no order may change."""

import asyncio

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from indexes import BRIDGE, BRIDGE_QUESTION, EMBEDDER, build, embed

from reflectory.retrieval.search import candidates as candidates_module
from reflectory.retrieval.search.candidates import (
    DenseScores,
    FirstHits,
    best_rows,
    standard_lexical,
)
from reflectory.retrieval.search.pairs import pair_scores
from reflectory.retrieval.vectors import VectorIndex


def unit_rows(seed, n, d=8):
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


seeds = st.integers(0, 2**32 - 1)

# --- standard scores -------------------------------------------------------------------


@given(seeds, st.integers(2, 200), st.integers(0, 50))
def test_standard_scores_are_deviations_from_the_mean_of_all_rows(seed, n, alike):
    """The moments of the rows say it without a look at every row."""
    rows = np.concatenate([unit_rows(seed, n), np.repeat(unit_rows(seed + 1, 1), alike, axis=0)])
    query = unit_rows(seed + 2, 1)[0]
    dense = DenseScores(VectorIndex.build(rows))
    everywhere = np.arange(len(rows))
    cosines = dense.cosines(query, everywhere)
    exact = rows.astype(float) @ query.astype(float)
    assert cosines == pytest.approx(exact, abs=1e-6)
    expected = (exact - exact.mean()) / exact.std()
    assert dense.standard(query, cosines) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_sample_is_taken_from_all_parts_of_many_rows(monkeypatch):
    monkeypatch.setattr(candidates_module, "_SAMPLE", 500)
    rows = np.repeat(unit_rows(1, 4), 1000, axis=0)  # sorted, so the first rows say nothing
    query = unit_rows(2, 1)[0]
    dense = DenseScores(VectorIndex.build(rows))
    exact = rows @ query
    expected = (exact - exact.mean()) / exact.std()
    assert dense.standard(query, exact) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    "rows",
    [unit_rows(1, 1), np.repeat(unit_rows(1, 1), 9, axis=0), np.zeros((5, 8), dtype=np.float32)],
    ids=["one", "alike", "zeros"],
)
def test_rows_that_differ_in_nothing_have_the_score_zero(rows):
    dense = DenseScores(VectorIndex.build(rows))
    for query in (unit_rows(2, 1)[0], rows[0], np.zeros(8, dtype=np.float32)):
        cosines = dense.cosines(query, np.arange(len(rows)))
        assert dense.standard(query, cosines).tolist() == [0] * len(rows)


@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=50))
def test_lexical_scores_have_mean_zero_and_deviation_one(values):
    scores = np.asarray(values, dtype=np.float32)
    found = standard_lexical(scores)
    assert np.isfinite(found).all()
    if scores.std() > 1e-3:
        assert found.mean() == pytest.approx(0, abs=1e-3)
        assert found.std() == pytest.approx(1, abs=1e-3)
        # Scores that differ by less than a float32 can tell of may become equal, never turn round.
        assert (np.diff(found[np.argsort(scores, kind="stable")]) >= 0).all()
    if scores.min() == scores.max():
        assert not found.any()


# --- first hits ------------------------------------------------------------------------


@given(st.lists(st.integers(-2, 4), min_size=1, max_size=60), st.integers(1, 70))
def test_best_rows_are_the_highest_above_zero_and_the_first_of_equals(values, count):
    scores = np.asarray(values, dtype=np.float32)
    order = sorted(range(len(values)), key=lambda row: (-values[row], row))
    expected = sorted(row for row in order[:count] if values[row] > 0)
    found = best_rows(scores, count)
    assert found.tolist() == expected and found.dtype == np.int64


@pytest.fixture(scope="module")
def index():
    return build(BRIDGE, passage_tokens=40)


def first_hits(index, text, *, dense=True, lexical=True, depth=3):
    return FirstHits(
        index.vectors,
        DenseScores(index.vectors) if dense else None,
        index.lexical if lexical else None,
        embed(text),
        index.lexical.query(text),
        depth,
    )


def test_hits_are_the_best_of_each_layer(index):
    vectors = asyncio.run(EMBEDDER.embed([f"{p.title}\n{p.text}" for p in index.passages]))
    assert vectors.shape == (len(index), 64)
    near = index.vectors.search(embed(BRIDGE_QUESTION), 3)[1][0].tolist()
    scores = index.lexical.scores(index.lexical.query(BRIDGE_QUESTION))
    worded = best_rows(scores, 3).tolist()
    both = first_hits(index, BRIDGE_QUESTION)
    assert both.rows.tolist() == sorted({*near, *worded})
    assert first_hits(index, BRIDGE_QUESTION, lexical=False).rows.tolist() == sorted(near)
    assert first_hits(index, BRIDGE_QUESTION, dense=False).rows.tolist() == worded
    assert first_hits(index, "zzz", dense=False).rows.tolist() == []


def test_both_layers_are_weighed_on_one_scale(index):
    rows = np.arange(len(index))
    both = first_hits(index, BRIDGE_QUESTION).of(rows)
    dense = first_hits(index, BRIDGE_QUESTION, lexical=False).of(rows)
    lexical = first_hits(index, BRIDGE_QUESTION, dense=False).of(rows)
    share = candidates_module.DENSE_SHARE
    assert both.fused == pytest.approx(share * dense.fused + (1 - share) * lexical.fused, abs=1e-5)
    assert both.dense and dense.dense and not lexical.dense
    assert not lexical.cosines.any() and not dense.bm25.any()
    assert np.array_equal(both.bm25, lexical.bm25)
    assert np.array_equal(both.cosines, dense.cosines)
    for found in (both, dense, lexical):
        assert found.fused.mean() == pytest.approx(0, abs=1e-5)


def test_any_passage_can_be_asked_for(index):
    hits = first_hits(index, BRIDGE_QUESTION, depth=1)
    whole = hits.of(np.arange(len(index)))
    some = hits.of(np.array([1, 5]))
    assert np.array_equal(some.fused, whole.fused[[1, 5]])
    assert hits.of(np.zeros(0, dtype=np.int64)).fused.tolist() == []


# --- pairs -----------------------------------------------------------------------------


@st.composite
def candidates(draw):
    n, m = draw(st.integers(1, 8)), draw(st.integers(0, 4))
    number = st.floats(-5, 5, width=32)
    scores = np.asarray(draw(st.lists(number, min_size=n, max_size=n)), dtype=np.float32)
    assume(scores.std() == 0 or scores.std() > 1e-3)
    flags = st.lists(st.booleans(), min_size=n * m, max_size=n * m)
    holds = np.asarray(draw(flags), dtype=np.bool_).reshape(n, m)
    weight = st.floats(0.125, 8, width=32)
    weights = np.asarray(draw(st.lists(weight, min_size=m, max_size=m)), dtype=np.float32)
    half = np.random.default_rng(draw(seeds)).random((n, n)).astype(np.float32)
    documents = np.asarray(
        draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.int32
    )
    return scores, holds, weights, half + half.T, documents


def brute_force(scores, holds, weights, shared, documents):
    """The same, pair by pair."""
    n = len(scores)
    spread = float(scores.std()) or 1.0
    alone = [(float(score) - float(scores.mean())) / spread for score in scores]
    total = float(weights.sum()) or 1.0
    others = [[b for b in range(n) if documents[b] != documents[a]] for a in range(n)]
    most = max((float(shared[a, b]) for a in range(n) for b in others[a]), default=0.0) or 1.0
    found = []
    for a in range(n):
        values = [
            alone[a]
            + 0.5 * alone[b]
            + 3 * float(weights[holds[a] | holds[b]].sum()) / total
            + float(shared[a, b]) / most
            for b in others[a]
        ]
        own = alone[a] + 3 * float(weights[holds[a]].sum()) / total
        found.append(max(values) if values else own)
    return found


@settings(max_examples=200)
@given(candidates())
def test_pairs_are_scored_as_pair_by_pair(given_):
    found = pair_scores(*given_)
    assert found.dtype == np.float32
    assert found == pytest.approx(brute_force(*given_), rel=1e-3, abs=1e-3)


@given(candidates(), st.randoms(use_true_random=False))
def test_the_order_of_candidates_changes_nothing(given_, random):
    scores, holds, weights, shared, documents = given_
    order = list(range(len(scores)))
    random.shuffle(order)
    turned = pair_scores(
        scores[order], holds[order], weights, shared[np.ix_(order, order)], documents[order]
    )
    assert turned == pytest.approx(pair_scores(*given_)[order], rel=1e-3, abs=1e-3)


@given(candidates())
def test_passages_of_a_single_document_are_judged_alone(given_):
    scores, holds, weights, shared, documents = given_
    found = pair_scores(scores, holds, weights, shared, np.zeros_like(documents))
    again = pair_scores(scores, holds, weights, 0 * shared, np.zeros_like(documents))
    assert np.isfinite(found).all() and np.array_equal(found, again)
    if not holds.any():
        # Scores that differ by less than a float32 can tell of may become equal, never turn round.
        assert (np.diff(found[np.argsort(scores, kind="stable")]) >= 0).all()


@given(candidates())
def test_a_question_without_known_terms_leaves_scores_and_links(given_):
    scores, _, _, shared, documents = given_
    nothing = np.zeros((len(scores), 0), dtype=np.bool_)
    found = pair_scores(scores, nothing, np.zeros(0, dtype=np.float32), shared, documents)
    assert np.isfinite(found).all()


def test_the_partner_that_adds_what_the_first_lacks_wins():
    scores = np.asarray([2.0, 1.0, 1.0], dtype=np.float32)
    holds = np.asarray([[True, False], [True, False], [False, True]])
    apart = np.arange(3, dtype=np.int32)
    nothing_shared = np.zeros((3, 3), dtype=np.float32)
    found = pair_scores(scores, holds, np.ones(2, dtype=np.float32), nothing_shared, apart)
    assert found[0] > found[2] > found[1]


def test_scores_that_differ_by_rounding_alone_stay_equal():
    scores = np.asarray([0.3, 0.3 + 3e-8, 0.3 - 3e-8], dtype=np.float32)
    nothing = np.zeros((3, 3), dtype=np.float32)
    found = pair_scores(
        scores, np.ones((3, 1), np.bool_), np.ones(1, np.float32), nothing, np.arange(3)
    )
    assert np.ptp(found) < 1e-6
