"""Areas and rank correlations: what the libraries say, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from reflectory.evaluation.judge.agreement import agreement_of, correlate
from reflectory.evaluation.judge.areas import area, areas, draws_of, separate
from reflectory.evaluation.judge.records import GradedAnswer

CASES = st.lists(
    st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=2, max_size=60
).filter(lambda rows: len({right for _, right in rows}) == 2)


def arrays(rows):
    return np.array([score for score, _ in rows]), np.array([right for _, right in rows])


@given(CASES)
def test_area_is_that_of_scikit_learn(rows):
    scores, right = arrays(rows)
    assert area(scores, right) == pytest.approx(roc_auc_score(right, scores), abs=1e-12)


@given(CASES, st.integers(0, 1000))
def test_weighted_areas_are_those_of_scikit_learn(rows, seed):
    scores, right = arrays(rows)
    weights = np.random.default_rng(seed).integers(1, 4, size=(3, scores.size)).astype(float)
    expected = [roc_auc_score(right, scores, sample_weight=w) for w in weights]
    assert areas(scores, right, weights) == pytest.approx(expected, abs=1e-12)


@given(CASES)
def test_monotone_transforms_change_nothing(rows):
    scores, right = arrays(rows)
    for other in (scores**3, np.exp(5 * scores), 0.001 * scores - 7.0, np.sqrt(scores)):
        assert area(other, right) == pytest.approx(area(scores, right), abs=1e-12)


@given(CASES)
def test_swapping_right_and_wrong_gives_the_rest(rows):
    scores, right = arrays(rows)
    assert area(scores, ~right) == pytest.approx(1.0 - area(scores, right), abs=1e-12)
    assert area(-scores, right) == pytest.approx(1.0 - area(scores, right), abs=1e-12)


@given(CASES)
def test_the_order_of_answers_changes_nothing(rows):
    assert area(*arrays(rows[::-1])) == pytest.approx(area(*arrays(rows)), abs=1e-12)


def test_without_right_or_wrong_there_is_no_area():
    scores, right = np.array([0.1, 0.9]), np.array([True, True])
    assert np.isnan(area(scores, right)) and np.isnan(area(scores, ~right))
    groups, draws = np.array([0, 1]), draws_of(2, 0, 10)
    assert separate("any", scores, right, groups, draws) is None


def test_a_draw_weighs_a_question_as_often_as_it_is_drawn():
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(8), 4)
    scores, right = random.random(32).round(1), np.tile([True, False, False, False], 8)
    draws = draws_of(8, 1, 40)
    drawn = areas(scores, right, draws[:, groups])
    for weights, got in zip(draws.astype(int), drawn, strict=True):
        rows = np.concatenate(
            [np.flatnonzero(groups == g) for g in range(8) for _ in range(weights[g])]
        )
        assert got == pytest.approx(roc_auc_score(right[rows], scores[rows]), abs=1e-12)


def test_a_judge_that_knows_questions_only_separates_nothing_within_them():
    # Easy questions get high scores, whatever the answer.
    groups = np.repeat(np.arange(20), 4)
    scores = groups / 20
    right = np.tile([True, False, False, False], 20)
    found = separate("any", scores, right, groups, draws_of(20, 0))
    assert found.within == found.within_low == found.within_high == 0.5
    assert found.area == pytest.approx(0.5)
    assert (found.right, found.wrong, found.questions) == (20, 60, 20)


def test_a_scale_of_its_own_for_every_question_costs_the_pooled_area_only():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 4)
    right = np.tile([True, False, False, False], 40)
    scores = random.random(40)[groups] + 0.01 * right
    found = separate("any", scores, right, groups, draws_of(40, 0))
    assert found.within == 1.0
    assert found.area < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_intervals_cover_as_often_as_they_say(seed):
    """80 trials of a judge whose true area is known (normal scores one deviation apart)."""
    from scipy.stats import norm

    random = np.random.default_rng(seed)
    true, hits = norm.cdf(1 / np.sqrt(2)), 0
    groups = np.repeat(np.arange(40), 4)
    right = np.tile([True, False, False, False], 40)
    for trial in range(80):
        scores = random.normal(size=160) + right
        found = separate("any", scores, right, groups, draws_of(40, trial, 500))
        hits += found.low <= true <= found.high
    assert 0.85 <= hits / 80 <= 1.0  # nominal 0.95, four standard deviations below


def test_the_curve_runs_from_corner_to_corner_and_stays_short():
    random = np.random.default_rng(0)
    scores, right = random.random(5000), random.random(5000) < 0.3
    found = separate("any", scores, right, np.arange(5000), draws_of(5000, 0, 20))
    assert found.curve[0] == (0.0, 0.0) and found.curve[-1] == (1.0, 1.0)
    assert len(found.curve) <= 101
    x, y = np.array(found.curve).T
    assert np.trapezoid(y, x) == pytest.approx(found.area, abs=0.01)


NUMBERS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)), min_size=4, max_size=40
)


@settings(deadline=None)
@given(NUMBERS)
def test_correlation_is_that_of_scipy(rows):
    x, y, groups = (list(column) for column in zip(*rows, strict=True))
    found = correlate("any", x, y, [str(g) for g in groups])
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found.rho is None and found.p_value is None
        return
    expected = spearmanr(x, y)
    assert found.rho == pytest.approx(expected.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-6)
    assert found.count == len(rows)
    if found.low is not None:
        assert -1.0 <= found.low <= found.high <= 1.0


def test_within_questions_is_the_correlation_of_centred_ranks():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 5)
    x, y = random.random(50), random.random(50)
    centred = [np.concatenate([rankdata(v[groups == g]) - 3.0 for g in range(10)]) for v in (x, y)]
    names = [str(g) for g in groups]
    found = correlate("any", x, y, names, strata=names)
    assert found.rho == pytest.approx(pearsonr(*centred).statistic, abs=1e-9)


def test_within_questions_sees_through_easy_and_hard_questions():
    answers = []
    for question in range(30):
        ease = question / 30
        for place in range(4):  # the judge knows how easy a question is, and no more
            value = ease + 0.01 * place
            answers.append(GradedAnswer(id=f"{question}", score=ease, values={"f1": value}))
    found = {c.of: c for c in agreement_of(answers)}
    assert found["G and f1"].rho > 0.95
    assert found["G and f1 within questions"].rho is None


def test_agreement_reads_grades_alignment_and_every_metric():
    random = np.random.default_rng(1)
    answers = [
        GradedAnswer(
            id=f"{n // 2}",
            score=None if n % 7 == 0 else (n % 10) / 10,
            alignment=random.random() if n % 2 else None,
            values={"f1": (n % 10) / 20, "exact_match": float(n % 10 > 7)},
        )
        for n in range(80)
    ]
    found = {c.of: c for c in agreement_of(answers)}
    assert found["G and f1"].rho == pytest.approx(1.0)
    assert found["G and f1"].count == sum(a.score is not None for a in answers)
    assert found["G and exact_match"].rho > 0.3
    assert abs(found["A and f1"].rho) < 0.5
    assert found["A and f1"].count == 40
    assert "A and f1 within questions" not in found  # one answer with A per question
    assert agreement_of([]) == ()


def test_few_or_constant_answers_have_no_coefficient():
    assert correlate("any", [0.1, 0.2], [1, 2], ["a", "b"]).rho is None
    assert correlate("any", [0.5] * 9, range(9), ["a"] * 9).rho is None
    assert correlate("any", [], [], [], strata=[]).count == 0
    alone = correlate("any", [0.1, 0.2, 0.3], [1, 2, 3], list("abc"), strata=list("abc"))
    assert alone.rho is None and alone.count == 0
