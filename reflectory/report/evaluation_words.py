"""What an evaluation says in plain sentences, for the terminal and the page alike.

What may be claimed is decided in :mod:`reflectory.evaluation.multiple`; here it is put together
with what the judge's trial and the matrices show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reflectory.evaluation.comparison import FEW_ROWS, PairedComparison
from reflectory.evaluation.judge.records import JudgeReport, Separation
from reflectory.evaluation.matrices import MatrixReport
from reflectory.evaluation.multiple import Verdict, claims_of_all, verdict
from reflectory.evaluation.multiple import claims as claim
from reflectory.evaluation.records import (
    BudgetKind,
    ContenderComparison,
    ContenderRow,
    EvaluationReport,
)
from reflectory.evaluation.weights import BY_INSTRUCTION

BUDGETS: dict[BudgetKind, str] = {
    "calls": "the same number of model calls",
    "tokens": "the same number of tokens",
}
"""What a table holds equal, in words."""

LEGEND = (
    "* is compared with the others. ! may be claimed: the interval excludes zero and the "
    "corrected p-value is small enough."
)
"""What the marks in a table mean."""


@dataclass(frozen=True)
class Standing:
    """One row of a table as it is shown.

    Attributes:
        row: The contender.
        versus: The reference contender against it on the primary metric; ``None`` for the
            reference itself and where nothing was compared.
        verdict: What that allows to say; ``None`` where nothing was compared.
        reference: Whether this is the reference contender.
    """

    row: ContenderRow
    versus: ContenderComparison | None
    verdict: Verdict | None
    reference: bool = False

    @property
    def claimed(self) -> bool:
        """Whether a difference is claimed, after the correction for several contenders."""
        return self.verdict in ("beats", "loses")


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number as it is shown; ``-`` where there is none or it is not finite."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    # A difference of -0.0004 is shown as no difference, without a sign.
    return text.lstrip("+-") if sign and not any(c in "123456789" for c in text) else text


def probability(value: float | None) -> str:
    """Return a p-value as it is shown."""
    if value is None or not math.isfinite(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(result: PairedComparison) -> str:
    """Return the two ends of the interval of a difference."""
    return f"{number(result.low, sign=True)} to {number(result.high, sign=True)}"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as ``1 question`` or ``3 questions``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    *most, last = tuple(names)
    return f"{', '.join(most)} and {last}" if most else last


def metrics_of(report: EvaluationReport) -> list[str]:
    """Return the names of the metrics, the primary one first."""
    found = {report.primary: None}
    for rows in report.tables.values():
        for row in rows:
            found |= dict.fromkeys(row.means)
    return list(found)


def standings(report: EvaluationReport, budget: BudgetKind) -> list[Standing]:
    """Return the rows of one table, the highest mean of the primary metric first.

    Of equal ones the cheaper comes first.
    """
    versus = {
        c.contender: c
        for c in report.comparisons
        if c.budget == budget and c.metric == report.primary
    }

    def place(standing: Standing) -> tuple[float, float, str]:
        mean = standing.row.means.get(report.primary, math.nan)
        rank = -mean if math.isfinite(mean) else math.inf
        return rank, standing.row.calls, standing.row.contender

    found = []
    for row in report.tables[budget]:
        reference = row.contender == report.reference
        compared = None if reference else versus.get(row.contender)
        said = None if compared is None else verdict(compared)
        found.append(Standing(row, compared, said, reference))
    return sorted(found, key=place)


def headline(report: EvaluationReport) -> list[str]:
    """Return what was asked and, for each table, against how many anything is claimed."""
    seconds = f", in {duration(report.seconds)}" if report.seconds else ""
    return [
        f"{counted(report.rows, 'question')} of {report.name}; claims rest on {report.primary}"
        f"{seconds}.",
        *(
            claims_of_all(report.comparisons, report.primary, budget, report.reference)
            for budget in report.tables
        ),
    ]


def claims(report: EvaluationReport, budget: BudgetKind) -> list[str]:
    """Return a sentence for each difference that was seen, and one that names the others."""
    rows = [s for s in standings(report, budget) if not s.reference]
    said = [
        claim(s.versus, report.reference)
        for s in rows
        if s.versus is not None and s.verdict in ("beats", "loses", "ahead", "behind", "same")
    ]
    if names := [s.row.contender for s in rows if s.verdict == "open"]:
        whose = (
            "the interval of its difference holds" if len(names) == 1 else "their intervals hold"
        )
        said.append(f"Nothing is claimed about {listed(names)}: {whose} zero.")
    if names := [s.row.contender for s in rows if s.verdict == "few"]:
        said.append(
            f"Nothing is claimed about {listed(names)}: intervals of fewer than {FEW_ROWS} "
            "questions are not to be believed."
        )
    if names := [s.row.contender for s in rows if s.versus is None]:
        said.append(f"Not compared on {report.primary}: {listed(names)}.")
    return said


def turning_words(report: EvaluationReport) -> list[str]:
    """Return what the iterations of the reference contender did, in sentences."""
    points = [p for p in report.turning if p.iteration > 0]
    if not points:
        return []
    moved = [p for p in points if p.turned_right or p.turned_wrong]
    losing = [f"t={p.iteration}" for p in moved if p.turned_right <= p.turned_wrong]
    right, wrong = sum(p.turned_right for p in points), sum(p.turned_wrong for p in points)
    said = [f"Over all iterations {right:,} turned right and {wrong:,} turned wrong."]
    if not moved:
        said.append("No iteration changed whether an answer is right.")
    elif losing:
        said.append(f"No more answers turned right than wrong at {listed(losing)}.")
    else:
        said.append("Each iteration that changed anything turned more right than wrong.")
    known = {p.iteration: p.means.get(report.primary) for p in report.turning}
    best = max(
        (t for t, v in known.items() if v is not None and math.isfinite(v)),
        key=lambda t: known[t] or 0.0,
        default=None,
    )
    if best is not None:
        said.append(
            f"Seen afterwards, stopping at t={best} would have given the highest "
            f"{report.primary}, {number(known[best])}; chosen on the same questions, so it "
            "flatters."
        )
    return said


def judge_words(judge: JudgeReport) -> list[str]:
    """Return the verdicts of the judge's trial and its main figures, in sentences."""
    said = [_sentence(verdict) for verdict in judge.verdicts]
    if not said:
        said.append("The trial found nothing wrong with the judge.")
    said += [_separation(found) for found in judge.separations]
    if judge.epsilon is not None:
        seen = f", seen in {judge.epsilon_from}" if judge.epsilon_from else ""
        said.append(
            f"An epsilon of at least {number(judge.epsilon)} lies above the judge's noise{seen}."
        )
    said += [_sentence(note) for note in judge.notes]
    return said


