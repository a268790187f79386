"""A logistic regression without negative weights, as an estimator of scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin


class PositiveLogistic(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge logistic regression, both classes weighing the same, with weights of at least 0.

    scikit-learn's own has no such bounds.

    Args:
        penalty: Strength of the ridge.

    Attributes:
        weights_: One per column, shape (d,).
        bias_: The intercept, which is not penalised.
    """

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def fit(self, x: NDArray[np.float64], y: NDArray[np.bool_]) -> PositiveLogistic:
        """Fit on columns that are standardised.

        Args:
            x: Shape (n, d).
            y: Whether each row is of the second class, shape (n,); both must occur.
        """
        from scipy.optimize import minimize

        sign = np.where(np.asarray(y, dtype=bool), 1.0, -1.0)
        share = np.where(sign > 0, np.mean(sign > 0), np.mean(sign < 0))
        each = 0.5 / share

        def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weights, margin = point[:-1], sign * (x @ point[:-1] + point[-1])
            value = each @ np.logaddexp(0.0, -margin) + 0.5 * self.penalty * weights @ weights
            slope = -each * sign / (1.0 + np.exp(np.clip(margin, -500.0, 500.0)))
            return value, np.append(x.T @ slope + self.penalty * weights, slope.sum())

        bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
        start = np.zeros(x.shape[1] + 1)
        found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
        self.classes_ = np.array([False, True])
        self.weights_, self.bias_ = found.x[:-1], float(found.x[-1])
        return self

    def decision_function(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of the second class, shape (n,)."""
        odds: NDArray[np.float64] = x @ self.weights_ + self.bias_
        return odds

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether each row is rather of the second class, shape (n,)."""
        return self.decision_function(x) > 0.0
