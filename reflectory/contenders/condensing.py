"""Contenders that have the loop's means without its examination."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count

from reflectory.agents.agreement import agreement
from reflectory.agents.condensing import asks_shortly, is_short_answer, short_forms
from reflectory.agents.drafting import MOST_APART
from reflectory.agents.revision import preference
from reflectory.contenders.protocol import Task
from reflectory.contenders.sampling import waves
from reflectory.evaluation.records import Attempt
from reflectory.types import Feedback, Passage


class BestOfNCondensed:
    """Of all samples so far and of their short stretches, the one that counts most.

    It has the loop's judge, the same stretches of what was said, and the same preference for
    few words and for what samples agree on. What it lacks are questions, reflections and
    answers from single passages. It grades a wave of samples with their stretches at once,
    which leaves more of its budget for samples.
    """

    name = "best_of_n_condensed"
    description = "samples and their short stretches, by the loop's judge and their agreement"

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the best answer after each sample; among equals the first."""
        settings, question = task.live.config.revision, task.question
        short = asks_shortly(question.text)
        grades: dict[str, Feedback | None] = {}
        known: set[str] = set()
        said: list[str] = []
        seen: list[str] = []
        stretches = 0

        def value(text: str) -> float:
            grade = grades[text]
            if grade is None:
                return -1.0
            if not (short and is_short_answer(question.text, text, question.context)):
                return grade.score
            channel = grade.signals.get("channel", 0.0)
            return grade.score + preference(settings, agreement(text, said), channel)

        async for wave in waves(task, await self._shown(task)):
            new: dict[int, list[str]] = {}
            for _, sample in wave:
                texts = [] if sample.text is None else [sample.text]
                if texts and short:
                    most = settings.condensed
                    forms = short_forms(question.text, texts, question.context, most=most)
                    texts += [form for form in forms if form not in known][: most - stretches]
                    stretches += len(texts) - 1
                new[sample.number] = [text for text in dict.fromkeys(texts) if text not in known]
                known.update(texts)
            grades |= await _graded_texts(task, [text for texts in new.values() for text in texts])
            for piece, sample in wave:
                task.meter.add(piece.meter)
                if sample.text is None:
                    continue
                said.append(sample.text)
                seen += new[sample.number]
                best = max(seen, key=value)
                graded = grades[best]
                score = None if graded is None else graded.score
                yield task.attempt(best, f"of {len(said)} samples", score)

    async def _shown(self, task: Task) -> Iterator[Passage | None] | None:
        """Return which passage each sample reads; ``None`` for all of them."""
        return None


class BestOfNApart(BestOfNCondensed):
    """The same with samples that read one passage each, as the loop's fresh answers do.

    It has all that the loop has beside its examination. What the loop is ahead of it is owed
    to questions and reflection; what it is behind, too.
    """

    name = "best_of_n_apart"
    description = "samples that read one passage each, and their stretches, chosen the same way"

    async def _shown(self, task: Task) -> Iterator[Passage | None] | None:
        passages = task.question.context[:MOST_APART]
        if len(passages) < 2:
            return None
        shares = await task.live.teacher.relevance(task.question.text, passages)
        return _in_proportion(passages, shares)


def _in_proportion(passages: Sequence[Passage], shares: Sequence[float]) -> Iterator[Passage]:
    """Yield passages endlessly, each time the one that is furthest behind its share."""
    times = [0] * len(passages)
    for number in count(1):
        place = max(range(len(passages)), key=lambda i: shares[i] * number - times[i])
        times[place] += 1
        yield passages[place]


async def _graded_texts(task: Task, texts: list[str]) -> dict[str, Feedback | None]:
    """Return texts with their grades, given together, each read as the loop reads its own."""
    question, student = task.question, task.live.student
    answers = [await student.answer_with(t, question.text, question.context) for t in texts]
    graded = await task.live.teacher.grade_responses(
        question.text, [(a.text, a.unsupported) for a in answers], question.context
    )
    return {
        answer.text: found if isinstance(found, Feedback) else None
        for answer, found in zip(answers, graded, strict=True)
    }
