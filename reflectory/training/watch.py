"""Stopping early: what is held back is measured, and the best weights stay.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


class Watch:
    """Measures at intervals and remembers the weights of the best measurement.

    Args:
        measure: Returns the loss on what is held back.
        parameters: Returns what is trained, by name.
        every: Steps between two measurements.
        patience: Measurements without progress before training shall stop.

    Attributes:
        checks: Step and loss of every measurement, the start among them as step 0.
        best_step: Step with the lowest loss, the earliest of equals.
    """

    def __init__(
        self,
        measure: Callable[[], float],
        parameters: Callable[[], Mapping[str, torch.Tensor]],
        *,
        every: int,
        patience: int,
    ) -> None:
        self._measure = measure
        self._parameters = parameters
        self._every = every
        self._patience = patience
        self.checks: list[tuple[int, float]] = []
        self.best_step = 0
        self.weights: dict[str, torch.Tensor] = {}

    def due(self, step: int, last: bool) -> bool:
        """Return whether this step is one to measure after; the last always is."""
        return last or step % self._every == 0

    def look(self, step: int) -> bool:
        """Measure, and return whether training shall stop."""
        loss = self._measure()
        best = min((value for _, value in self.checks), default=float("inf"))
        self.checks.append((step, loss))
        if loss < best or not self.weights:  # a loss that is no number is never the best
            self.best_step = step
            self.weights = {n: p.detach().clone() for n, p in self._parameters().items()}
            return False
        without = sum(at > self.best_step for at, _ in self.checks)
        return without >= self._patience

    def restore(self) -> None:
        """Put the best weights back."""
        copy_weights(self.weights, self._parameters())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps besides the weights, as JSON types."""
        return {"checks": self.checks, "best_step": self.best_step}

    def load(self, state: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
        """Take what :meth:`state` and ``weights`` were."""
        self.checks = [(int(step), float(loss)) for step, loss in state["checks"]]
        self.best_step = int(state["best_step"])
        self.weights = dict(weights)


def copy_weights(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
    """Copy weights by name into the parameters of a model."""
    with torch.no_grad():
        for name, parameter in target.items():
            parameter.copy_(source[name])
