"""Contenders that answer once: without documents, and with what is retrieved."""

from __future__ import annotations

from collections.abc import AsyncIterator

from reflectory.agents.citations import split_citations
from reflectory.contenders.protocol import Task
from reflectory.errors import OutputError
from reflectory.evaluation.records import Attempt
from reflectory.models.protocol import Request, SamplingParameters, Segment, derive_seed


class Direct:
    """The student's answer from memory: one call, no documents."""

    name = "direct"
    description = "one answer from memory, without documents"

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the one answer.

        Raises:
            OutputError: The student said nothing.
        """
        sampling = task.live.config.sampling
        request = Request(
            segments=(
                Segment(text=task.prompts.fill("contender.direct", question=task.question.text)),
            ),
            role="contender.direct",
            sampling=SamplingParameters(
                max_tokens=sampling.response_tokens,
                temperature=sampling.student_temperature,
                repetition_penalty=sampling.repetition_penalty,
            ),
            seed=derive_seed(task.live.config.seed, "direct", task.question.text),
        )
        completion = await task.live.student.model.complete(request)
        text, _ = split_citations(completion.text, ())
        if not text:
            raise OutputError("the student said nothing", raw=completion.text)
        yield task.attempt(text, "answer")


class Retrieve:
    """Retrieval and answer, which is the loop's R_0: one call."""

    name = "retrieve"
    description = "one answer from what is retrieved (R_0)"

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the one answer."""
        answer = await task.live.student.respond(task.question.text, task.question.context)
        yield task.attempt(answer.text, "R_0")