def _separation(found: Separation) -> str:
    chance = "" if found.low > 0.5 else ", which may be chance"
    return (
        f"Right answers against {found.kind}: area {number(found.area, 2)} "
        f"({number(found.low, 2)} to {number(found.high, 2)}{chance}), "
        f"{found.right:,} right and {found.wrong:,} wrong."
    )


def matrix_words(found: MatrixReport) -> list[str]:
    """Return what the alignment matrices show, in sentences."""
    said = []
    rises = [(level.level, level.rise) for level in found.levels if level.rise is not None]
    for name, rise in rises:
        if number(rise.difference, sign=True) == number(0.0):
            verb = "stays,"
        else:
            verb = "rises" if rise.difference > 0 else "falls"
        sure = "" if rise.excludes_zero and not rise.few else ", not distinguishable from zero"
        said.append(
            f"{name}: A {verb} from {number(rise.before)} to {number(rise.after)} "
            f"({interval(rise)}{sure}) over {counted(rise.rows, 'loop')}."
        )
    if found.order is not None:
        significant = found.order_p is not None and found.order_p < 0.05
        direction = "longer" if found.order > 0 else "less long"
        verdict = (
            f"take {direction} to settle" if significant else "settle neither sooner nor later"
        )
        said.append(
            f"Higher levels {verdict} (tau {number(found.order, 2)}, "
            f"p {probability(found.order_p)})."
        )
    stops = [f"{rule} {sum(by.values()):,}" for rule, by in sorted(found.stops.items())]
    if stops:
        said.append(f"{counted(found.loops, 'loop')} stopped by: {', '.join(stops)}.")
    said += [
        f"Look twice: {counted(count, 'loop')} with the flag {flag}."
        for flag, count in sorted(found.flags.items())
    ]
    if found.failed_cells:
        said.append(f"{found.failed_cells:,} of {counted(found.cells, 'cell')} have no value.")
    return said


def warnings_of(report: EvaluationReport) -> list[str]:
    """Return what a reader has to know before believing a number."""
    said = list(dict.fromkeys(report.warnings))
    if report.rows < FEW_ROWS and not any("few" in warning for warning in said):
        said.insert(0, f"few rows: {report.rows}, read every difference with care")
    return said


def weighing(report: EvaluationReport) -> str:
    """Return how questions weigh in the means, where not all weigh the same; else nothing."""
    by_number = [name for name in report.weights if name in BY_INSTRUCTION]
    said = [f"{listed(by_number)}: means over instructions."] if by_number else []
    of_how_many: dict[int, list[str]] = {}
    for name, own in report.weights.items():
        of_how_many.setdefault(sum(value > 0.0 for value in own.values()), []).append(name)
    said += [
        f"{listed(names)}: over the {counted(count, 'question')} that can be measured so."
        for count, names in of_how_many.items()
        if count < report.rows
    ]
    return " ".join(said)


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _sentence(text: str) -> str:
    """Return a text that begins large and ends with a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
