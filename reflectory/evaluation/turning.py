"""Answers turned right and turned wrong at each iteration, and what stopping there gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reflectory.errors import UserError
from reflectory.evaluation.weights import Weights, weight
from reflectory.types import Record

if TYPE_CHECKING:  # records.py holds a TurningPoint, so it cannot be imported here
    from reflectory.evaluation.records import Attempt, ContenderAnswer

_RESPONSE = re.compile(r"R_(\d+)")


class TurningPoint(Record):
    """What one iteration did to the answers of all questions.

    A loop that stopped earlier keeps its last answer, so that every iteration is over the
    same questions.

    Attributes:
        iteration: t of the response that came out; 0 is R_0, which turned nothing.
        reached: Loops that really made this iteration.
        turned_right: Questions whose answer was wrong before and is right now.
        turned_wrong: Questions whose answer was right before and is wrong now.
        means: Metrics that stopping here would have given, averaged over all questions.
        chosen: The same when the best response so far by the judge's grade is returned.
    """

    iteration: int = Field(ge=0)
    reached: int = Field(ge=0)
    turned_right: int = Field(ge=0)
    turned_wrong: int = Field(ge=0)
    means: dict[str, float] = Field(default_factory=dict)
    chosen: dict[str, float] = Field(default_factory=dict)


def turning_points(
    answers: Sequence[ContenderAnswer],
    values: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    right: str = "exact_match",
    threshold: float = 0.5,
    weights: Weights | None = None,
) -> tuple[TurningPoint, ...]:
    """Follow a loop's responses R_0, R_1, ... over all questions.

    Attempts whose note is ``R_t`` are the responses, in their order; where no note of an
    answer has that form every attempt is one. A question without any attempt counts in
    every mean as 0 and is never right. The best response so far is the one with the
    highest grade; among equals the latest, as the loop itself chooses, and without any
    grade the last.

    Args:
        answers: Of one contender, one per question.
        values: Per question's id the metrics of its attempts, in the order of the attempts.
        right: The metric that decides whether an answer is right.
        threshold: An answer is right when that metric is at least so high.
        weights: How much a question weighs in a metric, where not all weigh the same; one
            that has no part in ``right`` turns neither way.

    Returns:
        One per iteration up to the longest loop's last; empty when nothing was answered.

    Raises:
        UserError: A question stands twice or has no values, its values are not one per
            attempt, or a metric is missing or not finite somewhere.
    """
    ids = [answer.id for answer in answers]
    if len(set(ids)) != len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise UserError(
            f"the question {twice[0]} stands there {ids.count(twice[0])} times",
            hint="give the answers of one contender, one per question",
        )
    loops = [(a, _responses(a)) for a in answers if a.attempts]
    length = max((len(places) for _, places in loops), default=0)
    if not length:
        return ()
    names = _names(loops[0][0], values, right)
    # Question x iteration x metric; what was never answered stays 0.
    stopped = np.zeros((len(answers), length, len(names)))
    chosen = np.zeros_like(stopped)
    for row, (answer, places) in enumerate(loops):
        table = _table(answer, values, names)
        best = _best_so_far([answer.attempts[n] for n in places])
        for t in range(length):
            at = min(t, len(places) - 1)  # a loop that stopped keeps its last answer
            stopped[row, t] = table[places[at]]
            chosen[row, t] = table[places[best[at]]]
    is_right = stopped[:, :, names.index(right)] >= threshold
    is_right[len(loops) :] = False  # also with a threshold of 0
    rows = [answer.id for answer, _ in loops] + [a.id for a in answers if not a.attempts]
    weighed = np.array([[weight(weights or {}, name, id) for name in names] for id in rows])
    is_right[weighed[:, names.index(right)] == 0.0] = False
    means, chosen_means = _means(stopped, weighed), _means(chosen, weighed)
    return tuple(
        TurningPoint(
            iteration=t,
            reached=sum(len(places) > t for _, places in loops),
            turned_right=int((is_right[:, t] & ~is_right[:, t - 1]).sum()) if t else 0,
            turned_wrong=int((is_right[:, t - 1] & ~is_right[:, t]).sum()) if t else 0,
            means=dict(zip(names, means[t].tolist(), strict=True)),
            chosen=dict(zip(names, chosen_means[t].tolist(), strict=True)),
        )
        for t in range(length)
    )


def _means(values: NDArray[np.float64], weighed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means, (iterations, metrics), of values, (questions, iterations, metrics).

    Args:
        values: As above.
        weighed: How much each question weighs, of shape (questions, metrics).
    """
    if (weighed == 1.0).all():
        return np.asarray(values.mean(axis=0))
    total = np.maximum(weighed.sum(axis=0), np.finfo(np.float64).tiny)
    return np.asarray((values * weighed[:, None, :]).sum(axis=0) / total)


def _responses(answer: ContenderAnswer) -> list[int]:
    """Return the places of R_0, R_1, ... among the attempts."""
    found: dict[int, int] = {}
    for place, attempt in enumerate(answer.attempts):
        if match := _RESPONSE.fullmatch(attempt.note.strip()):
            found.setdefault(int(match[1]), place)
    return [found[t] for t in sorted(found)] or list(range(len(answer.attempts)))


def _best_so_far(attempts: Sequence[Attempt]) -> list[int]:
    """Return for each attempt which of those up to it the judge likes best."""
    best, found = -1, []
    for place, attempt in enumerate(attempts):
        if attempt.grade is not None:
            before = attempts[best].grade if best >= 0 else None
            if before is None or attempt.grade >= before:
                best = place
        found.append(best if best >= 0 else place)
    return found


def _names(
    answer: ContenderAnswer, values: Mapping[str, Sequence[Mapping[str, float]]], right: str
) -> list[str]:
    """Return the metrics that the first question has; all others must have them too."""
    first = next(iter(values.get(answer.id, ())), {})
    if right not in first:
        raise UserError(
            f"the answers to {answer.id} have no {right}, which says whether one is right",
            hint=f"they have {', '.join(sorted(first)) or 'no metrics'}",
        )
    return sorted(first)


def _table(
    answer: ContenderAnswer,
    values: Mapping[str, Sequence[Mapping[str, float]]],
    names: Sequence[str],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return attempts x metrics of one question."""
    rows = values.get(answer.id, ())
    if len(rows) != len(answer.attempts):
        raise UserError(
            f"{answer.id} has {len(answer.attempts)} attempts and the metrics of {len(rows)}",
            hint="measure every attempt, in their order",
        )
    for place, row in enumerate(rows):
        missing = [n for n in names if n not in row or not np.isfinite(row[n])]
        if missing or len(row) != len(names):
            extra = sorted(row.keys() - set(names))
            raise UserError(
                f"attempt {place} at {answer.id} "
                + (f"has no {missing[0]}" if missing else f"alone has {extra[0]}"),
                hint="measure every attempt by the same metrics",
            )
    return np.array([[row[n] for n in names] for row in rows], dtype=np.float64)
