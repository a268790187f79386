"""When to stop: rules that read the matrix after every iteration.

A rule sees the finished columns only and decides nothing else. Epsilon
(Equation 32) is the survey's rule and the default; the others are for people
who know what they want to reach or how long they are willing to wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from reflectory.alignment.matrix import AlignmentMatrix


@dataclass(frozen=True)
class StopDecision:
    """What a rule says after an iteration.

    Attributes:
        stop: Whether the loop ends now.
        converged: Whether it ends because the matrix no longer moves.
        rule: Name of the rule that spoke.
        reason: One sentence for people.
    """

    stop: bool
    converged: bool
    rule: str
    reason: str


CONTINUE = StopDecision(stop=False, converged=False, rule="", reason="")


@runtime_checkable
class StopRule(Protocol):
    """Decides after each iteration whether the loop ends.

    Contract: ``decide`` is pure, is called with all columns up to and
    including the iteration that has just finished (at least one), and must
    treat NaN as unknown. The cap on iterations is the loop's, not a rule's.
    """

    @property
    def name(self) -> str:
        """Name of the rule, for records."""
        ...

    def decide(self, matrix: AlignmentMatrix) -> StopDecision:
        """Return the decision for the last column of ``matrix``."""
        ...


def is_constant(matrix: AlignmentMatrix, tolerance: float = 1e-9) -> bool:
    """Return whether every known cell of two or more holds the same value.

    A judge that says the same to everything makes the matrix stand still, and
    standing still looks like convergence. One level and one repeated answer
    can be constant honestly, so this is a reason to look, not a verdict.

    Args:
        matrix: k levels by T iterations, NaN where a cell has no value.
        tolerance: How far two values may lie apart, in units of A.
    """
    known = matrix.values[~np.isnan(matrix.values)]
    return known.size > 1 and float(np.ptp(known)) <= tolerance


@dataclass(frozen=True)
class EpsilonRule:
    """Stop when the norm of the last change is below epsilon (Equation 32)."""

    epsilon: float
    name: str = "epsilon"

    def decide(self, matrix: AlignmentMatrix) -> StopDecision:
        """Compare the last two columns; with one column there is nothing to compare."""
        if matrix.iterations < 2:
            return CONTINUE
        change = float(matrix.deltas[-1])
        if math.isnan(change) or not change < self.epsilon:  # Equation 32
            return CONTINUE
        return StopDecision(True, True, self.name, f"change {change:.4f} < epsilon {self.epsilon}")


@dataclass(frozen=True)
class PatienceRule:
    """Stop when the mean of the matrix has not risen for ``patience`` iterations."""

    patience: int
    minimum_gain: float = 0.0
    name: str = "patience"

    def decide(self, matrix: AlignmentMatrix) -> StopDecision:
        """Compare the best mean before the last ``patience`` columns with those since."""
        if matrix.iterations <= self.patience or np.isnan(matrix.values).all(axis=0).any():
            return CONTINUE
        means = np.nanmean(matrix.values, axis=0)
        before, since = means[: -self.patience].max(), means[-self.patience :].max()
        if since > before + self.minimum_gain:
            return CONTINUE
        reason = f"no gain over {before:.3f} in {self.patience} iterations"
        return StopDecision(True, False, self.name, reason)


@dataclass(frozen=True)
class TargetRule:
    """Stop when every level has reached ``target``."""

    target: float
    name: str = "target"

    def decide(self, matrix: AlignmentMatrix) -> StopDecision:
        """Look at the last column only; a failed cell has reached nothing."""
        column = matrix.values[:, -1]
        if np.isnan(column).any() or not bool((column >= self.target).all()):
            return CONTINUE
        return StopDecision(True, False, self.name, f"every level reached {self.target}")


def first_to_fire(rules: Sequence[StopRule], matrix: AlignmentMatrix) -> StopDecision:
    """Return the decision of the first rule that stops, or the one to continue.

    Args:
        rules: Asked in their order.
        matrix: Its finished columns.
    """
    for rule in rules:
        decision = rule.decide(matrix)
        if decision.stop:
            return decision
    return CONTINUE
