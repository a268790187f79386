"""From a reflection to the next response: drafts, the teacher's grades, and which is accepted.

The survey's Algorithm 1 takes what the student writes after an examination. That can be
worse than what it had, and with small models it mostly is. So a draft becomes R_{t+1} only
when the teacher grades it above R_t under the same context; otherwise R_t stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reflectory.agents.agreement import agreement
from reflectory.agents.condensing import asks_shortly, is_short_answer, short_forms
from reflectory.agents.drafting import DRAWN, FRESH, REFLECTION, Drafting, Option, Origin
from reflectory.agents.student import Student
from reflectory.agents.teacher import Teacher
from reflectory.config import RevisionConfig
from reflectory.errors import OutputError
from reflectory.types import Answer, Draft, Examination, Failure, Feedback, Passage, Response

VOICES: frozenset[Origin] = frozenset({FRESH})
"""Drafts that vote on what the student knows: each was written without the others."""

REFLECTIONS: frozenset[Origin] = frozenset({REFLECTION, DRAWN})
"""Drafts that vote where there are no others; they have seen R_t, and repeat it."""


class Reviser:
    """Writes R_{t+1} with a student and a teacher.

    Args:
        student: Who reflects.
        teacher: Who grades the drafts.
        config: How many drafts, and which is accepted.
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
        self._config = config
        self._condense = config.condenses(cheap_grades)
        self._gain = config.gain_of(cheap_grades)
        self._drafting = Drafting(student, teacher, config, cheap_grades=cheap_grades, seed=seed)
        self._voices = VOICES if self._drafting.fresh else REFLECTIONS

    async def revise(
        self,
        instruction: str,
        context: Sequence[Passage],
        response: Response,
        cells: Sequence[Examination],
        *,
        grown: bool,
        earlier: Sequence[Response] = (),
    ) -> Response:
        """Return R_{t+1}.

        With ``accept: better`` it carries its grade, for the context it was chosen under.

        Args:
            instruction: I.
            context: C_{t+1}.
            response: R_t, with its grade under C_t.
            cells: The examination of iteration t, in order of level.
            grown: Whether C_{t+1} is more than C_t; R_t is graded again then.
            earlier: R_0 to R_{t-1}, whose drafts vote too.
        """
        written, failures = await self._drafting.write(instruction, context, response, cells)
        following = response.iteration + 1
        if self._config.accept == "always":
            if not written:
                return Response(iteration=following, answer=response.answer, failure=failures[0])
            return Response(iteration=following, answer=written[0].answer)
        kept = response.answer
        if grown:
            kept = await self._read_again(kept, instruction, context)
        options = [Option(kept, "kept", None if grown else response.grade), *written]
        condense = self._condense and asks_shortly(instruction)
        if condense:
            options += await self._condensed(instruction, context, options, cells)
        graded = await self._graded(_different(options), instruction, context)
        if condense:
            said = self._said((*earlier, response))
            said += [option.answer.text for option in written if option.origin in self._voices]
            graded = [_with_agreement(o, said, instruction, context) for o in graded]
        known = None if response.grade is None else response.grade.score
        chosen = self._choose(graded, known)
        ranked = sorted(graded, key=lambda o: -1.0 if o.score is None else o.score, reverse=True)
        drafts = tuple(
            Draft(
                text=option.answer.text,
                origin=option.origin,
                score=option.score,
                agreement=option.agreement,
                passage=option.passage,
                channel=option.channel,
            )
            for option in ranked
        )
        failure = chosen.failure
        if failure is None and not written and chosen.origin == "kept":
            failure = failures[0]
        return Response(
            iteration=following,
            answer=chosen.answer,
            grade=chosen.grade,
            failure=failure,
            drafts=drafts,
        )

    async def _read_again(
        self, answer: Answer, instruction: str, context: Sequence[Passage]
    ) -> Answer:
        """Return R_t with the evidence that C_{t+1} has for it; what it named stays named."""
        read = await self._student.answer_with(answer.text, instruction, context)
        own: dict[str, Any] = {"thinking": answer.thinking}
        if answer.cited and answer.cited_by == "student":
            own |= {"cited": answer.cited, "cited_by": answer.cited_by}
        return read.model_copy(update=own)

    async def _condensed(
        self,
        instruction: str,
        context: Sequence[Passage],
        options: Sequence[Option],
        cells: Sequence[Examination],
    ) -> list[Option]:
        said = [option.answer.text for option in options]
        said += [cell.answer.text for cell in cells if cell.answer is not None]
        forms = short_forms(instruction, said, context, most=self._config.condensed)
        answers = await asyncio.gather(
            *(self._student.answer_with(form, instruction, context) for form in forms)
        )
        return [Option(answer, "condensed") for answer in answers]

    async def _graded(
        self, options: Sequence[Option], instruction: str, context: Sequence[Passage]
    ) -> list[Option]:
        """Return the options with their grades; what has one is not graded again."""
        open_ones = [option for option in options if option.grade is None]
        grades = await self._teacher.grade_responses(
            instruction,
            [(option.answer.text, option.answer.unsupported) for option in open_ones],
            context,
        )
        graded = iter(map(_with_grade, open_ones, grades))
        return [next(graded) if option.grade is None else option for option in options]

    def _said(self, responses: Sequence[Response]) -> list[str]:
        """Return what votes of all that the student wrote for R_0 to R_t, chosen or not."""
        first = [response.text for response in responses if response.iteration == 0]
        drafts = (draft for response in responses for draft in response.drafts)
        return first + [draft.text for draft in drafts if draft.origin in self._voices]

    def _choose(self, options: Sequence[Option], known: float | None) -> Option:
        """Return what becomes R_{t+1}; among equals the one that came first, R_t before all.

        Args:
            options: R_t and what might follow it, graded where they could be, and with what
                agrees where it is a short answer.
            known: G[t] under C_t; what R_t is worth when it could not be graded again.
        """

        def value(option: Option) -> float:
            score = known if option is options[0] and option.grade is None else option.score
            if score is None:
                return -1.0
            if option.agreement is None:
                return score
            return score + preference(self._config, option.agreement, option.channel or 0.0)

        best = max(options, key=value)
        kept = options[0]
        return best if value(best) > value(kept) + self._gain else kept


def preference(config: RevisionConfig, votes: float, channel: float) -> float:
    """Return what a short answer that the documents hold counts besides its grade.

    Args:
        config: What few words, votes and the question behind the answer count.
        votes: Share of what was said that holds the answer.
        channel: How much likelier it makes the question than other names do, in nats.
    """
    return config.brevity + config.agreement * votes + config.channel * channel


def _with_grade(option: Option, found: Feedback | OutputError) -> Option:
    if isinstance(found, Feedback):
        return replace(option, grade=found)
    kind = type(found).__name__
    failure = Failure(step="grade", kind=kind, message=found.message, raw=found.raw)
    return replace(option, failure=failure)


def _with_agreement(
    option: Option, said: Sequence[str], instruction: str, context: Sequence[Passage]
) -> Option:
    """Return a short answer with its votes, and others as they are."""
    if not is_short_answer(instruction, option.answer.text, context):
        return option
    return replace(option, agreement=agreement(option.answer.text, said))


def _different(options: Sequence[Option]) -> list[Option]:
    """Return the options without those that say what an earlier one says."""
    found: dict[str, Option] = {}
    for option in options:
        found.setdefault(" ".join(option.answer.text.lower().split()).rstrip("."), option)
    return list(found.values())
