"""A grader that listens to likelihoods instead of verdicts.

Asked for a grade, a small model answers at random; the probability that it
gives an answer under the documents separates right from wrong. The measured
separations are in docs/experiments.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from reflectory.agents.answer_types import AnswerType, expected_type
from reflectory.agents.graders.calibration import Calibration, fit
from reflectory.agents.graders.cases import GradingCase
from reflectory.agents.graders.features import closest_sentence
from reflectory.agents.graders.measuring import READ_APART, measure_together
from reflectory.agents.graders.protocol import GradingTask
from reflectory.agents.prompts import PromptSet
from reflectory.agents.verification import statements_in
from reflectory.models.protocol import Model, content_hash
from reflectory.types import Feedback

SIGNALS = ("information", "prior", "kind", "support", "proximity")
"""The signals that are fitted; more of each speaks for an answer.

``fit`` is measured and not among them: what a student says is what it finds likely, so how
likely its teacher (mostly the same model) finds it tells little about who is right. ``type``
and ``class`` are in ``kind``; ``repeated`` is a rule, see :class:`LikelihoodGrader`, and does
what ``echo`` would.
"""

_REPEATED, _GOOD, _POOR = 0.5, 0.66, 0.33
_ASKED_FOR = {
    AnswerType.DATE: "A date",
    AnswerType.NUMBER: "A number",
    AnswerType.PERSON: "The name of a person",
    AnswerType.PLACE: "A place",
    AnswerType.THING: "A name or a few words",
    AnswerType.CHOICE: "One of those that the question names",
    AnswerType.YES_NO: "Yes or no",
    AnswerType.EXPLANATION: "An explanation",
}
_NUMBER_FORMAT = re.compile(r"/(?:bfloat16|float16|float32|int8)(?:-loops)?")


class LikelihoodGrader:
    """Scores answers by how likely a model finds them, calibrated on known cases.

    An answer that adds no word to the question loses the share of the question
    that it repeats, and so does the question with a phrase around it. That is a rule
    and not a fitted weight: half a question stands in the documents and fits itself
    as well as a good answer does, and cases with half questions would cost the fit
    more than they teach it.

    Args:
        model: What gives likelihoods; it must be able to score.
        prompts: The system text of the loop, so that prefixes are shared.
        calibration: From :func:`calibrate`, for this very model.
    """

    def __init__(self, model: Model, prompts: PromptSet, calibration: Calibration) -> None:
        self._model = model
        self._prompts = prompts
        self.calibration = calibration

    @property
    def fingerprint(self) -> str:
        """The model and the calibration that make the score."""
        return f"likelihood:{self._model.fingerprint}:{self.calibration.fingerprint}"

    async def grade(self, task: GradingTask) -> Feedback:
        """Return the calibrated score, and the reason in terms of what was measured.

        Raises:
            OutputError: There is no answer to grade.
        """
        return (await self.grade_together([task]))[0]

    async def grade_together(self, tasks: Sequence[GradingTask]) -> list[Feedback]:
        """Return the feedback for several answers to one question, from the same few calls.

        Raises:
            OutputError: There is no answer to grade.
        """
        measured = await measure_together(self._model, self._prompts, tasks)
        return [self._feedback(task, found) for task, found in zip(tasks, measured, strict=True)]

    def _feedback(self, task: GradingTask, measured: dict[str, float]) -> Feedback:
        score = self.calibration.score(measured) * (1.0 - measured["repeated"])
        return Feedback(
            score=score,
            reason=reason_for(score, measured, task),
            grader=self.fingerprint,
            signals=measured,
        )


async def calibrate(model: Model, prompts: PromptSet, cases: Sequence[GradingCase]) -> Calibration:
    """Fit the score of a model on cases with known answers.

    Args:
        model: What gives likelihoods.
        prompts: Prompts of the loop.
        cases: Right and wrong answers of several kinds.
    """
    groups = [
        list(group) for _, group in groupby(cases, key=lambda c: (c.task.question, c.task.passages))
    ]
    measured = await asyncio.gather(
        *(measure_together(model, prompts, [case.task for case in group]) for group in groups)
    )
    ordered = [case for group in groups for case in group]
    return fit(
        [row for rows in measured for row in rows],
        [case.right for case in ordered],
        [case.group for case in ordered],
        SIGNALS,
        model=model.fingerprint,
    )


async def calibration_for(
    model: Model, prompts: PromptSet, cases: Sequence[GradingCase], folder: Path
) -> Calibration:
    """Return the calibration for a model: the packaged one, a stored one, or a new one.

    The calibration of the packaged default model ships with the project, made by
    :func:`calibrate` on the cases that ship with it, so that a first run need not
    score them all. The number format of the weights moves the likelihoods far less
    than one answer differs from another, so it is no part of the name.

    Args:
        model: What gives likelihoods.
        prompts: Prompts of the loop.
        cases: What to calibrate on.
        folder: Where calibrations are kept; the file is named by model, prompts, cases,
            signals and how they are measured, so that none is used for anything else.
    """
    key = content_hash(
        _NUMBER_FORMAT.sub("", model.fingerprint),
        prompts.texts["system"],
        prompts.texts["student.answer"],
        [
            (c.group, c.right, c.task.question, c.task.answer, [p.text for p in c.task.passages])
            for c in cases
        ],
        SIGNALS,
        READ_APART,
    )
    name = f"{key[:16]}.json"
    path = folder / name
    for place in (Path(__file__).parent / "calibrations" / name, path):
        if place.exists():
            return Calibration.load(place)
    calibration = await calibrate(model, prompts, cases)
    calibration.save(path)
    return calibration


def reason_for(score: float, measured: dict[str, float], task: GradingTask) -> str:
    """Return in words what the signals of an answer say, and where to look.

    The sentence that is quoted is the one closest to the question: it comes
    from the documents and not from a reference. A statement without evidence is
    named when it is one of several; when it is all, the signals say more.
    """
    several = len(statements_in(task.answer)) > len(task.unsupported)
    part = task.unsupported[0] if task.unsupported and several else ""
    if measured["repeated"] >= _REPEATED:
        verdict = "It repeats the question instead of answering it."
    elif not task.passages:  # what documents say of it says nothing then, nor does the score
        fits = measured["type"] > 0.0 and measured["information"] > 0.0
        return "It fits the question." if fits else "It does not fit the question."
    elif score >= _GOOD:
        verdict = "The documents support it."
        if part:
            verdict = f'The documents support it, but not "{part}"'
    elif measured["support"] < 0.5:
        verdict = "Much of it is not in the documents."
    elif part:
        verdict = f'The documents do not support "{part}"'
    elif measured["type"] <= 0.0:
        verdict = f"{_ASKED_FOR[expected_type(task.question)]} was asked for."
    elif measured["information"] <= 0.0 or score < _POOR:
        verdict = "It does not fit the question."
    else:
        verdict = "The documents support it only in part."
    if score >= _GOOD:
        return verdict
    found = closest_sentence(task.question, task.passages)
    return verdict if found is None else f'{verdict} Look at [{found[0]}]: "{found[1]}"'
