"""The teacher: asks a question of a level about R_t, and grades through its grader."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

from reflectory.agents.citations import content_words
from reflectory.agents.graders.protocol import Grader, GradingTask, ManyGrader
from reflectory.agents.prompts import PromptSet
from reflectory.agents.relevance import Relevance
from reflectory.agents.student import context_segments
from reflectory.config import Level, LoopConfig
from reflectory.errors import OutputError
from reflectory.models.protocol import (
    Capability,
    Model,
    Request,
    SamplingParameters,
    Segment,
    derive_seed,
)
from reflectory.retrieval.structure import RuleExtractor
from reflectory.types import Feedback, Passage, Question

RESPONSE_RUBRIC = "It answers the whole question, correctly, and the documents support it."
RUBRIC_WITHOUT_DOCUMENTS = "It does everything that the instruction demands."

# A number belongs to a list only with a mark and a space behind it: "1908 was
# the year of what?" keeps its year.
_LIST_MARK = re.compile(r"(?:[-*>#\u2022\s]+|\(?\d{1,2}[.)](?=[\s*_]))*")
# "Question 2:", "Q.", and lead-ins such as "Here is a question at level X:". Behind
# a lead-in a new sentence must begin, for a question may hold a colon itself.
_LABEL = re.compile(
    r"[*_]*(?i:(?:question|q)\s*\d*[*_]*\s*[:.])"
    r"|(?i:[^?:.]{0,60}\bquestion\b[^?:.]{0,60}:)(?=[\W_]*[A-Z])"
)
# Of western, Chinese, Japanese and Arabic texts.
_QUESTION_MARK = re.compile("[?\uff1f\u061f]")
_QUOTES = "\"'`*_ \t\u00a0\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb\u300c\u300d\u300e\u300f"
# Scripts without spaces between words: each of their letters counts as a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+")
_MIN_WORDS = 4
_SCENE = frozenset(content_words("student students teacher teachers"))


class Teacher:
    """Speaks for the teacher side of Algorithm 1.

    Args:
        model: What asks.
        grader: What grades; usually the same model.
        prompts: What the model is told.
        config: Levels, attempts, lengths and the seed of the loop.
        response_rubric: What a good response to the instruction has.
    """

    def __init__(
        self,
        model: Model,
        grader: Grader,
        prompts: PromptSet,
        config: LoopConfig,
        *,
        response_rubric: str = RESPONSE_RUBRIC,
    ) -> None:
        self.model = model
        self.grader = grader
        self._prompts = prompts
        self._relevance = Relevance(model, prompts)
        self._response_rubric = response_rubric
        self._config = config

    async def ask(
        self,
        instruction: str,
        level: Level,
        response: str,
        context: Sequence[Passage],
        *,
        iteration: int,
        asked: Sequence[str] = (),
        unsupported: Sequence[str] = (),
    ) -> Question:
        """Return Q[j,t], a question at ``level`` from (I, l_j, R_t).

        A model that can be prefilled begins with one of the level's starters,
        another one for every try. What is no question, repeats the instruction
        or was asked before in this loop is asked for again with another seed,
        and then begins with something that the documents name.

        Args:
            instruction: I.
            level: l_j.
            response: R_t.
            context: C_t.
            iteration: t.
            asked: Questions of this level in earlier iterations.
            unsupported: Statements of R_t that no document supports; the teacher
                reads them below R_t.

        Raises:
            OutputError: No try gave a usable question; ``raw`` holds the last one.
        """
        task = self._prompts.fill(
            "teacher.ask",
            instruction=instruction,
            response=self._prompts.with_unsupported(response, unsupported),
            level=level.name,
            description=level.description,
        )
        segments = (*context_segments(self._prompts, context), Segment(text=task))
        can_prefill = Capability.PREFILL in self.model.capabilities and bool(level.starters)
        raw = reason = ""
        for attempt in range(self._config.question_attempts):
            starter = ""
            if can_prefill:
                starter = level.starters[(iteration + attempt) % len(level.starters)]
                if attempt:  # what is left to it, a small model asks about the student
                    starter = _about_a_name(starter, context, iteration + attempt)
            request = Request(
                segments=segments,
                role="teacher.ask",
                sampling=SamplingParameters(
                    max_tokens=self._config.sampling.question_tokens,
                    temperature=self._config.sampling.teacher_temperature,
                    repetition_penalty=self._config.sampling.repetition_penalty,
                    stop=("\n",) if can_prefill else (),
                ),
                seed=derive_seed(self._config.seed, "ask", level.name, iteration, attempt),
                prefill=starter,
            )
            completion = await self.model.complete(request)
            raw = completion.text
            text = read_question(raw)
            reason = problem_with_question(text, instruction, asked) or _about_the_scene(
                text, instruction, context
            )
            if not reason:
                return Question(text=text, attempts=attempt + 1)
        tries = self._config.question_attempts
        raise OutputError(
            f"no question at level {level.name!r} after {tries} tries: {reason}",
            raw=raw,
            hint="raise question_attempts or question_tokens, or use a stronger teacher",
        )

    async def relevance(self, instruction: str, context: Sequence[Passage]) -> list[float]:
        """Return how probable it is of each passage that the instruction is about it.

        A passage that was asked about before, with the same instruction, costs no call.

        Args:
            instruction: I.
            context: C_t, or a part of it.

        Returns:
            One probability per passage, summing to 1; the same for all where the model gives
            no likelihoods.
        """
        if Capability.SCORE not in self.model.capabilities:
            return [1.0 / len(context) for _ in context]
        return await self._relevance.shares(instruction, context)

    async def grade_answer(
        self,
        question: str,
        answer: str,
        level: Level,
        context: Sequence[Passage],
        extra: Sequence[Passage],
        unsupported: Sequence[str] = (),
    ) -> Feedback:
        """Return F[j,t] for R[j,t], judged by C[j,t] and the level's rubric.

        Args:
            question: Q[j,t].
            answer: R[j,t].
            level: l_j.
            context: C_t.
            extra: What Q[j,t] retrieved besides.
            unsupported: Statements of R[j,t] that no passage in use supports.

        Raises:
            OutputError: The grader could not be read.
        """
        return await self.grader.grade(
            GradingTask(
                question=question,
                answer=answer,
                rubric=level.rubric,
                context=tuple(context),
                extra=tuple(extra),
                unsupported=tuple(unsupported),
            )
        )

    async def grade_response(
        self,
        instruction: str,
        response: str,
        context: Sequence[Passage],
        unsupported: Sequence[str] = (),
    ) -> Feedback:
        """Return G[t], the grade of R_t itself against I and C_t.

        Args:
            instruction: I.
            response: R_t.
            context: C_t.
            unsupported: Statements of R_t that no passage in use supports.

        Raises:
            OutputError: The grader could not be read.
        """
        return await self.grader.grade(
            GradingTask(
                question=instruction,
                answer=response,
                rubric=self._response_rubric,
                context=tuple(context),
                unsupported=tuple(unsupported),
                apart=False,
            )
        )

    async def grade_responses(
        self,
        instruction: str,
        responses: Sequence[tuple[str, Sequence[str]]],
        context: Sequence[Passage],
    ) -> list[Feedback | OutputError]:
        """Return the grades of several responses to I, each what ``grade_response`` gives it.

        A grader that can judges them together; what cannot be judged has its error instead.

        Drafts may have been written from one passage, so no response is read behind single ones.

        Args:
            instruction: I.
            responses: Each with the statements in it that no passage supports.
            context: What they rest on.
        """
        tasks = [
            GradingTask(
                question=instruction,
                answer=text,
                rubric=self._response_rubric,
                context=tuple(context),
                unsupported=tuple(unsupported),
                apart=False,
            )
            for text, unsupported in responses
        ]
        if len(tasks) > 1 and isinstance(self.grader, ManyGrader):
            with suppress(OutputError):  # one by one, then, to see which it was
                return list(await self.grader.grade_together(tasks))

        async def one(task: GradingTask) -> Feedback | OutputError:
            try:
                return await self.grader.grade(task)
            except OutputError as error:
                return error

        return list(await asyncio.gather(*map(one, tasks)))


def _about_a_name(starter: str, context: Sequence[Passage], turn: int) -> str:
    """Return a starter behind a name of the documents: "Regarding Ada Frey, what"."""
    found = RuleExtractor().extract([passage.text for passage in context])
    names = dict.fromkeys(mention.name for one in found for mention in one.mentions)
    if not names:
        return starter
    return f"Regarding {list(names)[turn % len(names)]}, {starter[:1].lower()}{starter[1:]}"


def _about_the_scene(text: str, instruction: str, context: Sequence[Passage]) -> str:
    """Return why a question is about the examination itself and not about the documents.

    A small model asks what "the student" thinks, as its prompt speaks of one.
    """
    asked = set(content_words(text)) & _SCENE
    if not asked:
        return ""
    read = [instruction, *(f"{passage.title} {passage.text}" for passage in context)]
    if any(asked & set(content_words(part)) for part in read):
        return ""
    return "it asks about the student, not about the documents"


def read_question(raw: str) -> str:
    """Return the first question in what the teacher wrote, or the first line without one.

    Labels ("Question:"), list marks and quotes around it are taken off.
    """
    lines = [line.strip() for line in raw.splitlines() if line.strip()]
    if not lines:
        return ""
    line = next((line for line in lines if _QUESTION_MARK.search(line)), lines[0])
    for mark in (_LIST_MARK, _LABEL, _LIST_MARK):
        found = mark.match(line)
        line = line[found.end() :] if found else line
    end = _QUESTION_MARK.search(line)
    return (line[: end.end()] if end else line).strip(_QUOTES)


def problem_with_question(text: str, instruction: str, asked: Sequence[str]) -> str:
    """Return why a text cannot be asked as a question; empty when it can.

    Args:
        text: What the teacher wrote.
        instruction: I, which no question may repeat.
        asked: Questions that were asked before.
    """
    if not _QUESTION_MARK.match(text[-1:]):
        return "it does not end as a question"
    if len(_WORD.findall(text)) < _MIN_WORDS:
        return "it is too short"
    words = content_words(text)
    if not words:
        return "it asks about nothing"
    if words == content_words(instruction):
        return "it repeats the instruction"
    if any(words == content_words(before) for before in asked):
        return "it was asked before"
    return ""
