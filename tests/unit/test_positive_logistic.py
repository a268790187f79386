"""The regression without negative weights: scikit-learn's where that has none, and its bounds."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from reflectory.agents.graders.positive_logistic import PositiveLogistic

Data = tuple[NDArray[np.float64], NDArray[np.bool_]]


def drawn(seed: int, shifts: tuple[float, ...], right: int = 40, wrong: int = 120) -> Data:
    """Return columns that are higher by so much where an answer is right."""
    draw = np.random.default_rng(seed)
    y = np.array([True] * right + [False] * wrong)
    x = draw.normal(size=(y.size, len(shifts))) + np.outer(y, shifts)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_it_is_scikit_learns_where_all_weights_are_positive(penalty: float) -> None:
    x, y = drawn(0, (1.0, 0.7, 1.5))
    ours = PositiveLogistic(penalty).fit(x, y)
    theirs = LogisticRegression(class_weight="balanced", C=1 / penalty, tol=1e-10).fit(x, y)
    assert theirs.coef_.min() > 0.0
    np.testing.assert_allclose(ours.weights_, theirs.coef_[0], atol=1e-3)
    assert ours.bias_ == pytest.approx(theirs.intercept_[0], abs=1e-3)
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), atol=5e-3)
    assert (ours.predict(x) == theirs.predict(x)).mean() > 0.99


def test_where_a_column_speaks_against_it_is_as_if_it_were_not_there() -> None:
    x, y = drawn(1, (1.0, -1.0, 0.8))
    free = LogisticRegression(class_weight="balanced").fit(x, y)
    assert free.coef_[0, 1] < -0.5
    ours = PositiveLogistic().fit(x, y)
    without = PositiveLogistic().fit(x[:, [0, 2]], y)
    assert ours.weights_[1] == 0.0
    np.testing.assert_allclose(ours.weights_[[0, 2]], without.weights_, atol=1e-3)
    assert ours.bias_ == pytest.approx(without.bias_, abs=1e-3)


def test_when_nothing_speaks_for_it_only_the_bias_is_left() -> None:
    x, y = drawn(2, (-1.0, -2.0))
    fitted = PositiveLogistic().fit(x, y)
    assert fitted.weights_.tolist() == [0.0, 0.0]
    # Both classes weigh the same, however many of each there are.
    assert fitted.bias_ == pytest.approx(0.0, abs=1e-4)


def objective(x: NDArray[np.float64], y: NDArray[np.bool_], point: NDArray[np.float64]) -> float:
    """Return what is minimised, written down once more and row by row."""
    total = 0.5 * float(point[:-1] @ point[:-1])
    for row, right in zip(x, y, strict=True):
        share = y.mean() if right else 1.0 - y.mean()
        odds = float(row @ point[:-1] + point[-1]) * (1.0 if right else -1.0)
        total += 0.5 / share * float(np.log1p(np.exp(-odds)))
    return total


def test_the_loss_and_its_gradient_are_those_of_the_regression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The optimiser is handed both, and a wrong gradient would only make it stop early."""
    seen = []
    minimize = scipy.optimize.minimize

    def watched(function, start, **options):
        seen.append(function)
        return minimize(function, start, **options)

    monkeypatch.setattr(scipy.optimize, "minimize", watched)
    x, y = drawn(3, (1.0, -0.5, 0.2), right=15, wrong=30)
    PositiveLogistic().fit(x, y)
    (function,) = seen
    draw = np.random.default_rng(3)
    for point in (np.zeros(4), *draw.normal(scale=2.0, size=(5, 4))):
        value, slope = function(point)
        assert value == pytest.approx(objective(x, y, point))
        numeric = scipy.optimize.approx_fprime(point, lambda p: function(p)[0], 1e-6)
        np.testing.assert_allclose(slope, numeric, atol=1e-3)
    # Far out it neither overflows nor loses the slope.
    with np.errstate(over="raise", invalid="raise"):
        value, slope = function(np.array([1e4, -1e4, 1e4, 0.0]))
    assert np.isfinite(value) and np.isfinite(slope).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=4),
    st.integers(2, 40),
)
def test_weights_are_never_negative_and_nowhere_near_is_better(
    seed: int, shifts: list[float], right: int
) -> None:
    x, y = drawn(seed, tuple(shifts), right=right, wrong=30)
    fitted = PositiveLogistic().fit(x, y)
    assert (fitted.weights_ >= 0.0).all()
    point = np.append(fitted.weights_, fitted.bias_)
    least = objective(x, y, point)
    draw = np.random.default_rng(seed)
    for step in draw.normal(scale=0.05, size=(8, point.size)):
        other = point + step
        other[:-1] = np.maximum(other[:-1], 0.0)
        assert objective(x, y, other) >= least - 1e-5


def test_it_can_be_cloned_and_does_not_change_what_it_is_given() -> None:
    x, y = drawn(4, (1.0,))
    before = x.copy()
    made = clone(PositiveLogistic(penalty=3.0))
    assert made.penalty == 3.0
    assert made.fit(x, y) is made
    assert (x == before).all()
    assert made.classes_.tolist() == [False, True]
