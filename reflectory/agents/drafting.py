"""What a student writes that might become the next response: reflections and fresh answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal

from reflectory.agents.relevance import allotted
from reflectory.agents.student import Student
from reflectory.agents.teacher import Teacher
from reflectory.config import RevisionConfig
from reflectory.errors import OutputError
from reflectory.models.protocol import derive_seed
from reflectory.types import Answer, Examination, Failure, Feedback, Passage, Response

Origin = Literal["kept", "reflection", "drawn", "fresh", "condensed"]

REFLECTION: Origin = "reflection"
DRAWN: Origin = "drawn"
FRESH: Origin = "fresh"

MOST_APART = 8
"""Most passages that fresh answers are written from, the first ones of C_{t+1}."""


@dataclass(frozen=True)
class Option:
    """What might become R_{t+1}.

    Attributes:
        answer: The text with its evidence under C_{t+1}.
        origin: Where it comes from (see :class:`~reflectory.types.Draft`).
        grade: The teacher's, once it is graded.
        failure: Why there is no grade.
        agreement: Share of what was said that holds it, where it is a short answer.
        passage: Id of the one passage it was written from, if it was one.
    """

    answer: Answer
    origin: Origin
    grade: Feedback | None = None
    failure: Failure | None = None
    agreement: float | None = None
    passage: str | None = None

    @property
    def score(self) -> float | None:
        """The teacher's score in [0, 1]; ``None`` without a grade."""
        return None if self.grade is None else self.grade.score

    @property
    def channel(self) -> float | None:
        """How much likelier it makes the question than other names do, in nats, if measured."""
        return None if self.grade is None else self.grade.signals.get("channel")


class Drafting:
    """Writes drafts with a student.

    Args:
        student: Who writes.
        teacher: Says which passages the instruction is about.
        config: How many drafts there are, and what they are written from.
        cheap_grades: Whether grades are likelihoods; decides what ``auto`` means.
        seed: Seed of the loop, for drawn drafts.
    """

    def __init__(
        self,
        student: Student,
        teacher: Teacher,
        config: RevisionConfig,
        *,
        cheap_grades: bool,
        seed: int,
    ) -> None:
        self._student = student
        self._teacher = teacher
        self._temperature = config.temperature
        self._drafts = config.drafts_of(cheap_grades)
        self.fresh = config.fresh_of(cheap_grades)
        self._apart = config.reads_apart(cheap_grades)
        self._seed = seed

    async def write(
        self,
        instruction: str,
        context: Sequence[Passage],
        response: Response,
        cells: Sequence[Examination],
    ) -> tuple[list[Option], list[Failure]]:
        """Return what the student writes, reflections first, and why a try gave nothing.

        Args:
            instruction: I.
            context: C_{t+1}.
            response: R_t.
            cells: The examination of iteration t, which reflections see.
        """

        async def reflection(number: int) -> Option:
            student, origin = self._student, REFLECTION
            if number:
                student, origin = self._drawing("draft", response.iteration, number), DRAWN
            return Option(await student.reflect(instruction, context, response.text, cells), origin)

        async def fresh(number: int, passage: Passage | None) -> Option:
            student = self._drawing("fresh", response.iteration, number)
            if passage is None:
                return Option(await student.respond(instruction, context), FRESH)
            answer = await student.respond(instruction, context, shown=[passage])
            return Option(answer, FRESH, passage=passage.id)

        async def all_fresh() -> list[Option | Failure]:
            read = await self._read(instruction, context)
            tries = (_tried("respond", fresh(n, passage)) for n, passage in enumerate(read))
            return await asyncio.gather(*tries)

        reflections = (_tried("reflect", reflection(n)) for n in range(self._drafts))
        reflected, freshly = await asyncio.gather(asyncio.gather(*reflections), all_fresh())
        found = [*reflected, *freshly]
        return (
            [option for option in found if isinstance(option, Option)],
            [failure for failure in found if isinstance(failure, Failure)],
        )

    def _drawing(self, purpose: str, iteration: int, number: int) -> Student:
        seed = derive_seed(self._seed, purpose, iteration, number)
        return self._student.drawing(self._temperature, seed)

    async def _read(self, instruction: str, context: Sequence[Passage]) -> list[Passage | None]:
        """Return for each fresh answer what it is written from, ``None`` for all passages."""
        read = context[:MOST_APART]
        if not self.fresh or not self._apart or len(context) < 2:
            return [None] * self.fresh
        shares = await self._teacher.relevance(instruction, read)
        numbers = allotted(shares, self.fresh)
        return [passage for passage, times in zip(read, numbers, strict=True) for _ in range(times)]


async def _tried(step: str, writing: Awaitable[Option]) -> Option | Failure:
    try:
        return await writing
    except OutputError as error:
        return Failure(step=step, kind=type(error).__name__, message=error.message, raw=error.raw)
