"""The teacher's own tries at a question whose answer is given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reflectory.agents.citations import content_words
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import context_segments
from reflectory.agents.teacher import problem_with_question, read_question
from reflectory.models.protocol import (
    Capability,
    Model,
    Request,
    SamplingParameters,
    Segment,
    derive_seed,
)
from reflectory.types import Passage

_QUESTION_TOKENS = 40


async def tries_at(
    teacher: Model,
    prompts: PromptSet,
    context: Sequence[Passage],
    answer: str,
    draft: str,
    *,
    attempts: int,
    temperature: float,
    seed: int,
) -> list[str]:
    """Return usable questions that the teacher writes for an answer, in a fixed order.

    A teacher that can be prefilled begins with the question word of the draft, which small
    models need. What is no question, gives the answer away or asks for something else than
    the draft does is left out: half of the draft's words have to be in it.

    Args:
        teacher: The model.
        prompts: What it is told.
        context: What it reads.
        answer: What the question asks for.
        draft: A question for the same answer by rule.
        attempts: How many to draw.
        temperature: Their randomness.
        seed: Of the draws.
    """
    segments = (
        *context_segments(prompts, context),
        Segment(text=prompts.fill("teacher.practise", answer=answer)),
    )
    prefill = draft.split(" ", 1)[0] if Capability.PREFILL in teacher.capabilities else ""

    async def one(attempt: int) -> str:
        completion = await teacher.complete(
            Request(
                segments=segments,
                role="teacher.practise",
                sampling=SamplingParameters(
                    max_tokens=_QUESTION_TOKENS,
                    temperature=temperature,
                    stop=("\n",) if prefill else (),
                ),
                seed=derive_seed(seed, "practise", answer, attempt),
                prefill=prefill,
            )
        )
        return read_question(completion.text)

    found = await asyncio.gather(*(one(n) for n in range(attempts)))
    wanted = set(content_words(draft))
    return [
        text
        for text in dict.fromkeys(found)
        if not problem_with_question(text, "", ())
        and answer.casefold() not in text.casefold()
        and 2 * len(wanted & set(content_words(text))) >= len(wanted)
    ]
