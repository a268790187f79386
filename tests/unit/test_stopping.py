"""The rules that stop a loop."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reflectory.alignment import (
    AlignmentMatrix,
    EpsilonRule,
    PatienceRule,
    StopRule,
    TargetRule,
    first_to_fire,
    is_constant,
)

NAN = math.nan


def matrix(*rows: list[float]) -> AlignmentMatrix:
    return AlignmentMatrix([f"l{j}" for j in range(len(rows))], np.array(rows, dtype=float))


def rules() -> list[StopRule]:
    return [EpsilonRule(0.05), PatienceRule(1), TargetRule(0.5)]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_rules_meet_the_protocol_and_are_pure(rule: StopRule) -> None:
    seen = matrix([0.9, 0.9], [0.9, 0.9])
    assert isinstance(rule, StopRule)
    assert rule.decide(seen) == rule.decide(seen)
    assert rule.decide(seen).stop
    assert rule.decide(seen).rule == rule.name
    assert rule.decide(seen).reason


# Epsilon


@given(st.floats(1e-9, 1e9), hnp.arrays(np.float64, (3, 1), elements=st.floats(0, 1)))
def test_one_iteration_never_converges(epsilon: float, column: np.ndarray) -> None:
    assert not EpsilonRule(epsilon).decide(matrix(*column.tolist())).stop


def test_change_below_epsilon_converges() -> None:
    decision = EpsilonRule(0.1).decide(matrix([0.5, 0.55], [0.5, 0.5]))
    assert (decision.stop, decision.converged, decision.rule) == (True, True, "epsilon")
    assert "0.0500" in decision.reason


def test_change_equal_to_epsilon_goes_on() -> None:
    # A change of exactly 0.25 in binary numbers.
    moved = matrix([0.5, 0.75])
    assert not EpsilonRule(0.25).decide(moved).stop
    assert EpsilonRule(np.nextafter(0.25, 1.0)).decide(moved).stop


def test_only_the_last_change_counts() -> None:
    assert EpsilonRule(0.1).decide(matrix([0.0, 0.9, 0.9])).stop
    assert not EpsilonRule(0.1).decide(matrix([0.9, 0.9, 0.0])).stop


@pytest.mark.parametrize(
    "rows", [([0.5, NAN], [0.5, 0.5]), ([NAN, 0.5], [0.5, 0.5]), ([NAN, NAN],)]
)
def test_failed_cell_in_either_column_is_no_convergence(rows: tuple[list[float], ...]) -> None:
    assert not EpsilonRule(10.0).decide(matrix(*rows)).stop


def test_failed_cell_further_back_does_not_matter() -> None:
    assert EpsilonRule(0.1).decide(matrix([NAN, 0.5, 0.5])).stop


@given(
    hnp.arrays(np.float64, (2, 3), elements=st.floats(0, 1)), st.floats(0.001, 2), st.floats(0, 2)
)
def test_larger_epsilon_stops_whenever_a_smaller_one_does(
    values: np.ndarray, epsilon: float, more: float
) -> None:
    seen = matrix(*values.tolist())
    if EpsilonRule(epsilon).decide(seen).stop:
        assert EpsilonRule(epsilon + more).decide(seen).stop


# Patience


def test_patience_waits_and_then_stops_without_convergence() -> None:
    rule = PatienceRule(2)
    assert not rule.decide(matrix([0.5])).stop
    assert not rule.decide(matrix([0.5, 0.4])).stop
    decision = rule.decide(matrix([0.5, 0.4, 0.5]))
    assert (decision.stop, decision.converged, decision.rule) == (True, False, "patience")


def test_patience_goes_on_while_the_mean_rises() -> None:
    assert not PatienceRule(2).decide(matrix([0.5, 0.4, 0.51])).stop
    assert not PatienceRule(1).decide(matrix([0.1, 0.2, 0.3])).stop


def test_patience_compares_with_the_best_and_not_with_the_last() -> None:
    assert PatienceRule(1).decide(matrix([0.9, 0.1, 0.2])).stop


def test_patience_asks_for_the_minimum_gain() -> None:
    rising = matrix([0.5, 0.52])
    assert not PatienceRule(1, minimum_gain=0.01).decide(rising).stop
    assert PatienceRule(1, minimum_gain=0.05).decide(rising).stop


def test_patience_takes_the_mean_of_what_is_known() -> None:
    assert PatienceRule(1).decide(matrix([0.6, 0.2], [NAN, 0.2])).stop
    assert not PatienceRule(1).decide(matrix([0.6, 0.7], [0.6, NAN])).stop


def test_patience_does_not_judge_an_iteration_in_which_everything_failed() -> None:
    assert not PatienceRule(1).decide(matrix([0.6, NAN], [0.6, NAN])).stop


# Target


def test_target_needs_every_level_in_the_last_column() -> None:
    rule = TargetRule(0.8)
    assert not rule.decide(matrix([0.9], [0.7])).stop
    assert not rule.decide(matrix([0.9, 0.9], [0.9, 0.7])).stop
    decision = rule.decide(matrix([0.1, 0.8], [0.1, 0.9]))
    assert (decision.stop, decision.converged, decision.rule) == (True, False, "target")


def test_failed_cell_has_reached_nothing() -> None:
    assert not TargetRule(0.0).decide(matrix([NAN], [1.0])).stop


# Together


def test_first_rule_that_stops_speaks() -> None:
    still = matrix([0.9, 0.9])
    assert first_to_fire([EpsilonRule(0.1), TargetRule(0.5)], still).rule == "epsilon"
    assert first_to_fire([TargetRule(0.5), EpsilonRule(0.1)], still).rule == "target"
    assert first_to_fire([TargetRule(1.0), EpsilonRule(0.1)], still).rule == "epsilon"
    assert not first_to_fire([TargetRule(1.0)], still).stop
    assert not first_to_fire([], still).stop


# A judge that always says the same


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (([0.5, 0.5], [0.5, 0.5]), True),
        (([0.5, NAN], [0.5, 0.5]), True),
        (([0.5, 0.5], [0.5, 0.50001]), False),
        (([0.5],), False),
        (([0.5, NAN],), False),
        (([NAN, NAN],), False),
    ],
)
def test_constant_judge_is_noticed(rows: tuple[list[float], ...], expected: bool) -> None:
    assert is_constant(matrix(*rows)) is expected


def test_constancy_has_a_tolerance() -> None:
    nearly = matrix([0.5, 0.52])
    assert not is_constant(nearly)
    assert is_constant(nearly, tolerance=0.05)


def test_matrix_without_columns_is_not_constant() -> None:
    assert not is_constant(AlignmentMatrix(["a"]))
