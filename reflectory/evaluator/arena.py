"""Where contenders meet their questions: live models, contexts and meters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reflectory.agents import PromptSet
from reflectory.assembly import Parts
from reflectory.config import EvaluationConfig, LoopConfig
from reflectory.contenders.meter import Meter, MeteredModel
from reflectory.contenders.prompts import with_contenders
from reflectory.contenders.protocol import AskedQuestion, Budget, Task
from reflectory.contenders.without_documents import (
    NoDocuments,
    parts_without_documents,
    prompts_without_documents,
)
from reflectory.errors import UserError
from reflectory.evaluation.held_out import HeldOutItem, find_contexts
from reflectory.evaluation.set_rows import EvaluationItem, EvaluationQuestion
from reflectory.evaluation.sets import EvaluationSet
from reflectory.graphs.state import LoopContext
from reflectory.models.protocol import Model
from reflectory.retrieval import resolve_retriever
from reflectory.retrieval.retriever import Retriever
from reflectory.runs.budget import Ledger
from reflectory.runs.cached_model import CachedModel
from reflectory.runs.call_cache import CallCache
from reflectory.types import Document, Flag, Trajectory


def documents_for(
    questions: EvaluationSet, settings: EvaluationConfig, documents: Sequence[Any]
) -> Any:
    """Return what questions without documents of their own are answered from.

    Args:
        questions: The set, maybe with a pool of paragraphs.
        settings: Names documents, maybe.
        documents: Those of the run.

    Raises:
        UserError: There are such questions with references alone, and no documents.
    """
    if settings.documents:
        return list(settings.documents)
    if questions.pool:
        return list(questions.pool)
    if documents:
        return documents
    bare = (q.id for q in questions.questions if not q.documents and not q.constraints)
    if (id := next(bare, None)) is not None:
        raise UserError(
            f"the question {id} has nothing to be answered from",
            hint="give its row `documents`, or set documents or evaluation.documents",
        )
    return NoDocuments()


def ids_without_documents(
    questions: EvaluationSet, settings: EvaluationConfig, documents: Sequence[Any]
) -> frozenset[str]:
    """Return the ids of the questions that are answered without documents.

    These have constraints and no documents of their own, and no documents were named. The
    paragraphs that rows of other questions brought with them are for questions with references.

    Args:
        questions: The set.
        settings: Names documents, maybe.
        documents: Those of the run.
    """
    if settings.documents or (documents and not questions.pool):
        return frozenset()
    return frozenset(
        q.id
        for q in questions.questions
        if q.constraints and not q.documents and not (q.references and questions.pool)
    )


class Arena:
    """Gives every contender the same question, models and documents.

    Args:
        parts: The live objects of the loop.
        calls: The call cache of the run.
        settings: The evaluation's configuration.
        ledger: The budget of the run, over all contenders.
        alone: Ids of the questions that are answered without documents.
    """

    def __init__(
        self,
        parts: Parts,
        calls: CallCache,
        settings: EvaluationConfig,
        ledger: Ledger | None = None,
        *,
        alone: frozenset[str] = frozenset(),
    ) -> None:
        self.parts = parts
        self.settings = settings
        self.prompts: PromptSet = with_contenders(parts.prompts)
        self.alone = alone
        self._alone_prompts = prompts_without_documents(self.prompts, parts.config)
        self._alone_parts = parts_without_documents(parts, self._alone_prompts)
        self._calls = calls
        self._ledger = ledger
        self._cached: dict[int, CachedModel] = {}
        self._retrievers: dict[str, Retriever] = {}

    @property
    def hits(self) -> int:
        """Calls of this session that were answered from the cache."""
        return sum(model.hits for model in self._cached.values())

    def cached(self, model: Model) -> CachedModel:
        """Return a model behind the call cache; the same one each time."""
        # Kept alive by the cache that wraps it, so that no other gets its identity.
        if id(model) not in self._cached:
            asked = model if self._ledger is None else self._ledger.around(model)
            self._cached[id(model)] = CachedModel(asked, self._calls)
        return self._cached[id(model)]

    async def items(self, questions: Sequence[EvaluationQuestion]) -> list[EvaluationItem]:
        """Retrieve C_0 of each question, the same for all contenders.

        Raises:
            UserError: A question has nothing to be answered from.
        """
        reading = [q for q in questions if q.id not in self.alone]
        contexts = {item.id: item.context for item in await self._contexts(reading)}
        return [
            EvaluationItem(
                id=q.id,
                question=q.question,
                references=q.references,
                context=contexts.get(q.id, ()),
                constraints=q.constraints,
            )
            for q in questions
        ]

    async def _contexts(self, questions: Sequence[EvaluationQuestion]) -> list[HeldOutItem]:
        makers = [q for q in questions if q.documents]
        made = await asyncio.gather(*(asyncio.to_thread(self._over, q.documents) for q in makers))
        self._retrievers = {q.id: retriever for q, retriever in zip(makers, made, strict=True)}
        # find_contexts() hands over the documents alone: they are told by identity.
        of_documents = {id(q.documents): self._retrievers[q.id] for q in makers}
        return await find_contexts(
            questions,
            self.parts.retriever,
            self.parts.config.retrieval,
            self.parts.student.count_tokens,
            own=lambda documents: of_documents[id(documents)],
        )

    def retriever_of(self, question: str) -> Retriever:
        """Return where a question's passages come from: its own documents, or all."""
        return self._retrievers.get(question, self.parts_of(question).retriever)

    def parts_of(self, question: str) -> Parts:
        """Return the live objects for a question: with documents, or those without."""
        return self._alone_parts if question in self.alone else self.parts

    def prompts_of(self, question: str) -> PromptSet:
        """Return the prompts for a question: with documents, or those without."""
        return self._alone_prompts if question in self.alone else self.prompts

    def task(
        self, item: HeldOutItem, budget: Budget | None, record: Callable[[Trajectory], None]
    ) -> Task:
        """Return a question as one contender gets it, with a meter of its own."""
        retriever, known = self.retriever_of(item.id), self.parts_of(item.id)

        def live(meter: Meter, config: LoopConfig | None) -> LoopContext:
            parts = replace(known, retriever=retriever, config=config or known.config)
            return parts.context(lambda model: MeteredModel(self.cached(model), meter))

        def keep(trajectory: Trajectory) -> None:
            if item.id in self.alone:  # Nothing was to be found, so nothing is missing.
                flags = tuple(f for f in trajectory.flags if f is not Flag.NO_CONTEXT)
                trajectory = trajectory.model_copy(update={"flags": flags})
            record(trajectory)

        meter = Meter()
        return Task(
            question=AskedQuestion.of(item),
            budget=budget,
            settings=self.settings,
            prompts=self.prompts_of(item.id),
            meter=meter,
            live=live(meter, None),
            open_live=live,
            record=keep,
            fingerprints=known.fingerprints(),
        )

    def _over(self, documents: Sequence[Document]) -> Retriever:
        return resolve_retriever(
            list(documents),
            self.parts.embedder,
            self.parts.config.retrieval,
            count_tokens=self.parts.student.count_tokens,
            passage_embedder=self.parts.remembered,
        )
