"""Contenders that ask again: best of N by the judge, and self-consistency.

Both begin with the answer that retrieval alone gives, and go on with samples at a
temperature until the budget is used up. Samples are drawn side by side in waves; each
is metered by itself and they are counted in their order, so that what an attempt costs
depends on no clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, repeat

from reflectory.contenders.protocol import Task
from reflectory.errors import OutputError
from reflectory.evaluation.metrics import normalise_answer, token_f1
from reflectory.evaluation.records import Attempt
from reflectory.models.protocol import derive_seed
from reflectory.types import Feedback, Passage

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
    async for wave in waves(task):
        drawn = [sample for _, sample in wave]
        if graded:
            drawn = await _graded(task, drawn)
        for (piece, _), sample in zip(wave, drawn, strict=True):
            task.meter.add(piece.meter)
            yield sample


async def waves(
    task: Task, shown: Iterator[Passage | None] | None = None
) -> AsyncIterator[list[tuple[Task, Sample]]]:
    """Draw answers side by side until the budget is used up, each with what it cost.

    Whoever takes a wave counts it by the task's meter before asking for the next one.

    Args:
        task: Whose budget it is.
        shown: The one passage that each sample after the first reads, endlessly; ``None``
            for all of them.
    """
    reading = repeat(None) if shown is None else chain([None], shown)
    drawn = empty = 0
    while drawn < task.settings.samples and task.more and empty < MAX_EMPTY:
        pays = math.inf if task.budget is None else task.budget.shares(task.meter, drawn)
        size = max(1, math.ceil(min(pays, WAVE, task.settings.samples - drawn)))
        if not drawn:
            size = 1  # its cost says how many more there can be
        pieces = [task.apart() for _ in range(size)]
        work = [_draw(*one) for one in zip(pieces, count(drawn), reading, strict=False)]
        found = await asyncio.gather(*work, return_exceptions=True)
        wave: list[Sample] = []
        for sample in found:
            if isinstance(sample, BaseException):
                raise sample
            wave.append(sample)
            empty = empty + 1 if sample.text is None else 0
        yield list(zip(pieces, wave, strict=True))
        drawn += size


async def _draw(task: Task, number: int, passage: Passage | None) -> Sample:
    student, question = task.live.student, task.question
    if number:
        seed = derive_seed(task.settings.seed, "sample", number)
        student = student.drawing(task.settings.temperature, seed)
    try:
        answer = await student.respond(
            question.text, question.context, None if passage is None else [passage]
        )
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
