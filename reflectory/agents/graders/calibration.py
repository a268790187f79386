"""From signals to a score in [0, 1], fitted on cases with known answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import IntegrityError, StorageError
from reflectory.models.protocol import content_hash

_FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """A logistic model over signals: score = 1 / (1 + exp(-(bias + w . standardised signals))).

    Attributes:
        names: Signals in use, in order.
        mean: Mean of each signal over the cases.
        scale: Standard deviation of each signal over the cases.
        weights: Weight of each standardised signal.
        bias: Log-odds of an average case, with right and wrong weighted equally.
        cases: How many answers it was fitted on.
        auc: Separation of right from wrong on cases that were left out of the fit.
        model: Fingerprint of the model whose likelihoods these are.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    cases: int
    auc: float
    model: str

    def __post_init__(self) -> None:
        columns = (self.mean, self.scale, self.weights)
        if not self.names or any(len(column) != len(self.names) for column in columns):
            raise ValueError("a calibration needs mean, scale and weight for every signal")
        numbers = np.array([*self.mean, *self.scale, *self.weights, self.bias], dtype=np.float64)
        if not np.isfinite(numbers).all() or min(self.scale) <= 0.0:
            raise ValueError("a calibration needs finite numbers, and scales above 0")

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides a score."""
        return content_hash(self.to_dict())[:12]

    def score(self, signals: Mapping[str, float]) -> float:
        """Return the probability that an answer with these signals is right, in [0, 1]."""
        return float(self.scores([signals])[0])

    def scores(self, rows: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """Return one probability per row of signals, shape (n,)."""
        x = np.array([[row[name] for name in self.names] for row in rows], dtype=np.float64)
        x = x.reshape(-1, len(self.names))
        z = (x - np.array(self.mean)) / np.array(self.scale) @ np.array(self.weights) + self.bias
        return _sigmoid(z)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def save(self, path: Path) -> None:
        """Write the calibration as JSON; a reader sees all of it or nothing.

        Raises:
            StorageError: The file cannot be written.
        """
        # Two processes may calibrate at the same time, so the name is nobody else's.
        staging = path.with_suffix(f".{uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
            staging.replace(path)
        except OSError as error:
            with suppress(OSError):
                staging.unlink()
            raise StorageError(
                f"cannot write the calibration {path}: {error.strerror or error}",
                hint="free some space, or choose another cache folder",
            ) from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            IntegrityError: The file is not a calibration.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            numbers = {name: tuple(data[name]) for name in ("names", "mean", "scale", "weights")}
            return cls(**{**data, **numbers})
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"{path} is not a calibration of a grader: {error!r}",
                hint="delete the file; it is made again",
            ) from error


def fit(
    rows: Sequence[Mapping[str, float]],
    right: Sequence[bool],
    groups: Sequence[str],
    names: Sequence[str],
    *,
    model: str,
) -> Calibration:
    """Fit a calibration on answers of which it is known whether they are right.

    It is a ridge logistic regression without negative weights: that an answer stands in the
    documents never speaks against it, whatever some cases seem to say. Both classes weigh the
    same, which makes 0.5 the score of an answer about which nothing is known,
    however many wrong answers the cases hold.

    Args:
        rows: Signals per answer.
        right: Whether each answer is right; both kinds must occur.
        groups: The case each answer belongs to. The reported separation comes
            from folds that leave whole cases out.
        names: Which signals to use; each is such that more of it speaks for an answer.
        model: Fingerprint of the model that gave the likelihoods.

    Raises:
        ValueError: All answers are of one kind, or of one group.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    x = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    y = np.array(right, dtype=bool)
    if not 0 < y.sum() < y.size:
        raise ValueError("a calibration needs right and wrong answers")
    if len(set(groups)) < 2:
        raise ValueError("a calibration needs answers of two groups or more")
    folds = GroupKFold(n_splits=min(_FOLDS, len(set(groups))))
    held_out = cross_val_predict(
        _logistic(), x, y, groups=groups, cv=folds, method="decision_function"
    )
    fitted = _logistic().fit(x, y)
    scaler, regression = fitted[0], fitted[1]
    return Calibration(
        names=tuple(names),
        mean=tuple(map(float, scaler.mean_)),
        scale=tuple(map(float, scaler.scale_)),
        weights=tuple(map(float, regression.weights_)),
        bias=float(regression.bias_),
        cases=int(y.size),
        auc=float(roc_auc_score(y, held_out)),
        model=model,
    )


def _logistic() -> Any:
    """Return an unfitted regression on standardised signals."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from reflectory.agents.graders.positive_logistic import PositiveLogistic

    return make_pipeline(StandardScaler(), PositiveLogistic())


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0)))
    return result
