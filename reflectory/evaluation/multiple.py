"""One contender against several: paired comparisons, corrected for their number.

With seven baselines one of them loses by luck in every fifth evaluation or so. Holm's
correction bounds the chance that any claim of one metric is such luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from reflectory.errors import UserError
from reflectory.evaluation.comparison import FEW_ROWS, PairedComparison, compare
from reflectory.evaluation.records import (
    BudgetKind,
    ContenderComparison,
    ContenderRow,
    ScoredAnswer,
)
from reflectory.evaluation.weights import Weights, weight

Verdict = Literal["beats", "loses", "ahead", "behind", "open", "same", "few"]
"""What a comparison allows to say of the reference contender; see :func:`verdict`."""

UNRANKED = frozenset({"words"})
"""Metrics of which neither more nor less is better."""

_SHOWN_IDS = 3


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none may end below
    one that was smaller, and none above 1. The chance of any false claim among those
    with a corrected value of at most alpha is at most alpha, however they depend on one
    another.

    Args:
        p_values: Each in [0, 1].

    Raises:
        UserError: A value is not in [0, 1].
    """
    for value in p_values:
        if not 0.0 <= value <= 1.0:  # False for NaN as well
            raise UserError(f"{value} is no p-value", hint="give probabilities between 0 and 1")
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def compare_contenders(
    reference: ContenderRow,
    others: Sequence[ContenderRow],
    metrics: Sequence[str],
    budget: BudgetKind,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    weights: Weights | None = None,
) -> tuple[ContenderComparison, ...]:
    """Compare the reference contender with every other one of a table.

    Answers are paired by the id of their question, in whatever order they come.
    ``before`` is the other contender and ``after`` the reference, so that a positive
    difference speaks for the reference. P-values are two-sided; each metric is corrected
    over the contenders by itself, as claims rest on one metric chosen beforehand.

    Args:
        reference: The contender that claims are made for.
        others: The contenders it is compared with; may be empty.
        metrics: Names of metrics that every answer has.
        budget: Which table the rows are of.
        confidence: Of the intervals, in (0, 1).
        resamples: Draws of bootstrap and test.
        seed: Seed of both; all comparisons draw the same questions.
        weights: How much a question weighs in a metric, where not all weigh the same; one
            that has no part in a metric is not compared on it.

    Returns:
        Metric by metric, the contenders of each in the order given.

    Raises:
        UserError: Two contenders have the same name or answered different questions, a
            question stands twice, or an answer lacks a metric.
    """
    names = [reference.contender, *(row.contender for row in others)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"several contenders are called {', '.join(twice)}",
            hint="give each contender a name of its own",
        )
    known, answers = _by_id(reference), [_by_id(row) for row in others]
    for row, found in zip(others, answers, strict=True):
        _same_questions(reference, known, row, found)
    ids = sorted(known)  # one order for all, so that no order of rows changes a figure
    comparisons: list[ContenderComparison] = []
    for metric in metrics if others else ():
        own = {i: weight(weights or {}, metric, i) for i in ids}
        ids_of = [i for i in ids if own[i] > 0.0]
        after = _column(reference, known, ids_of, metric)
        results = [
            compare(
                _column(row, found, ids_of, metric),
                after,
                name=metric,
                confidence=confidence,
                resamples=resamples,
                seed=seed,
                alternative="two-sided",
                interval="expanded",
                weights=[own[i] for i in ids_of],
            )
            for row, found in zip(others, answers, strict=True)
        ]
        adjusted = holm([result.p_value for result in results])
        comparisons += [
            ContenderComparison(
                budget=budget, contender=row.contender, metric=metric, result=result, adjusted=p
            )
            for row, result, p in zip(others, results, adjusted, strict=True)
        ]
    return tuple(comparisons)


def verdict(comparison: ContenderComparison) -> Verdict:
    """Return what a comparison allows to say of the reference contender.

    Returns:
        ``few`` below :data:`FEW_ROWS` questions, whatever they show; ``same`` when no
        question differs; ``beats`` or ``loses`` where the interval excludes zero and the
        corrected p-value is at most 1 - confidence; ``ahead`` or ``behind`` where only
        the interval does; ``open`` otherwise.
    """
    result = comparison.result
    if result.few:
        return "few"
    if not result.better + result.worse:
        return "same"
    if not result.excludes_zero:
        return "open"
    # Rounded, because 1 - 0.95 is a little more than 0.05.
    if comparison.adjusted <= round(1.0 - result.confidence, 12):
        return "beats" if result.difference > 0.0 else "loses"
    return "ahead" if result.difference > 0.0 else "behind"


