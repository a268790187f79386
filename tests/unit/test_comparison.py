"""Paired comparison: exact cases, symmetry, coverage, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.config import ImprovementConfig
from reflectory.errors import UserError
from reflectory.evaluation.comparison import FEW_ROWS, compare, compare_all
from reflectory.evaluation.metrics import score_answer
from reflectory.evaluation.promotion import decide_promotion

values = st.lists(st.floats(0.0, 1.0, width=16), min_size=1, max_size=12)


def test_means_counts_and_exact_p_value_of_three_rows():
    found = compare([0, 0, 1], [1, 1, 1], name="em")
    assert (found.rows, found.seeds) == (3, 1)
    assert found.before == pytest.approx(1 / 3) and found.after == 1.0
    assert found.difference == pytest.approx(2 / 3)
    assert (found.better, found.worse, found.same) == (2, 0, 1)
    assert found.p_value == pytest.approx(2 / 8)  # of eight patterns of signs, two reach it
    assert found.few and "few rows" in str(found)
    assert "em 0.333 -> 1.000" in str(found)


def test_the_interval_is_that_of_a_resampling_by_hand():
    random = np.random.default_rng(3)
    before, after = random.random(30), random.random(30)
    found = compare(before, after, confidence=0.9, resamples=40_000)
    rows = random.integers(0, 30, size=(40_000, 30))
    means = (after - before)[rows].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    assert found.low == pytest.approx(low, abs=0.003)
    assert found.high == pytest.approx(high, abs=0.003)
    assert found.bound == pytest.approx(np.quantile(means, 0.1), abs=0.003)


def test_a_constant_difference_has_no_uncertainty():
    found = compare([0.1] * 25, [0.4] * 25)
    assert found.low == found.high == found.bound == pytest.approx(0.3)
    assert found.excludes_zero and not found.few and found.p_value < 0.001


def test_seeds_widen_the_interval_where_they_differ():
    rows = np.linspace(0, 1, 40)
    after = np.stack([rows + shift for shift in (0.0, 0.1, 0.2)])
    both = compare(rows, after)
    fixed = compare(rows, after, vary="rows")
    assert both.seeds == 3 and both.difference == pytest.approx(0.1)
    assert fixed.low == pytest.approx(0.1) and both.low < 0.06 < 0.14 < both.high
    same = compare(np.stack([rows, rows, rows]), after)
    assert (same.low, same.high) == (both.low, both.high)


@given(values, st.randoms(use_true_random=False))
def test_turning_the_systems_round_turns_the_interval_round(before, random):
    after = [random.random() for _ in before]
    one = compare(before, after, resamples=200)
    other = compare(after, before, resamples=200)
    assert one.difference == pytest.approx(-other.difference)
    assert one.low == pytest.approx(-other.high) and one.high == pytest.approx(-other.low)
    assert (one.better, one.worse, one.same) == (other.worse, other.better, other.same)
    assert one.better + one.worse + one.same == len(before)


@given(values, st.integers(0, 2**31))
def test_the_order_of_rows_changes_no_figure_but_the_draws(before, seed):
    after = [1.0 - value for value in before]
    one = compare(before, after, resamples=200, seed=seed)
    other = compare(before[::-1], after[::-1], resamples=200, seed=seed)
    assert one.difference == pytest.approx(other.difference)
    assert (one.better, one.worse) == (other.better, other.worse)
    assert one == compare(before, after, resamples=200, seed=seed)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    trials, covered, one_sided = 300, 0, 0
    for trial in range(trials):
        before = random.random(40)
        after = before + random.normal(0.1, 0.3, 40)
        found = compare(before, after, confidence=0.9, resamples=400, seed=trial)
        covered += found.low <= 0.1 <= found.high
        one_sided += found.bound <= 0.1
    assert 0.84 <= covered / trials <= 0.95
    assert 0.84 <= one_sided / trials <= 0.95


def test_many_rows_take_bounded_memory_and_little_time():
    random = np.random.default_rng(0)
    found = compare(random.random(20_000), random.random(20_000), resamples=300)
    assert found.rows == 20_000 and abs(found.difference) < 0.02


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ([], [], "shape"),
        ([1, 2], [1], "shapes"),
        ([[1, 2], [1, 2]], [[1, 2], [1, 2], [1, 2]], "shapes"),
        ([float("nan")], [1], "finite"),
        (["a"], [1], "no table of numbers"),
        ([[[1.0]]], [1], "shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(before, after, says):
    with pytest.raises(UserError, match=says):
        compare(before, after)


def test_a_confidence_of_one_is_refused():
    with pytest.raises(UserError, match="confidence"):
        compare([0], [1], confidence=1.0)


def test_answers_that_are_missing_count_as_wrong():
    before = [score_answer("blue", "blue"), None]
    after = [score_answer("the blue sky", "blue"), score_answer("red", "red")]
    found = compare_all(before, after, ["f1", "exact_match", "contains"], resamples=100)
    assert found["exact_match"].better == 1 and found["exact_match"].worse == 1
    assert found["contains"].difference == pytest.approx(0.5)
    assert found["f1"].name == "f1" and found["f1"].before == 0.5


def gain(before, after, **options):
    return {"f1": compare(before, after, name="f1", confidence=0.9, **options)}


RULE = ImprovementConfig()


def test_a_clear_gain_is_promoted_and_says_its_figures():
    decision = decide_promotion(gain([0.0] * 30, [0.5] * 30), RULE)
    assert decision.promote and "0.000 -> 0.500" in decision.reason and not decision.warnings


def test_no_gain_and_a_loss_are_not():
    for after in ([0.2] * 30, [0.1] * 30):
        decision = decide_promotion(gain([0.2] * 30, after), RULE)
        assert not decision.promote and "does not exceed" in decision.reason


def test_the_gain_must_exceed_the_minimum():
    rule = ImprovementConfig(minimum_gain=0.2)
    assert not decide_promotion(gain([0.0] * 30, [0.1] * 30), rule).promote
    assert decide_promotion(gain([0.0] * 30, [0.3] * 30), rule).promote


def test_an_uncertain_gain_is_not_promoted_and_tolerance_decides():
    before = [0.5] * 30
    after = [1.0] * 11 + [0.1] * 12 + [0.5] * 7  # a little better on the whole, by luck
    found = gain(before, after)
    assert 0 < found["f1"].difference < 0.05 and found["f1"].bound < -0.02
    refused = decide_promotion(found, RULE)
    assert not refused.promote and "too uncertain" in refused.reason
    assert decide_promotion(found, ImprovementConfig(tolerance=0.3)).promote
    required = ImprovementConfig(tolerance=0.3, significance="required")
    assert not decide_promotion(found, required).promote


def test_forgetting_blocks_a_promotion():
    better = gain([0.0] * 30, [0.5] * 30)
    lost = compare([1.0] * 40, [1.0] * 34 + [0.0] * 6)
    decision = decide_promotion(better, RULE, forgetting=lost)
    assert not decision.promote and "forgotten" in decision.reason
    assert decide_promotion(
        better, ImprovementConfig(maximum_forgetting=0.2), forgetting=lost
    ).promote


def test_few_questions_and_proposals_are_said():
    found = gain([0.0] * (FEW_ROWS - 1), [1.0] * (FEW_ROWS - 1))
    decision = decide_promotion(found, RULE, proposals=True)
    assert decision.promote and len(decision.warnings) == 2
    assert "proposed" in decision.warnings[0] and "19 held-out" in decision.warnings[1]


def test_an_adapter_that_helps_as_often_as_it_hurts_is_seldom_promoted():
    random = np.random.default_rng(1)
    promoted = sum(
        decide_promotion(
            gain(np.full(40, 0.4), np.clip(random.normal(0.4, 0.35, 40), 0, 1), resamples=300), RULE
        ).promote
        for _ in range(200)
    )
    assert promoted / 200 < 0.3


def test_a_weight_of_two_is_the_mean_of_a_row_that_stands_twice():
    old, new = [0.0, 1.0, 0.5], [1.0, 1.0, 0.0]
    found = compare(old, new, weights=[2.0, 4.0, 6.0], resamples=500)
    twice = compare([0.0, 1.0, 1.0, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], resamples=500)
    assert found.difference == pytest.approx(twice.difference)
    assert (found.before, found.after) == pytest.approx((twice.before, twice.after))
    assert (found.rows, found.better, found.worse) == (3, 1, 1)


def test_the_interval_of_weighted_rows_is_that_of_ratios_of_sums():
    random = np.random.default_rng(4)
    difference, weights = random.normal(0.1, 1.0, 30), random.integers(1, 4, 30)
    found = compare(np.zeros(30), difference, weights=weights, resamples=20_000, seed=1)
    draws = random.integers(0, 30, (20_000, 30))
    ratios = (difference * weights)[draws].sum(axis=1) / weights[draws].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_equal_weights_change_nothing():
    old, new = [0.0, 1.0, 0.5, 0.25], [1.0, 1.0, 0.0, 0.75]
    assert compare(old, new, weights=[3.0] * 4, resamples=500) == compare(old, new, resamples=500)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_an_error(weights):
    with pytest.raises(UserError, match="weights of the shape"):
        compare([0.0, 1.0], [1.0, 1.0], weights=weights)
