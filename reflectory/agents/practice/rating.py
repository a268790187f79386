"""What a teacher thinks of a question before it is asked: is it one, and is its answer the one?

Both are likelihoods where the teacher can give them: of the question behind the documents
(what reads badly or is about something else is unlikely), and of the answer behind
documents and question against what else the documents name. A teacher that shows only
text answers the question instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from reflectory.agents.citations import content_words
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import answer_segments, context_segments
from reflectory.models.protocol import (
    Capability,
    Model,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
    derive_seed,
)
from reflectory.types import Passage

_ASKING = Segment(text="Question:")
_ANSWER_TOKENS = 32


class Rater:
    """Rates questions with the teacher's eyes.

    Args:
        teacher: The model.
        prompts: What it is told; documents and question as the student reads them.
        seed: Of its answers, where it has to answer.
    """

    def __init__(self, teacher: Model, prompts: PromptSet, *, seed: int = 0) -> None:
        self._teacher = teacher
        self._prompts = prompts
        self._seed = seed
        self.scores = Capability.SCORE in teacher.capabilities

    async def fluency(self, context: Sequence[Passage], questions: Sequence[str]) -> list[float]:
        """Return the log-likelihood per token of each question behind the documents.

        In nats, at most 0. A teacher that cannot score finds all questions alike.
        """
        if not questions or not self.scores:
            return [0.0] * len(questions)
        found = await self._teacher.score(
            ScoreRequest(
                segments=(*context_segments(self._prompts, context), _ASKING),
                continuations=tuple(questions),
                role="teacher.practise",
            )
        )
        return [scores.mean for scores in found.continuations]

    async def lead(
        self, context: Sequence[Passage], question: str, answer: str, rivals: Sequence[str]
    ) -> float | None:
        """Return how much likelier the answer is than the best rival, in nats per token.

        ``None`` where the teacher cannot score, or where there is no rival.
        """
        if not self.scores or not rivals:
            return None
        found = await self._teacher.score(
            ScoreRequest(
                segments=answer_segments(self._prompts, question, context),
                continuations=(answer, *rivals),
                role="teacher.practise",
            )
        )
        own, *others = (scores.mean for scores in found.continuations)
        return own - max(others)

    async def agrees(self, context: Sequence[Passage], question: str, answer: str) -> bool:
        """Return whether the teacher, asked the question, says the answer."""
        completion = await self._teacher.complete(
            Request(
                segments=answer_segments(self._prompts, question, context),
                role="teacher.practise",
                sampling=SamplingParameters(max_tokens=_ANSWER_TOKENS),
                seed=derive_seed(self._seed, "practise.answer", question),
            )
        )
        said, wanted = content_words(completion.text), content_words(answer)
        return bool(wanted) and set(wanted) <= set(said)
