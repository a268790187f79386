"""The judge's noise, and from it an epsilon that means something.

A matrix that truly stands still moves all the same when the judge's score does. The norm
of that movement is what epsilon (Equation 32) has to lie above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reflectory.evaluation.judge.areas import Floats
from reflectory.evaluation.metrics import normalise_answer
from reflectory.types import Trajectory

QUANTILE = 0.95
"""Share of still iterations whose norm lies below the recommended epsilon."""
FEWEST_CHANGES = 8
"""Fewer observed changes than this say nothing about a distribution."""
_SIMULATED = 20_000
_DIGITS = 3


@dataclass(frozen=True)
class MatrixFacts:
    """What is known of the matrices that epsilon is for.

    Attributes:
        levels: k.
        similarities: Similarities of cells (Equation 31), in [0, 1]. Without any, 1 is
            taken, the most that a score can weigh: epsilon is then an upper bound.
        still: Changes of A from one iteration to the next in cells whose answer stayed the
            same text.
    """

    levels: int = 4
    similarities: tuple[float, ...] = ()
    still: tuple[float, ...] = ()

    @classmethod
    def of(cls, trajectories: Iterable[Trajectory]) -> MatrixFacts:
        """Read similarities and still cells from finished loops, in one pass."""
        levels = 0
        similarities: list[float] = []
        still: list[float] = []
        for trajectory in trajectories:
            levels = max(levels, len(trajectory.levels))
            cells: dict[str, list[tuple[int, str, float]]] = {}
            for cell in trajectory.examinations:
                if cell.alignment is None or cell.similarity is None or cell.answer is None:
                    continue
                similarities.append(max(0.0, cell.similarity))
                said = normalise_answer(cell.answer.text)
                cells.setdefault(cell.level, []).append((cell.iteration, said, cell.alignment))
            for row in cells.values():
                for (t, said, before), (later, again, after) in pairwise(sorted(row)):
                    if later == t + 1 and said == again:
                        still.append(after - before)
        return cls(levels or cls.levels, tuple(similarities), tuple(still))


@dataclass(frozen=True)
class Recommendation:
    """An epsilon and what it rests on (see :class:`JudgeReport` for the fields)."""

    similarity: float
    matrix_noise: float
    epsilon: float | None
    source: str


def deviation(asked: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of a score when the same is asked again.

    Args:
        asked: All scores of each case; cases with fewer than two take no part.

    Returns:
        The root of the mean variance within cases, each unbiased; 0 without any.
    """
    variances = [float(np.var(scores, ddof=1)) for scores in asked if len(scores) > 1]
    return math.sqrt(sum(variances) / len(variances)) if variances else 0.0


def changes(asked: Sequence[Sequence[float]]) -> Floats:
    """Return the differences of consecutive scores of each case."""
    return np.array(
        [after - before for scores in asked for before, after in pairwise(scores)],
        dtype=np.float64,
    )


def recommend(
    drawn: Floats, worded: Floats, facts: MatrixFacts, *, seed: int = 0
) -> Recommendation:
    """Return an epsilon above the judge's noise.

    With scores of noise s on both sides, a cell that stands still changes by a number of
    standard deviation s * sqrt(2) * similarity, and the norm over k levels has the root mean
    square s * sqrt(2k) * similarity. Scores are bounded and their noise is often none at
    most answers and much at a few, so the observed changes themselves are drawn instead of
    normal ones: for each of k levels one change and one similarity. Epsilon is the 95%
    quantile of that norm, or its root mean square where that is larger.

    Changes are seen in up to three ways, and the largest epsilon is recommended: by asking
    again; by wording, which is all that moves a judge that draws nothing, and which holds
    the drawing too where a judge draws anew for every text, so that the two are not added;
    and, where loops were recorded, in the cells whose answer stayed the same text, another
    question and another context included.

    Args:
        drawn: Changes of a score by asking again, shape (n,).
        worded: Changes of a score by wording, shape (m,).
        facts: Of the matrices.
        seed: Of the simulation.
    """
    random = np.random.default_rng(seed)
    similar = np.asarray(facts.similarities or (1.0,), dtype=np.float64)
    still = np.asarray(facts.still, dtype=np.float64)
    shape = (_SIMULATED, facts.levels)
    found = [("", 0.0, 0.0)]
    for source, observed in (("asking again", drawn), ("wording", worded)):
        if observed.size:
            moved = random.choice(observed, shape) * random.choice(similar, shape)
            found.append((source, *_norm(moved)))
    if still.size >= FEWEST_CHANGES:
        found.append(("cells whose answer stayed the same", *_norm(random.choice(still, shape))))
    source, noise, bound = max(found, key=lambda entry: entry[2])
    scale = 10.0**_DIGITS
    return Recommendation(
        similarity=float(np.sqrt(np.mean(similar**2))),
        matrix_noise=noise,
        epsilon=math.ceil(bound * scale) / scale if bound > 0.0 else None,
        source=source,
    )


def _norm(moved: Floats) -> tuple[float, float]:
    """Return root mean square and bound of Equation 32 over simulated columns."""
    norms = np.linalg.norm(moved, axis=1)  # Equation 32
    spread = float(np.sqrt(np.mean(norms**2)))
    return spread, max(spread, float(np.quantile(norms, QUANTILE)))
