"""Which passages a question is about, by how likely they make the question.

A passage from which the question could have been asked is where its answer is likely to
stand: the query likelihood of Ponte and Croft (1998, doi:10.1145/290941.291008), with a
language model that has read the passage (Sachan et al. 2022, arXiv:2204.07496).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import context_segments
from reflectory.models.protocol import Model, ScoreRequest, Segment
from reflectory.types import Passage

REMEMBERED = 16_384
"""Most passages and questions that are remembered; loops at the same time share them."""


class Relevance:
    """Says which passages questions are about, and asks a model of each passage once.

    The context of a loop grows from one iteration to the next, so most of its passages come
    again with the same question.

    Args:
        model: Must be able to score.
        prompts: Holds the prompt ``teacher.relevance``.
    """

    def __init__(self, model: Model, prompts: PromptSet) -> None:
        self._model = model
        self._prompts = prompts
        self._known: dict[tuple[str, Passage], float] = {}

    async def shares(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """Return the probability of each passage given the question, summing to 1.

        Every passage is as likely as the others before the question is known, and a question
        counts with its mean log-likelihood per token, so that long ones do not decide more.

        Args:
            question: Not empty.
            passages: Any number; one alone has probability 1 and is not asked about.
        """
        if len(passages) < 2:
            return [1.0] * len(passages)
        return _normalised(
            await asyncio.gather(*(self._likelihood(question, passage) for passage in passages))
        )

    async def _likelihood(self, question: str, passage: Passage) -> float:
        key = (question, passage)
        if key not in self._known:
            task = Segment(text=self._prompts.fill("teacher.relevance"))
            request = ScoreRequest(
                segments=(*context_segments(self._prompts, [passage]), task),
                continuations=(question,),
                role="teacher.relevance",
            )
            (scored,) = (await self._model.score(request)).continuations
            if len(self._known) >= REMEMBERED:  # the one that has been known longest
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = scored.mean
        return self._known[key]


def _normalised(logarithms: Sequence[float]) -> list[float]:
    known = [-math.inf if math.isnan(value) else value for value in logarithms]
    highest = max(known)
    if not math.isfinite(highest):  # the question is impossible everywhere
        return [1.0 / len(known)] * len(known)
    weights = [math.exp(value - highest) for value in known]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def allotted(shares: Sequence[float], count: int) -> list[int]:
    """Return whole numbers in proportion to shares, by their largest remainders.

    Args:
        shares: Not negative, summing to 1.
        count: What the numbers sum to.

    Returns:
        One number per share; among equal remainders the first share gets more.
    """
    exact = [share * count for share in shares]
    numbers = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: numbers[i] - exact[i])
    for place in by_remainder[: count - sum(numbers)]:
        numbers[place] += 1
    return numbers
