"""What is wrong with a judge, in plain sentences.

The bounds are conventions, stated here so that they can be argued about. None is reached
by a judge that knows right from wrong and says so with a little noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reflectory.evaluation.judge import cases
from reflectory.evaluation.judge.biases import PaddingChange
from reflectory.evaluation.judge.records import Correlation, JudgeReport, Separation

CHANCE = 0.6
"""An area below this is called no better than chance."""
UNREADABLE = 0.05
NOISE = 0.1
"""Standard deviation of a score above which two gradings of one answer cannot be compared."""
REPEATS = 0.01
PADDING = 0.1
LENGTH = 0.3
POSITION = 0.2
CALIBRATION = 0.15
_SURE = 0.01
_FEWEST_QUESTIONS = 5
_FEWEST_ANSWERS = 20
_FEWEST_FOR_CALIBRATION = 50

_WRONG = {
    cases.SAME_DOCUMENTS: "another name, date or number of the same documents",
    cases.SAME_TYPE: "one of the same type in the same documents",
    cases.OTHER_ROWS: "the answer to another question",
    cases.OTHER_OPTION: "the other option that the question names",
    cases.OPPOSITE: "its opposite",
    cases.ECHO: "the question itself",
    cases.COPY: "a copied sentence that does not hold it",
    cases.EMPTY: "a phrase that says nothing",
}


def verdicts_on(
    report: JudgeReport,
    *,
    padding: PaddingChange | None = None,
    padding_wrong: PaddingChange | None = None,
    answers: int = 0,
) -> tuple[str, ...]:
    """Return the sentences, the gravest first; none when nothing is wrong.

    Args:
        report: What was measured.
        padding: Change of right answers by padding.
        padding_wrong: The same for wrong ones.
        answers: Graded answers of students whose truth is known.
    """
    found: list[str] = []
    if report.judgements and report.unreadable / report.judgements > UNREADABLE:
        share = report.unreadable / report.judgements
        found.append(f"{share:.0%} of its judgements cannot be read.")
    if report.collapsed:
        found.append(
            f"It says the same to everything: {report.most_common:.0%} of its scores are "
            f"{report.common_score:.2f}."
            if report.most_common >= 0.5
            else "It says nearly the same to everything: its scores hardly differ."
        )
    found += _separations(report.separations)
    found += _noise(report)
    found += _length(report, padding, padding_wrong)
    if report.position is not None and report.position > POSITION:
        side = "first" if (report.position_first or 0.0) >= 0.5 else "last"
        found.append(
            f"It looks at the order: {report.position:.0%} of its preferences change when the "
            f"answers are swapped, mostly for the one shown {side}."
        )
    found += [text for c in report.agreement if (text := _agreement(c))]
    error = report.calibration_error
    enough = report.calibrated_on == "answers" and answers >= _FEWEST_FOR_CALIBRATION
    if enough and error is not None and error > CALIBRATION:
        found.append(
            f"Its scores are no probabilities: they are {error:.2f} away from the share of right "
            "answers on average."
        )
    return tuple(found)


def _separations(separations: Sequence[Separation]) -> list[str]:
    """Return one sentence for all kinds of which the same is to be said."""
    said: dict[str, list[str]] = {}
    for s in separations:
        if s.questions < _FEWEST_QUESTIONS:
            continue
        if s.high < 0.5:
            sentence = "It prefers to a right answer:"
        elif s.area < CHANCE:
            sentence = "It cannot tell a right answer from"
        elif s.low <= 0.5:
            sentence = "It is not shown to tell a right answer from"
        else:
            continue
        figures = f"(area {s.area:.2f} [{s.low:.2f}, {s.high:.2f}])"
        said.setdefault(sentence, []).append(f"{_WRONG.get(s.kind, s.kind)} {figures}")
    return [f"{sentence} {'; '.join(kinds)}." for sentence, kinds in said.items()]


def _noise(report: JudgeReport) -> list[str]:
    found = []
    if report.noise > NOISE:
        found.append(
            f"It contradicts itself: asked again, its score for the same answer differs by "
            f"{report.noise:.2f} (standard deviation)."
        )
    elif report.repeat_noise > REPEATS:
        found.append(
            f"It does not repeat itself: the same judge, asked the same in another order, "
            f"differs by {report.repeat_noise:.3f} (standard deviation)."
        )
    # What asking again would have changed as well is no matter of wording.
    wording = math.sqrt(max(0.0, report.wording_noise**2 - report.noise**2))
    if wording > NOISE:
        found.append(
            f"It looks at the wording: a final stop or an article changes its score by "
            f"{wording:.2f} (standard deviation)."
        )
    return found


def _length(
    report: JudgeReport, padding: PaddingChange | None, padding_wrong: PaddingChange | None
) -> list[str]:
    found = []
    length = report.length
    if length is not None and _is_sure(length, LENGTH):
        rho = length.rho or 0.0
        found.append(
            f"It prefers {'long' if rho > 0 else 'short'} answers: among equally wrong ones, "
            f"score and length have a rank correlation of {rho:+.2f}."
        )
    for change, which in ((padding, "right"), (padding_wrong, "wrong")):
        if change is not None and change.sure and abs(change.mean) >= PADDING:
            verb = "raise" if change.mean > 0 else "lower"
            found.append(
                f"Words that say nothing {verb} its score for a {which} answer by "
                f"{abs(change.mean):.2f}."
            )
    return found


def _is_sure(c: Correlation, least: float) -> bool:
    """Return whether a correlation is at least so strong in either direction, beyond chance."""
    return c.rho is not None and abs(c.rho) >= least and c.p_value is not None and c.p_value < _SURE


def _agreement(c: Correlation) -> str:
    if c.count < _FEWEST_ANSWERS or not c.of.startswith("G and "):
        return ""
    metric = c.of.removeprefix("G and ")
    if c.rho is None:
        return ""
    if c.rho > 0.0 and c.p_value is not None and c.p_value < 0.05 and (c.low is None or c.low > 0):
        return ""
    interval = "" if c.low is None else f" [{c.low:+.2f}, {c.high:+.2f}]"
    return (
        f"Its grade is not shown to follow {metric} (rank correlation {c.rho:+.2f}{interval} "
        f"over {c.count} answers)."
    )
