"""The student: answers from context, with evidence for what it says, and reflects."""

from __future__ import annotations

from collections.abc import Sequence

from reflectory.agents.citations import attribute, split_citations
from reflectory.agents.prompts import PromptSet
from reflectory.agents.verification import LexicalVerifier, Verifier, with_evidence
from reflectory.config import SamplingConfig
from reflectory.errors import OutputError
from reflectory.models.protocol import (
    Completion,
    Model,
    Request,
    SamplingParameters,
    Segment,
    derive_seed,
)
from reflectory.retrieval.context import render_passages
from reflectory.types import Answer, Examination, Passage


def context_segments(
    prompts: PromptSet, shared: Sequence[Passage], extra: Sequence[Passage] = ()
) -> tuple[Segment, ...]:
    """Return what every role reads first: the system text and the documents.

    Args:
        prompts: The prompts in use.
        shared: C_t, in order; other calls of the loop begin with the same.
        extra: What only this call sees besides, numbered on from C_t.
    """
    segments = [Segment(text=prompts.fill("system"), speaker="system", shared=True)]
    if shared:
        segments.append(Segment(text=render_passages(shared), shared=True))
    if extra:
        segments.append(Segment(text=render_passages(extra, first_number=len(shared) + 1)))
    return tuple(segments)


def answer_segments(
    prompts: PromptSet,
    question: str,
    context: Sequence[Passage],
    extra: Sequence[Passage] = (),
) -> tuple[Segment, ...]:
    """Return the prompt of an answer; training uses the very same one.

    Args:
        prompts: The prompts in use.
        question: Q[j,t], or the instruction I for R_0.
        context: C_t.
        extra: Passages that were retrieved for this question alone.
    """
    task = Segment(text=prompts.fill("student.answer", question=question))
    return (*context_segments(prompts, context, extra), task)


class Student:
    """Speaks for the student side of Algorithm 1.

    Args:
        model: What answers.
        prompts: What it is told.
        sampling: Lengths and temperatures.
        seed: Seed of the loop; every call derives its own from it.
        verifier: What finds the evidence for its statements; words are compared
            when none is given. The student never reads what it says.
    """

    def __init__(
        self,
        model: Model,
        prompts: PromptSet,
        sampling: SamplingConfig,
        *,
        seed: int,
        verifier: Verifier | None = None,
    ) -> None:
        self.model = model
        self._prompts = prompts
        self._sampling = sampling
        self._seed = seed
        self._verifier = LexicalVerifier() if verifier is None else verifier

    def drawing(self, temperature: float, seed: int) -> Student:
        """Return the same student, but one that draws its tokens with another seed.

        Args:
            temperature: Randomness of everything it says.
            seed: Seed that its draws are derived from.
        """
        return Student(
            self.model,
            self._prompts,
            self._sampling.model_copy(update={"student_temperature": temperature}),
            seed=seed,
            verifier=self._verifier,
        )

    async def respond(
        self,
        instruction: str,
        context: Sequence[Passage],
        shown: Sequence[Passage] | None = None,
    ) -> Answer:
        """Return R_0 = GENERATE(C_0, I).

        Args:
            instruction: I.
            context: C_0, in the order in which it is shown.
            shown: The part of it that the student reads; ``None`` for all. What it says is
                cited and supported by the whole of it all the same.

        Raises:
            OutputError: The model said nothing.
        """
        read = context if shown is None else shown
        request = Request(
            segments=answer_segments(self._prompts, instruction, read),
            role="student.respond",
            sampling=self._parameters(self._sampling.response_tokens),
            seed=derive_seed(self._seed, "respond", instruction),
        )
        said = await self.model.complete(request)
        return await self._read(said, instruction, context, shown=read)

    async def answer(
        self, question: str, context: Sequence[Passage], extra: Sequence[Passage]
    ) -> Answer:
        """Return R[j,t], the answer to Q[j,t] from C[j,t] = C_t and ``extra``.

        Args:
            question: Q[j,t].
            context: C_t, in the order in which it is shown.
            extra: What the question found besides, shown after it.

        Raises:
            OutputError: The model said nothing.
        """
        request = Request(
            segments=answer_segments(self._prompts, question, context, extra),
            role="student.answer",
            sampling=self._parameters(self._sampling.answer_tokens),
            seed=derive_seed(self._seed, "answer", question),
        )
        seen = (*context, *extra)
        return await self._read(await self.model.complete(request), question, seen)

    async def reflect(
        self,
        instruction: str,
        context: Sequence[Passage],
        response: str,
        examinations: Sequence[Examination],
    ) -> Answer:
        """Return R_{t+1}, written from R_t and every (Q, R, F) of the iteration.

        Args:
            instruction: I.
            context: C_{t+1}: C_t and what this iteration added.
            response: R_t.
            examinations: The cells of iteration t, in order of level; failed
                ones have nothing to teach and are left out.

        Raises:
            OutputError: The model said nothing.
        """
        task = self._prompts.fill(
            "student.reflect",
            instruction=instruction,
            response=response,
            examination=render_examination(examinations),
        )
        iteration = examinations[0].iteration if examinations else 0
        request = Request(
            segments=(*context_segments(self._prompts, context), Segment(text=task)),
            role="student.reflect",
            sampling=self._parameters(self._sampling.response_tokens),
            seed=derive_seed(self._seed, "reflect", instruction, iteration),
        )
        return await self._read(await self.model.complete(request), instruction, context)

    async def answer_with(self, text: str, question: str, context: Sequence[Passage]) -> Answer:
        """Return a text as this student's answer, with what it cites and rests on.

        Args:
            text: What is to be its answer, not empty; something it said, or a part of it,
                and so without marks that still had to be read.
            question: What it answers.
            context: What the student saw.
        """
        answer = Answer(
            text=text,
            context=tuple(p.id for p in context),
            cited=attribute(text, context),
            cited_by="overlap",
        )
        return with_evidence(answer, await self._verifier.verify(question, text, context))

    async def _read(
        self,
        completion: Completion,
        question: str,
        context: Sequence[Passage],
        shown: Sequence[Passage] | None = None,
    ) -> Answer:
        """Return what was said as an answer with citations and evidence."""
        answer = _read_answer(completion, context, context if shown is None else shown)
        return with_evidence(answer, await self._verifier.verify(question, answer.text, context))

    def _parameters(self, max_tokens: int) -> SamplingParameters:
        return SamplingParameters(
            max_tokens=max_tokens,
            temperature=self._sampling.student_temperature,
            repetition_penalty=self._sampling.repetition_penalty,
        )


def render_examination(examinations: Sequence[Examination]) -> str:
    """Return the questions, answers and feedback of one iteration as the student reads them."""
    blocks = [
        f"- {cell.question.text}\n  You said: {cell.answer.text}\n"
        f"  Grade {cell.feedback.score:.1f} of 1: {cell.feedback.reason}"
        for cell in examinations
        if cell.question is not None and cell.answer is not None and cell.feedback is not None
    ]
    return "\n".join(blocks) if blocks else "- (nothing could be examined)"


def _read_answer(
    completion: Completion, context: Sequence[Passage], shown: Sequence[Passage]
) -> Answer:
    text, cited = split_citations(completion.text, shown)  # by its number among what it read
    if not text:
        raise OutputError(
            "the student said nothing",
            raw=completion.thinking or completion.text,
            hint="raise the token limit of the student, or try another model",
        )
    return Answer(
        text=text,
        context=tuple(p.id for p in context),
        cited=cited or attribute(text, context),
        cited_by="student" if cited else "overlap",
        thinking=completion.thinking,
    )
