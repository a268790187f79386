"""What the likelihood grader asks a model: how likely an answer is behind which prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reflectory.agents.asked_class import asked_class
from reflectory.agents.citations import content_words
from reflectory.agents.graders.features import Channel, Likelihoods, signals
from reflectory.agents.graders.names import other_names
from reflectory.agents.graders.protocol import GradingTask
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import answer_segments, context_segments
from reflectory.errors import OutputError
from reflectory.models.protocol import Model, ScoreRequest, Segment, TokenScores
from reflectory.types import Passage

READ_APART = 3
"""Most passages that are read one at a time for a name, the first ones."""

_NAME_WORDS = 6
"""An answer of more words is a sentence, and no name of a class of things."""
_ANSWER = Segment(text="Answer:")

Pair = tuple[TokenScores, TokenScores]


async def measure(model: Model, prompts: PromptSet, task: GradingTask) -> dict[str, float]:
    """Return the signals of one answer (see :func:`~reflectory.agents.graders.features.signals`).

    Two prompts are scored that begin as the student's own: documents and question, as the
    student reads them, and the documents alone; and two without documents, with the question
    and without. A name is scored behind single passages, too, the first three where there are
    several, with the question and without; and where it may have been written from one of
    them, the question is scored behind the name instead. And there are two more prompts for
    it, one that names the class of thing that was asked for and one that does not. Other names
    of the documents are held against these and against what is scored behind the name.

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
        tasks: Alike in all but the answer and what it lacks.

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
    told, (untold, channel), by_class, apart = await asyncio.gather(
        measuring.with_documents(answers),
        measuring.without_documents(answers, names),
        measuring.of_class(names),
        measuring.apart(names),
    )
    of_names, beside = by_class
    return [
        signals(
            Likelihoods(
                *full,
                *bare,
                of_class=of_names.get(answer),
                others=beside,
                apart=apart.get(answer, ()),
                channel=channel.get(answer),
            ),
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

    async def without_documents(
        self, answers: Sequence[str], names: Sequence[str]
    ) -> tuple[list[Pair], dict[str, Channel]]:
        """Return how likely each is with the question alone and with nothing.

        And of names that say no word of the question, how likely the question is behind the
        name and behind others of the documents: the call that reads answers with nothing
        before them tells this, too.
        """
        question = self._task.question
        said = set(content_words(question))
        own = [] if self._task.apart else [n for n in names if not said & set(content_words(n))]
        others = other_names(self._task.passages, [question]) if own else []
        held = list(dict.fromkeys((*own, *others))) if others else []
        alone = list(dict.fromkeys((*answers, *held)))
        told, found = await asyncio.gather(
            self._score((Segment(text=f"Question: {question}\nAnswer:"),), answers),
            self._score((_ANSWER,), [*alone, *(f"{name}\nQuestion: {question}" for name in held)]),
        )
        untold = dict(zip(alone, found, strict=False))
        behind = {
            name: both.total - untold[name].total
            for name, both in zip(held, found[len(alone) :], strict=True)
        }
        beside = {name: tuple(behind[o] for o in others if o != name) for name in own if held}
        return (
            [(with_it, untold[answer]) for with_it, answer in zip(told, answers, strict=True)],
            {name: (behind[name], rest) for name, rest in beside.items() if rest},
        )

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
        if not self._task.apart or not names or len(passages) < 2:  # one alone is all of them
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
