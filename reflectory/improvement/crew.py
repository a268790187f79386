"""The models and documents of a run of rounds: opened when a stage needs them, once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reflectory.agents import PromptSet, Student
from reflectory.agents.verification import LexicalVerifier
from reflectory.assembly import Parts, Sources
from reflectory.config import LoopConfig, RunConfig
from reflectory.errors import UserError
from reflectory.graphs.state import LoopContext
from reflectory.improvement.documents import Split, split_documents
from reflectory.loop import ReflectiveLoop
from reflectory.models.protocol import Model
from reflectory.models.resolve import ModelPool
from reflectory.models.torch_thread import in_torch_thread
from reflectory.retrieval import resolve_retriever
from reflectory.retrieval.context import aggregate
from reflectory.retrieval.retriever import Retriever
from reflectory.runs.budget import Ledger
from reflectory.runs.cached_model import CachedModel
from reflectory.runs.call_cache import CallCache
from reflectory.types import Passage

Find = Callable[[str], Awaitable[list[Passage]]]


@dataclass(frozen=True)
class Contestant:
    """A student that answers the held-out questions.

    Attributes:
        model: Its model, behind the call cache.
        student: Answers as it does in a loop.
    """

    model: Model
    student: Student


class Crew:
    """Opens what a stage needs and gives all memory back before training.

    Args:
        sources: What the user named or handed over.
        settings: The configuration of the run.
    """

    def __init__(self, sources: Sources, settings: RunConfig) -> None:
        self._given = sources
        self.settings = settings
        self._split: Split | None = None
        self._loop: ReflectiveLoop | None = None
        self._adapter: Path | None = None
        self._calls: CallCache | None = None
        self._ledger: Ledger | None = None
        self._wrapped: dict[int, CachedModel] = {}
        self._hits = 0
        self.loop_config: LoopConfig = settings.loop

    def use(self, calls: CallCache, ledger: Ledger | None = None) -> None:
        """Record every call from here on within a budget, and answer recorded ones."""
        self._calls = calls
        self._ledger = ledger
        self._forget()

    async def use_seed(self, seed: int) -> None:
        """Let the loops draw with another seed."""
        if seed != self.loop_config.seed:
            await self.rest()
            self.loop_config = self.settings.loop.model_copy(update={"seed": seed})

    @property
    def sources(self) -> Sources:
        """What the loops are made of: the documents are those to practise on."""
        return replace(self._given, documents=self.split.practice)

    @property
    def split(self) -> Split:
        """Which documents are practised on, and which are kept for the check."""
        if self._split is None:
            self._split = split_documents(self._given, self.settings)
        return self._split

    def first_adapter(self) -> Path | None:
        """Return the adapter of student 0, where the configuration names one."""
        given = self._given.student_adapter
        return None if given is None else Path(given)

    async def loop(self, adapter: Path | None) -> ReflectiveLoop:
        """Return the loop of a student; another one that is open is closed."""
        if self._loop is not None and self._adapter != adapter:
            await self.rest()
        if self._loop is None:
            sources = self.sources
            self._loop = ReflectiveLoop(
                sources.documents,
                teacher=sources.teacher,
                student=sources.student,
                config=self.loop_config,
                embedder=sources.embedder,
                grader=sources.grader,
                verifier=sources.verifier,
                stop_rules=sources.stop_rules,
                teacher_adapter=sources.teacher_adapter,
                student_adapter=adapter,
                device=sources.device,
                dtype=sources.dtype,
                remote=sources.remote,
            )
            self._adapter = adapter
        return self._loop

    async def parts(self, adapter: Path | None) -> Parts:
        """Return the live objects of a student's loop, its documents indexed."""
        parts = await (await self.loop(adapter)).aopen()
        await parts.retriever.prepare()
        return parts

    async def context(self, adapter: Path | None) -> LoopContext:
        """Return teacher and student behind the call cache of the run."""
        return (await self.parts(adapter)).context(self.cached)

    def cached(self, model: Model) -> Model:
        """Return a model behind the call cache of the run."""
        if self._calls is None:
            return model
        if id(model) not in self._wrapped:
            asked = model if self._ledger is None else self._ledger.around(model)
            self._wrapped[id(model)] = CachedModel(asked, self._calls)
        return self._wrapped[id(model)]

    def hits(self) -> int:
        """Return how many calls were answered from the cache of the run."""
        return self._hits + sum(model.hits for model in self._wrapped.values())

    def _forget(self) -> None:
        """Let go of models that are about to be closed."""
        self._hits = self.hits()
        self._wrapped.clear()

    def finder(self, retriever: Retriever, parts: Parts) -> Find:
        """Return what finds the passages that a student reads for a question."""
        budget = self.settings.loop.retrieval

        async def find(question: str) -> list[Passage]:
            found = await retriever.retrieve(
                question, per_document=budget.per_document, limit=2 * budget.passages
            )
            return aggregate(
                found,
                limit=budget.passages,
                token_budget=budget.context_tokens,
                count_tokens=parts.student.count_tokens,
            )

        return find

    def retriever_over(self, documents: Any, parts: Parts) -> Retriever:
        """Return a retriever over other documents, with the embedder of the loops."""
        return resolve_retriever(
            documents,
            parts.embedder,
            self.settings.loop.retrieval,
            count_tokens=parts.student.count_tokens,
            passage_embedder=parts.remembered,
        )

    @asynccontextmanager
    async def contestants(self, *adapters: Path | None) -> AsyncIterator[list[Contestant]]:
        """Open students for the length of an ``async with``; they share one engine."""
        await self.rest()
        given = self._given
        pool = ModelPool(device=given.device, dtype=given.dtype, remote=given.remote)
        prompts = PromptSet.for_loop(self.settings.loop)
        try:
            found = []
            for adapter in adapters:
                get = partial(pool.get, self._given.student, adapter=adapter)
                model = self.cached(await in_torch_thread(get))
                student = Student(
                    model,
                    prompts,
                    self.settings.loop.sampling,
                    seed=self.settings.loop.seed,
                    verifier=self._given.verifier or LexicalVerifier(),
                )
                found.append(Contestant(model, student))
            yield found
        finally:
            self._forget()
            await pool.aclose()

    async def rest(self) -> None:
        """Close every model and give its memory back."""
        loop, self._loop = self._loop, None
        self._forget()
        if loop is not None:
            await loop.aclose()


async def passages_of(retriever: Retriever) -> tuple[Passage, ...]:
    """Return every passage that a retriever can find.

    Raises:
        UserError: It does not show them.
    """
    index = getattr(retriever, "index", None)
    if callable(index):
        index = await index()
    passages = getattr(index, "passages", None)
    if passages is None:
        raise UserError(
            f"questions cannot be written from a {type(retriever).__name__}: it does not show "
            "its passages",
            hint="give instructions and set practice.questions to 0, or give the documents",
        )
    return tuple(passages)
