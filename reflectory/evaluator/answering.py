"""Every contender answers every question, and what is finished is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from statistics import median

from reflectory.contenders.protocol import Budget, Contender
from reflectory.errors import BackendError, OutputError, RunStopped, StorageError, UserError
from reflectory.evaluation.answer_store import AnswerStore
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.records import Attempt, BudgetKind, ContenderAnswer
from reflectory.evaluator.arena import Arena
from reflectory.models.protocol import content_hash
from reflectory.runs.directory import RunDirectory
from reflectory.runs.scheduler import run_many
from reflectory.types import Trajectory

Answers = dict[str, dict[str, ContenderAnswer]]
"""Answers by contender and question."""

Budgets = dict[str, dict[BudgetKind, int | None]]
"""Most calls and tokens by question."""


@dataclass(frozen=True)
class Progress:
    """What has just been answered.

    Attributes:
        done: Answers so far, those of earlier sessions included.
        total: Contenders times questions.
        contender: Whose answer it is; or what comes now, when all are there.
        question: Id of the question; empty when it is no answer.
        failure: Why there is none; empty when there is.
    """

    done: int
    total: int
    contender: str
    question: str
    failure: str


OnProgress = Callable[[Progress], None]


class Answering:
    """Lets contenders answer, the reference first: what it spends is the others' budget.

    Args:
        arena: Models and contexts.
        directory: Where trajectories go.
        store: Where answers go.
        contenders: Who answers.
        concurrency: Answers in the making at the same time.
        retry_failed: Ask again where an earlier session recorded a failure.
        on_progress: Told of every answer.
    """

    def __init__(
        self,
        arena: Arena,
        directory: RunDirectory,
        store: AnswerStore,
        contenders: Sequence[Contender],
        *,
        concurrency: int,
        retry_failed: bool = False,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._arena = arena
        self._directory = directory
        self._store = store
        self._contenders = contenders
        self._concurrency = concurrency
        self._retry_failed = retry_failed
        self._on_progress = on_progress
        self._done = self._total = 0

    async def answers(self, items: Sequence[HeldOutItem]) -> tuple[Answers, Budgets]:
        """Return every contender's answers, and what each question may cost.

        Raises:
            UserError: The reference failed on every question and no budget was given.
            StorageError: The disk is full; what is finished is kept.
        """
        settings = self._arena.settings
        self._total = len(items) * len(self._contenders)
        first = [c for c in self._contenders if c.name == settings.reference]
        found: Answers = {contender.name: {} for contender in self._contenders}
        given: Budgets = {
            item.id: {"calls": settings.calls, "tokens": settings.tokens} for item in items
        }
        await self._all([(c, item) for item in items for c in first], given, found)
        budgets = given
        if first and settings.calls is None and settings.tokens is None:
            budgets = budgets_of(found[settings.reference], items)
        rest = [c for c in self._contenders if c.name != settings.reference]
        await self._all(_in_order(items, rest), budgets, found)
        return found, budgets

    async def _all(
        self,
        jobs: Iterable[tuple[Contender, HeldOutItem]],
        budgets: Budgets,
        found: Answers,
    ) -> None:
        async def work(job: tuple[Contender, HeldOutItem]) -> ContenderAnswer:
            contender, item = job
            return await self._answer(contender, item, self._budget(budgets[item.id]))

        results = run_many(jobs, work, concurrency=self._concurrency)
        async with aclosing(results):
            async for answer in results:
                found[answer.contender][answer.id] = answer
                self._done += 1
                self.tell(answer.contender, answer.id, answer.failure)

    def tell(self, what: str, question: str = "", failure: str = "") -> None:
        """Say what has been done, or what comes when all answers are there."""
        if self._on_progress is not None:
            told = Progress(self._done, self._total, what, question, failure)
            self._on_progress(told)

    def _budget(self, limits: Mapping[BudgetKind, int | None]) -> Budget | None:
        """Return the limits of the tables that are made; ``None`` when there are none."""
        kinds = self._arena.settings.budgets
        chosen = {kind: limits[kind] for kind in kinds if limits[kind] is not None}
        return Budget(**chosen) if chosen else None

    async def _answer(
        self, contender: Contender, item: HeldOutItem, budget: Budget | None
    ) -> ContenderAnswer:
        key = self._key(contender, item, budget)
        known = self._store.get(contender.name, item.id, key)
        if known is not None and not (known.failure and self._retry_failed):
            return known
        began = time.perf_counter()
        kept: list[Trajectory] = []
        attempts: list[Attempt] = []
        failure = ""
        try:
            task = self._arena.task(item, budget, kept.append)
            async for attempt in contender.attempts(task):
                attempts.append(attempt)
        except (RunStopped, StorageError):
            raise
        except (UserError, BackendError, OutputError) as error:
            failure = f"{type(error).__name__}: {error.message}"
        if not attempts and not failure:
            failure = "it gave no answer"
        trajectory = await self._keep(contender, key, kept)
        answer = ContenderAnswer(
            contender=contender.name,
            id=item.id,
            key=key,
            attempts=tuple(attempts),
            trajectory=trajectory,
            failure=failure,
            seconds=round(time.perf_counter() - began, 3),
        )
        await asyncio.to_thread(self._store.append, answer)
        return answer

    async def _keep(self, contender: Contender, key: str, kept: Sequence[Trajectory]) -> str | None:
        """Record the reference's trajectory; the calls are on the disk before it is."""
        await asyncio.to_thread(self._directory.calls.sync)
        if not kept or contender.name != self._arena.settings.reference:
            return None
        named = kept[-1].model_copy(update={"id": f"{kept[-1].id}-{key[:8]}"})
        await asyncio.to_thread(self._directory.record, named)
        return named.id

    def _key(self, contender: Contender, item: HeldOutItem, budget: Budget | None) -> str:
        """Return the hash of all that decides an answer and that the run does not fix."""
        settings, parts = self._arena.settings, self._arena.parts_of(item.id)
        told: list[object] = []
        if item.id in self._arena.alone:  # The run fixes its own levels and rubric alone.
            told = [[level.model_dump() for level in parts.config.levels], parts.response_rubric]
        return content_hash(
            contender.name,
            str(getattr(contender, "fingerprint", "")),
            item.question,
            [passage.model_dump(mode="json") for passage in item.context],
            self._arena.retriever_of(item.id).fingerprint,
            None if budget is None else budget.model_dump(),
            [settings.temperature, settings.samples, settings.seed],
            dict(self._arena.prompts_of(item.id).texts),
            *told,
        )


