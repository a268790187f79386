"""Self-Refine: criticism in words and a rewrite, without levels, questions or grades."""

from __future__ import annotations

from collections.abc import AsyncIterator

from reflectory.agents.citations import split_citations
from reflectory.agents.student import context_segments
from reflectory.contenders.protocol import Task
from reflectory.evaluation.records import Attempt
from reflectory.models.protocol import Model, Request, SamplingParameters, Segment, derive_seed

MAX_ROUNDS = 100
"""A rewrite may cost next to nothing; the budget alone would then end late."""


class SelfRefine:
    """Answers, criticises and rewrites until the budget is used up (Madaan et al. 2023).

    The teacher criticises, because the loop it is compared with has one, too. A round that
    changes nothing is not the end: the next criticism is another draw.
    """

    name = "self_refine"
    description = "criticism in words and a rewrite, repeated, without levels"
    sequential = True

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the first answer and each rewrite."""
        question, live = task.question, task.live
        text = (await live.student.respond(question.text, question.context)).text
        yield task.attempt(text, "R_0")
        sampling = live.config.sampling
        for number in range(1, MAX_ROUNDS + 1):
            if not task.more:
                return
            critique = await self._say(
                task,
                live.teacher.model,
                "contender.criticise",
                number,
                sampling.teacher_temperature,
                sampling.response_tokens,  # one or two sentences
                question=question.text,
                answer=text,
            )
            rewritten = await self._say(
                task,
                live.student.model,
                "contender.rewrite",
                number,
                sampling.student_temperature,
                sampling.response_tokens,
                question=question.text,
                answer=text,
                critique=critique or "Nothing.",
            )
            text = rewritten or text
            yield task.attempt(text, f"rewrite {number}")

    async def _say(
        self,
        task: Task,
        model: Model,
        prompt: str,
        number: int,
        temperature: float,
        max_tokens: int,
        **values: str,
    ) -> str:
        loop = task.live.config
        request = Request(
            segments=(
                *context_segments(task.prompts, task.question.context),
                Segment(text=task.prompts.fill(prompt, **values)),
            ),
            role=prompt,
            sampling=SamplingParameters(
                max_tokens=max_tokens,
                temperature=temperature,
                repetition_penalty=loop.sampling.repetition_penalty,
            ),
            seed=derive_seed(loop.seed, prompt, number),
        )
        completion = await model.complete(request)
        return split_citations(completion.text, task.question.context)[0]
