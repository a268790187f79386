"""The teacher's grade as a reward for TRL's trainers of policies (GRPO, RLOO, SDPO).

The columns of the ``prompts`` format hold the question, the rubric and the passages, so that
a completion is judged by the very grader of the loop.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reflectory.agents.citations import split_citations
from reflectory.agents.graders import Grader, GradingTask
from reflectory.agents.teacher import Teacher
from reflectory.agents.verification import Verifier
from reflectory.errors import DatasetError, OutputError
from reflectory.models.thinking import split_thinking
from reflectory.types import Passage

_PASSAGES = TypeAdapter(tuple[Passage, ...])
_NEEDED = ("question", "rubric", "context", "extra")

Completion = str | Sequence[Mapping[str, Any]]


class TeacherReward:
    """A reward function for ``GRPOTrainer(reward_funcs=...)``: the teacher's score in [0, 1].

    Equal completions of a question are graded once. A completion that says nothing gets 0,
    as no grader could find it good; one that could not be graded gets ``None``, which TRL
    leaves out: a failure is never a score.

    TRL calls it in a thread with an event loop of its own, so the grader's model must not be
    in use on another loop at the same time.

    Args:
        grader: What judges.
        verifier: Finds the statements that no passage supports, which a grader in words
            reads; without it the grader is told of none.
        concurrency: Most gradings at a time.

    Attributes:
        graded: Completions that got a score so far.
        failures: Why completions could not be graded, with their number.
    """

    def __init__(
        self, grader: Grader, *, verifier: Verifier | None = None, concurrency: int = 64
    ) -> None:
        self.grader = grader
        self.graded = 0
        self.failures: dict[str, int] = {}
        self._verifier = verifier
        self._concurrency = concurrency
        self.__name__ = "teacher_reward"  # TRL names the metrics after it

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        *,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return one score per completion, in their order.

        Args:
            prompts: What was answered; the columns say the same in parts.
            completions: Texts, or lists of one assistant message.
            log_metric: TRL's; told the share of completions without a score.
            **columns: ``question``, ``rubric``, ``context`` and ``extra``, a value per
                completion; everything else that TRL passes is of no use here.

        Raises:
            DatasetError: A column is missing or holds something else.
            BackendError: The grader's model failed; no score would stand for that.
        """
        missing = [name for name in _NEEDED if name not in columns]
        if missing:
            raise DatasetError(
                f"the rows have no column {', '.join(missing)}",
                hint="train on a data set made with --format prompts",
            )
        tasks = [
            self._task(completion, *values)
            for completion, *values in zip(
                completions, *(columns[name] for name in _NEEDED), strict=True
            )
        ]
        limit = asyncio.Semaphore(self._concurrency)
        distinct = list(dict.fromkeys(tasks))
        scores = dict(
            zip(
                distinct,
                await asyncio.gather(*(self._score(task, limit) for task in distinct)),
                strict=True,
            )
        )
        rewards = [scores[task] for task in tasks]
        self.graded += sum(reward is not None for reward in rewards)
        if log_metric is not None and rewards:
            log_metric("teacher_reward/ungraded", rewards.count(None) / len(rewards))
        return rewards

    def _task(
        self, completion: Completion, question: str, rubric: str, context: Any, extra: Any
    ) -> GradingTask:
        shared, own = _passages(context), _passages(extra)
        # As in the loop: what was thought and the marks of citations are not judged.
        said, _ = split_thinking(_text(completion))
        answer, _ = split_citations(said, (*shared, *own))
        return GradingTask(
            question=question, answer=answer, rubric=rubric or "", context=shared, extra=own
        )

    async def _score(self, task: GradingTask, limit: asyncio.Semaphore) -> float | None:
        if not task.answer.strip():
            return 0.0
        async with limit:
            try:
                feedback = await self.grader.grade(await self._verified(task))
            except OutputError as error:
                reason = error.message
            else:
                if math.isfinite(feedback.score):
                    return feedback.score
                reason = "the score is no number"
        self.failures[reason] = self.failures.get(reason, 0) + 1
        return None

    async def _verified(self, task: GradingTask) -> GradingTask:
        if self._verifier is None:
            return task
        statements = await self._verifier.verify(task.question, task.answer, task.passages)
        unsupported = tuple(task.answer[s.start : s.end] for s in statements if not s.supported)
        return GradingTask(
            question=task.question,
            answer=task.answer,
            rubric=task.rubric,
            context=task.context,
            extra=task.extra,
            unsupported=unsupported,
        )


def reward_function(
    judge: Grader | Teacher, *, verifier: Verifier | None = None, concurrency: int = 64
) -> TeacherReward:
    """Return a reward function of a grader, or of a teacher's grader.

    Args:
        judge: What judges.
        verifier: Finds the statements that no passage supports.
        concurrency: Most gradings at a time.
    """
    grader = judge.grader if isinstance(judge, Teacher) else judge
    return TeacherReward(grader, verifier=verifier, concurrency=concurrency)


def _passages(value: Any) -> tuple[Passage, ...]:
    """Return the passages of a column: JSON text as in our files, or records."""
    try:
        given = json.loads(value) if isinstance(value, str) else value
        return _PASSAGES.validate_python(given or ())
    except (ValueError, ValidationError) as error:
        raise DatasetError(
            f"a column of passages holds something else: {error}",
            hint="train on a data set made with --format prompts",
        ) from error


def _text(completion: Completion) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)