def _in_order(
    items: Sequence[HeldOutItem], contenders: Sequence[Contender]
) -> list[tuple[Contender, HeldOutItem]]:
    """Return all jobs, question by question, those ahead whose calls wait on one another.

    Such a job takes long however many go on beside it, so the last of them would be waited
    for alone. They begin twice as early as their question's others, and fill the gaps that
    waves of samples leave.
    """

    def place(job: tuple[int, Contender, HeldOutItem]) -> float:
        number, contender, _ = job
        return number / 2 if getattr(contender, "sequential", False) else number

    jobs = [(number, c, item) for number, item in enumerate(items) for c in contenders]
    return [(contender, item) for _, contender, item in sorted(jobs, key=place)]


def budgets_of(answers: Mapping[str, ContenderAnswer], items: Sequence[HeldOutItem]) -> Budgets:
    """Return what the reference spent on each question.

    Where it failed, the others get what it spends on the middle one: its failure must
    not take their budget away.

    Raises:
        UserError: It failed everywhere.
    """
    spent = {
        id: answer.attempts[-1]
        for id, answer in answers.items()
        if answer.attempts and not answer.failure
    }
    if not spent:
        failures = "; ".join(sorted({answer.failure for answer in answers.values()})[:3])
        raise UserError(
            f"the reference contender failed on every question: {failures}",
            hint="mend what failed, or choose another evaluation.reference",
        )
    middle: dict[BudgetKind, int | None] = {
        "calls": round(median(attempt.calls for attempt in spent.values())),
        "tokens": round(median(attempt.tokens for attempt in spent.values())),
    }
    return {
        item.id: {"calls": spent[item.id].calls, "tokens": spent[item.id].tokens}
        if item.id in spent
        else middle
        for item in items
    }
