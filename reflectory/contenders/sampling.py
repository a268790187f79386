"""Contenders that ask again: best of N by the judge, and self-consistency.

Both begin with the answer that retrieval alone gives, and go on with samples at a
temperature until the budget is used up. Samples are drawn side by side in waves; each
is metered by itself and they are counted in their order, so that what an attempt costs
depends on no clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from reflectory.agents.agreement import agreement
from reflectory.agents.condensing import asks_shortly, holds, is_brief, short_forms
from reflectory.contenders.protocol import Task
from reflectory.errors import OutputError
from reflectory.evaluation.metrics import normalise_answer, token_f1
from reflectory.evaluation.records import Attempt
from reflectory.models.protocol import derive_seed
from reflectory.types import Feedback

WAVE = 32
"""Most samples of one question that are drawn side by side."""

MAX_EMPTY = 8
"""Ends a question of whose samples so many in a row said nothing."""


@dataclass(frozen=True)
class Sample:
    """One answer that was drawn.

    Attributes:
        number: Its place; 0 is the answer of retrieval alone.
        text: The answer; ``None`` when the student said nothing.
        grade: The judge's, where it was asked and could be read.
        unsupported: Its statements that no passage supports.
    """

    number: int
    text: str | None
    grade: float | None = None
    unsupported: tuple[str, ...] = ()


async def samples(task: Task, *, graded: bool) -> AsyncIterator[Sample]:
    """Draw answers until the budget is used up, in order and metered.

    Args:
        task: Whose meter they are counted by.
        graded: Whether the judge grades each.
    """
    drawn = empty = 0
    while drawn < task.settings.samples and task.more and empty < MAX_EMPTY:
        pays = math.inf if task.budget is None else task.budget.shares(task.meter, drawn)
        size = max(1, math.ceil(min(pays, WAVE, task.settings.samples - drawn)))
        if not drawn:
            size = 1  # its cost says how many more there can be
        pieces = [task.apart() for _ in range(size)]
        work = [_draw(piece, drawn + place) for place, piece in enumerate(pieces)]
        found = await asyncio.gather(*work, return_exceptions=True)
        wave: list[Sample] = []
        for sample in found:
            if isinstance(sample, BaseException):
                raise sample
            wave.append(sample)
        if graded:
            wave = await _graded(task, wave)
        for piece, sample in zip(pieces, wave, strict=True):
            task.meter.add(piece.meter)
            empty = empty + 1 if sample.text is None else 0
            yield sample
        drawn += size


async def _draw(task: Task, number: int) -> Sample:
    student, question = task.live.student, task.question
    if number:
        seed = derive_seed(task.settings.seed, "sample", number)
        student = student.drawing(task.settings.temperature, seed)
    try:
        answer = await student.respond(question.text, question.context)
    except OutputError:
        return Sample(number, None)
    return Sample(number, answer.text, unsupported=answer.unsupported)


async def _graded(task: Task, wave: list[Sample]) -> list[Sample]:
    """Return the samples of a wave with their grades, which the loop's judge gives together.

    What it costs is counted before the first of them. An answer that the judge cannot read
    is never the best.
    """
    said = [sample for sample in wave if sample.text is not None]
    if not said:
        return wave
    found = await task.live.teacher.grade_responses(
        task.question.text,
        [(sample.text or "", sample.unsupported) for sample in said],
        task.question.context,
    )
    grades = {
        sample.number: feedback.score
        for sample, feedback in zip(said, found, strict=True)
        if isinstance(feedback, Feedback)
    }
    return [replace(sample, grade=grades.get(sample.number)) for sample in wave]


class BestOfN:
    """Of all samples so far, the one that the loop's own judge grades best."""

    name = "best_of_n"
    description = "samples, each graded by the loop's judge; the best so far"

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the best answer after each sample; among equals the first."""
        best: Sample | None = None
        async for sample in samples(task, graded=True):
            if sample.text is None:
                continue
            if best is None or _rank(sample) > _rank(best):
                best = sample
            assert best.text is not None
            yield task.attempt(
                best.text, f"sample {best.number} of {sample.number + 1}", best.grade
            )


def _rank(sample: Sample) -> float:
    return -1.0 if sample.grade is None else sample.grade


class BestOfNCondensed:
    """Of all samples so far and of their short stretches, the one that counts most.

    It has all that the loop has beside its examination: the same judge, the same stretches
    of what was said, the same preference for few words and for what samples agree on. What
    the loop is ahead of it is owed to questions and reflection; what it is behind, too.
    """

    name = "best_of_n_condensed"
    description = "samples and their short stretches, by the loop's judge and their agreement"

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the best answer after each sample; among equals the first."""
        settings, question = task.live.config.revision, task.question
        short = asks_shortly(question.text)
        graded: dict[str, float | None] = {}
        held: set[str] = set()
        said: list[str] = []

        def value(text: str) -> float:
            grade = graded[text]
            if grade is None or text not in held:
                return -1.0 if grade is None else grade
            return grade + settings.brevity + settings.agreement * agreement(text, said)

        async for sample in samples(task, graded=True):
            if sample.text is None:
                continue
            said.append(sample.text)
            forms: list[str] = []
            if short and len(graded) - len(said) < settings.condensed:
                most = settings.condensed
                forms = short_forms(question.text, [sample.text], question.context, most=most)
                forms = [form for form in forms if form not in graded]
            graded.setdefault(sample.text, sample.grade)
            graded.update(await _graded_forms(task, forms))
            if short:
                new = (text for text in (sample.text, *forms) if is_brief(text))
                held.update(text for text in new if holds(question.context, text))
            best = max(graded, key=value)
            yield task.attempt(best, f"of {len(said)} samples", graded[best])


async def _graded_forms(task: Task, forms: list[str]) -> list[tuple[str, float | None]]:
    """Return short stretches with their grades, each read as the loop reads its own."""
    question, student = task.question, task.live.student
    answers = [await student.answer_with(f, question.text, question.context) for f in forms]
    graded = await task.live.teacher.grade_responses(
        question.text, [(a.text, a.unsupported) for a in answers], question.context
    )
    return [
        (answer.text, found.score if isinstance(found, Feedback) else None)
        for answer, found in zip(answers, graded, strict=True)
    ]


class SelfConsistency:
    """Of all samples so far, the one that the others agree with most.

    Agreement of two answers is their token F1 after normalisation, so that equal short
    answers are votes (Wang et al. 2023, arXiv:2203.11171) and of free texts the one in
    the middle is taken.
    """

    name = "self_consistency"
    description = "samples; the one that agrees most with the others so far"

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the most agreed answer after each sample; among equals the first."""
        texts: list[str] = []
        votes: list[float] = []
        known: dict[tuple[str, str], float] = {}
        async for sample in samples(task, graded=False):
            if sample.text is None:
                continue
            own = 0.0
            for place, other in enumerate(texts):
                vote = _agreement(sample.text, other, known)
                votes[place] += vote
                own += vote
            texts.append(sample.text)
            votes.append(own)
            # Sums of the same numbers in another order may differ in the last digit.
            best = max(range(len(texts)), key=lambda place: (round(votes[place], 9), -place))
            yield task.attempt(texts[best], f"sample {best} of {sample.number + 1}")


def _agreement(first: str, second: str, known: dict[tuple[str, str], float]) -> float:
    one, other = sorted((normalise_answer(first), normalise_answer(second)))
    if (one, other) not in known:
        known[one, other] = token_f1(one, other)
    return known[one, other]
