"""What the likelihood grader asks a model: how likely an answer is behind which prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reflectory.agents.asked_class import asked_class
from reflectory.agents.graders.features import Likelihoods, signals
from reflectory.agents.graders.names import other_names
from reflectory.agents.graders.protocol import GradingTask
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import answer_segments, context_segments
from reflectory.errors import OutputError
from reflectory.models.protocol import Model, ScoreRequest, Segment, TokenScores
from reflectory.types import Passage

READ_APART = 4
"""Most passages that are read one at a time for a name, the first ones."""

_NAME_WORDS = 6
"""An answer of more words is a sentence, and no name of a class of things."""
_ANSWER = Segment(text="Answer:")

Pair = tuple[TokenScores, TokenScores]


async def measure(model: Model, prompts: PromptSet, task: GradingTask) -> dict[str, float]:
    """Return the signals of one answer (see :func:`~reflectory.agents.graders.features.signals`).

    Two prompts are scored that begin as the student's own: documents and question, as the
    student reads them, and the documents alone; and two without documents, with the question
    and without. A name is scored behind single passages, too, the first four where there are
    several, with the question and without. And there are two more for it, one that names the
    class of thing that was asked for and one that does not; other names of the documents are
    held against these as well.

    Raises:
        OutputError: The answer is empty.
    """
    return (await measure_together(model, prompts, [task]))[0]


async def measure_together(
    model: Model, prompts: PromptSet, tasks: Sequence[GradingTask]
) -> list[dict[str, float]]:
    """Return the signals of several answers to one question, from the same few calls.

    Args:
        model: What gives likelihoods.
        prompts: Prompts of the loop.
        tasks: All with the same question and the same passages.

    Raises:
        OutputError: An answer is empty.
    """
    answers = [task.answer.strip() for task in tasks]
    for task, answer in zip(tasks, answers, strict=True):
        if not answer:
            raise OutputError("there is no answer to grade", raw=task.answer)
    first = tasks[0]
    names = [text for text in dict.fromkeys(answers) if len(text.split()) <= _NAME_WORDS]
    measuring = _Measuring(model, prompts, first)
    told, untold, by_class, apart = await asyncio.gather(
        measuring.with_documents(answers),
        measuring.without_documents(answers),
        measuring.of_class(names),
        measuring.apart(names),
    )
    of_names, beside = by_class
    return [
        signals(
            Likelihoods(*full, *bare, of_names.get(answer), beside, apart.get(answer, ())),
            first.question,
            answer,
            first.passages,
        )
        for answer, full, bare in zip(answers, told, untold, strict=True)
    ]


class _Measuring:
    """Scores answers to one question.

    Args:
        model: What gives likelihoods.
        prompts: Prompts of the loop.
        task: Has the question and the passages.
    """

    def __init__(self, model: Model, prompts: PromptSet, task: GradingTask) -> None:
        self._model = model
        self._prompts = prompts
        self._task = task

    async def with_documents(self, answers: Sequence[str]) -> list[Pair]:
        """Return how likely each is behind all passages, with the question and without."""
        task = self._task
        return await self._both(
            answer_segments(self._prompts, task.question, task.context, task.extra),
            (*context_segments(self._prompts, task.context, task.extra), _ANSWER),
            answers,
        )

    async def without_documents(self, answers: Sequence[str]) -> list[Pair]:
        """Return how likely each is with the question alone, and with nothing."""
        asked = Segment(text=f"Question: {self._task.question}\nAnswer:")
        return await self._both((asked,), (_ANSWER,), answers)

    async def of_class(self, names: Sequence[str]) -> tuple[dict[str, Pair], tuple[Pair, ...]]:
        """Return how likely each is as a name of what was asked for, and as a name.

        And the same of other names of the documents, where the question names a class.
        """
        task = self._task
        wanted = asked_class(task.question) if names else ""
        if not wanted:
            return {}, ()
        others = other_names(task.passages, [task.question])
        held = list(dict.fromkeys((*names, *others)))
        named, plain = Segment(text=f"The name of the {wanted} is"), Segment(text="The name is")
        found = dict(zip(held, await self._both((named,), (plain,), held), strict=True))
        return found, tuple(found[name] for name in others)

    async def apart(self, names: Sequence[str]) -> dict[str, tuple[Pair, ...]]:
        """Return how likely each is behind single passages, with the question and without."""
        passages = self._task.passages
        if not names or len(passages) < 2:  # one alone is all of them
            return {}

        async def behind(passage: Passage) -> list[Pair]:
            question = answer_segments(self._prompts, self._task.question, [passage])
            alone = (*context_segments(self._prompts, [passage]), _ANSWER)
            return await self._both(question, alone, names)

        found = await asyncio.gather(*map(behind, passages[:READ_APART]))
        return dict(zip(names, zip(*found, strict=True), strict=True))

    async def _both(
        self, more: Sequence[Segment], less: Sequence[Segment], texts: Sequence[str]
    ) -> list[Pair]:
        told, untold = await asyncio.gather(self._score(more, texts), self._score(less, texts))
        return list(zip(told, untold, strict=True))

    async def _score(
        self, segments: Sequence[Segment], texts: Sequence[str]
    ) -> tuple[TokenScores, ...]:
        request = ScoreRequest(
            segments=tuple(segments), continuations=tuple(texts), role="teacher.grade"
        )
        return (await self._model.score(request)).continuations