def claims(comparison: ContenderComparison, reference: str = "the loop") -> str:
    """Say in one plain sentence what may be claimed.

    Args:
        comparison: The reference contender against another one.
        reference: What the reference contender is called in the sentence.
    """
    result, other, metric = comparison.result, comparison.contender, comparison.metric
    seen = f"{result.after:.3f} against {result.before:.3f} over {_questions(result)}"
    if metric in UNRANKED:
        return f"{_first(reference)} has {seen} of {other} in {metric}, where neither is better."
    found = verdict(comparison)
    if found == "few":
        return (
            f"{_first(reference)} has {seen} of {other} in {metric}: fewer than {FEW_ROWS} "
            "questions show too little to claim anything."
        )
    if found == "same":
        return (
            f"{_first(reference)} and {other} have the same {metric} on every one of "
            f"{_questions(result)} ({result.after:.3f})."
        )
    interval = f"[{result.low:+.3f}, {result.high:+.3f}] at {result.confidence:.0%}"
    figures = (
        f"{seen}, {result.difference:+.3f} {interval}, corrected p = {comparison.adjusted:.2g}"
    )
    if found in ("beats", "loses"):
        says = "beats" if found == "beats" else "loses to"
        return f"{_first(reference)} {says} {other} in {metric}: {figures}."
    if found in ("ahead", "behind"):
        says = "ahead of" if found == "ahead" else "behind"
        return (
            f"{_first(reference)} is {says} {other} in {metric} when the two are looked at alone, "
            f"which does not outlast the correction for several contenders: {figures}."
        )
    return f"Between {reference} and {other} no difference in {metric} can be claimed: {figures}."


def claims_of_all(
    comparisons: Sequence[ContenderComparison],
    metric: str,
    budget: BudgetKind,
    reference: str = "the loop",
) -> str:
    """Say in one sentence against how many contenders a table claims anything.

    That *every* contender is beaten needs no correction: it is only true when the least
    certain comparison holds, and that one is not the luckiest of several
    (intersection-union test, Berger 1982). So it is claimed where every interval excludes zero
    and every p-value by itself is small enough.

    Args:
        comparisons: Of all metrics and tables.
        metric: The one to speak of.
        budget: The table to speak of.
        reference: What the reference contender is called in the sentence.
    """
    chosen = [c for c in comparisons if c.metric == metric and c.budget == budget]
    under = f"in {metric} with the same {budget}"
    if not chosen:
        return f"{_first(reference)} was compared with nobody {under}."
    if any(c.result.few for c in chosen):
        return (
            f"Fewer than {FEW_ROWS} questions: nothing is claimed of {reference} against "
            f"{_contenders(len(chosen))} {under}."
        )
    if all(_alone(c) for c in chosen):
        every = chosen[0].contender if len(chosen) == 1 else f"all {len(chosen)} contenders"
        return f"{_first(reference)} beats {every} {under}."
    counted: Mapping[Verdict, list[str]] = {
        kind: [c.contender for c in chosen if verdict(c) == kind] for kind in ("beats", "loses")
    }
    parts = [f"beats {', '.join(counted['beats'])}"] if counted["beats"] else []
    parts += [f"loses to {', '.join(counted['loses'])}"] if counted["loses"] else []
    rest = len(chosen) - len(counted["beats"]) - len(counted["loses"])
    if not parts:
        return f"Between {reference} and {_contenders(rest)} no difference can be claimed {under}."
    left = f"; against {_contenders(rest)} no difference can be claimed" if rest else ""
    return f"{_first(reference)} {' and '.join(parts)} {under}{left}."


def _alone(comparison: ContenderComparison) -> bool:
    """Return whether the reference is better by this comparison alone."""
    result = comparison.result
    return result.low > 0.0 and result.p_value <= round(1.0 - result.confidence, 12)


def _contenders(count: int) -> str:
    return "one contender" if count == 1 else f"{count} contenders"


def _questions(result: PairedComparison) -> str:
    return "one question" if result.rows == 1 else f"{result.rows} questions"


def _first(name: str) -> str:
    """Return a name as a sentence begins with it; names of contenders stay as they are."""
    return f"The{name[3:]}" if name.startswith("the ") else name


def _by_id(row: ContenderRow) -> dict[str, ScoredAnswer]:
    found = {answer.id: answer for answer in row.answers}
    if not found:
        raise UserError(
            f"{row.contender} has no answers to compare", hint="evaluate at least one question"
        )
    if len(found) != len(row.answers):
        ids = [answer.id for answer in row.answers]
        twice = sorted({i for i in found if ids.count(i) > 1})
        raise UserError(
            f"{row.contender} has several answers to {_some(twice)}",
            hint="give each question an id of its own",
        )
    return found


def _same_questions(
    reference: ContenderRow,
    known: Mapping[str, ScoredAnswer],
    row: ContenderRow,
    found: Mapping[str, ScoredAnswer],
) -> None:
    if different := sorted(known.keys() ^ found.keys()):
        raise UserError(
            f"{reference.contender} and {row.contender} did not answer the same questions: "
            f"only one of them has {_some(different)}",
            hint="record a question without an answer as one whose text is None",
        )


def _column(
    row: ContenderRow, found: Mapping[str, ScoredAnswer], ids: Sequence[str], metric: str
) -> list[float]:
    """Return a metric question by question; without an answer it is 0."""
    values = []
    for i in ids:
        value = found[i].values.get(metric, None if found[i].text is not None else 0.0)
        if value is None or not math.isfinite(value):
            raise UserError(
                f"the answer of {row.contender} to {i} has no {metric}"
                + ("" if value is None else f", but {value}"),
                hint=f"it has {', '.join(sorted(found[i].values)) or 'no metrics'}",
            )
        values.append(float(value))
    return values


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(ids[:_SHOWN_IDS]) + more
