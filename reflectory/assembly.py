"""From names to live objects: models, embedder, retriever, grader.

This is the one place that knows which part needs which. What it returns is
handed to the graph as its run context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.agents import PromptSet, Student, Teacher
from reflectory.agents.graders import FunctionGrader, Grader, SpokenGrader
from reflectory.agents.teacher import RESPONSE_RUBRIC
from reflectory.agents.verification import LexicalVerifier, Verifier
from reflectory.alignment import StopRule
from reflectory.config import LoopConfig, RemoteConfig
from reflectory.errors import UserError
from reflectory.models.device import DeviceName, DtypeName
from reflectory.models.protocol import Capability, Embedder, Model
from reflectory.models.torch_thread import in_torch_thread
from reflectory.retrieval.retriever import Retriever

if TYPE_CHECKING:
    from reflectory.graphs.state import LoopContext
    from reflectory.models.embedding_cache import CachedEmbedder
    from reflectory.models.resolve import ModelPool

Wrap = Callable[[Model], Model]
MakeGrader = Callable[[Model, PromptSet], Grader]


@dataclass(frozen=True)
class Sources:
    """What a user named or handed over, before anything is loaded.

    Attributes:
        documents: Anything that :func:`reflectory.retrieval.resolve_retriever` takes.
        teacher: A name or an object, as :func:`reflectory.models.resolve.resolve_model` takes.
        student: The same.
        embedder: A name or an :class:`~reflectory.models.protocol.Embedder`.
        grader: A grader, a function of a task, or ``None`` for the configured one.
        verifier: Finds the evidence for what the student says; words are compared
            when ``None``.
        stop_rules: Rules that replace the configured ones, or ``None``.
        teacher_adapter: Folder of an adapter, or ``None``.
        student_adapter: Folder of an adapter, or ``None``.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: ``auto``, ``bfloat16``, ``float16``, ``int8`` or ``float32``.
        calibration_folder: Where calibrations of graders are kept, or ``None``
            for the cache folder.
        remote: How models on servers are called; the defaults when ``None``.
    """

    documents: Any
    teacher: Any = "local"
    student: Any = "local"
    embedder: Any = "local"
    grader: Any = None
    verifier: Verifier | None = None
    stop_rules: Sequence[StopRule] | None = None
    teacher_adapter: str | Path | None = None
    student_adapter: str | Path | None = None
    device: DeviceName = "auto"
    dtype: DtypeName = "auto"
    calibration_folder: Path | None = None
    remote: RemoteConfig | None = None


@dataclass(frozen=True)
class Parts:
    """The live objects of a loop, before anything is wrapped around the models.

    Attributes:
        config: What the loop is run with.
        prompts: What the agents are told.
        teacher: The model that asks and judges.
        student: The model that answers; the same object when both name one.
        embedder: Embeds answers, instructions and passages.
        retriever: Finds passages.
        make_grader: Makes the grader for a (possibly wrapped) teacher model and prompts, which a
            calibrated or handed-over grader leaves aside.
        verifier: Finds the evidence for what the student says.
        stop_rules: Asked after every iteration.
        pool: Holds the models that were loaded here, and not those handed over.
        remembered: The cache of the passages' vectors, where there is one.
        response_rubric: What a good response to the instruction has.
    """

    config: LoopConfig
    prompts: PromptSet
    teacher: Model
    student: Model
    embedder: Embedder
    retriever: Retriever
    make_grader: MakeGrader
    verifier: Verifier
    stop_rules: tuple[StopRule, ...]
    pool: ModelPool
    remembered: CachedEmbedder | None = None
    response_rubric: str = RESPONSE_RUBRIC

    def context(self, wrap: Wrap | None = None) -> LoopContext:
        """Return the run context of the graph.

        Args:
            wrap: Put around each model (a call cache); applied once when
                teacher and student are the same object.
        """
        from reflectory.graphs.state import LoopContext
        from reflectory.observability.calls import ObservedModel

        around = wrap or _unchanged
        teacher = ObservedModel(around(self.teacher))
        shared = self.student is self.teacher
        student = teacher if shared else ObservedModel(around(self.student))
        return LoopContext(
            config=self.config,
            retriever=self.retriever,
            teacher=Teacher(
                teacher,
                self.grader(teacher),
                self.prompts,
                self.config,
                response_rubric=self.response_rubric,
            ),
            student=Student(
                student,
                self.prompts,
                self.config.sampling,
                seed=self.config.seed,
                verifier=self.verifier,
            ),
            embedder=self.embedder,
            count_tokens=self.student.count_tokens,
            stop_rules=self.stop_rules,
        )

    def grader(self, teacher: Model) -> Grader:
        """Return the grader.

        Args:
            teacher: The model that judges, possibly wrapped.
        """
        return self.make_grader(teacher, self.prompts)

    def fingerprints(self) -> dict[str, str]:
        """Return what answered, by role, for records and manifests."""
        return {
            "teacher": self.teacher.fingerprint,
            "student": self.student.fingerprint,
            "embedder": self.embedder.fingerprint,
            "grader": self.grader(self.teacher).fingerprint,
            "retriever": self.retriever.fingerprint,
            "verifier": self.verifier.fingerprint,
        }

    async def aclose(self) -> None:
        """Close the models that were loaded here; those handed over stay open."""
        if self.remembered is not None:
            self.remembered.close()
        await self.pool.aclose()


async def assemble(sources: Sources, config: LoopConfig) -> Parts:
    """Load what was named.

    Raises:
        UserError: Something named does not exist or does not fit; nothing stays open.
        BackendError: A download or a device failed.
    """
    from reflectory.models.embedders import resolve_embedder
    from reflectory.models.resolve import ModelPool
    from reflectory.retrieval import resolve_retriever

    prompts = PromptSet.for_loop(config)
    verifier = _verifier(sources.verifier)
    # In that thread, for it imports torch and may download: an event loop that serves others
    # must not stand still so long, and LangGraph's server refuses to.
    embedder = await in_torch_thread(
        partial(resolve_embedder, sources.embedder, device=sources.device)
    )
    remembered = _remembering(sources, embedder, config)
    pool = ModelPool(device=sources.device, dtype=sources.dtype, remote=sources.remote)
    models: dict[str, Model] = {}
    try:
        # Documents first: a missing folder is known at once, a model takes seconds.
        # Passages are cut later, when the student is there to count tokens.
        retriever = await asyncio.to_thread(
            resolve_retriever,
            sources.documents,
            embedder,
            config.retrieval,
            count_tokens=lambda text: models["student"].count_tokens(text),
            passage_embedder=remembered,
        )
        for role, spec, adapter in (
            ("student", sources.student, sources.student_adapter),
            ("teacher", sources.teacher, sources.teacher_adapter),
        ):
            models[role] = await in_torch_thread(partial(pool.get, spec, adapter=adapter))
        make_grader = await _grader_factory(sources, config, prompts, models["teacher"])
    except BaseException:
        await pool.aclose()
        raise
    rules = config.stop_rules() if sources.stop_rules is None else tuple(sources.stop_rules)
    return Parts(
        config=config,
        prompts=prompts,
        teacher=models["teacher"],
        student=models["student"],
        embedder=embedder,
        retriever=retriever,
        make_grader=make_grader,
        verifier=verifier,
        stop_rules=rules,
        pool=pool,
        remembered=remembered,
    )


class Assembly:
    """The parts of one loop: put together when they are first asked for, and shared from then on.

    It belongs to the event loop that it is first used on.

    Args:
        sources: What the user named.
        config: Of the loop.
    """

    def __init__(self, sources: Sources, config: LoopConfig) -> None:
        self._sources = sources
        self._config = config
        self._task: asyncio.Task[Parts] | None = None

    async def parts(self) -> Parts:
        """Return the parts; assembled once, also when several ask at the same time.

        Raises:
            UserError: Something that was named does not exist or does not fit.
            BackendError: A model could not be loaded; who asks next tries again.
        """
        if self._task is None or (self._task.done() and not self._is_there()):
            self._task = asyncio.create_task(assemble(self._sources, self._config))
        return await asyncio.shield(self._task)

    async def aclose(self) -> None:
        """Give back models and their memory; who asks next loads them again."""
        task, is_there = self._task, self._is_there()
        self._task = None
        if task is not None and is_there:
            await task.result().aclose()

    def _is_there(self) -> bool:
        task = self._task
        if task is None or not task.done():
            return False
        return not task.cancelled() and task.exception() is None


def _remembering(sources: Sources, embedder: Embedder, config: LoopConfig) -> CachedEmbedder | None:
    """Return the embedder with a cache in front of it, if it was named and not handed over."""
    from reflectory.models.embedding_cache import CachedEmbedder

    if not config.retrieval.cache_embeddings or not isinstance(sources.embedder, str):
        return None
    return CachedEmbedder(embedder)


def _verifier(given: Verifier | None) -> Verifier:
    if given is None:
        return LexicalVerifier()
    if not isinstance(given, Verifier):
        raise UserError(
            f"{type(given).__name__} is no verifier",
            hint="pass an object with fingerprint and verify()",
        )
    return given


async def _grader_factory(
    sources: Sources, config: LoopConfig, prompts: PromptSet, teacher: Model
) -> MakeGrader:
    given = sources.grader
    if given is not None:
        if isinstance(given, Grader):
            return lambda model, _: given
        if callable(given):
            grader = FunctionGrader(given)
            return lambda model, _: grader
        raise UserError(
            f"{type(given).__name__} is no grader",
            hint="pass a function of a GradingTask, or an object with fingerprint and grade()",
        )
    can_score = Capability.SCORE in teacher.capabilities
    if config.grader == "spoken" or (config.grader == "auto" and not can_score):
        return lambda model, prompts: SpokenGrader(
            model,
            prompts,
            max_tokens=config.sampling.grade_tokens,
            attempts=config.grade_attempts,
            seed=config.seed,
        )
    if not can_score:
        raise UserError(
            f"the teacher {teacher.fingerprint} shows only text, the likelihood grader needs "
            "probabilities",
            hint="set grader: spoken, or use a local teacher",
        )
    from reflectory.agents.graders.cases import calibration_cases
    from reflectory.agents.graders.likelihood import LikelihoodGrader, calibration_for
    from reflectory.models.store import cache_folder

    folder = sources.calibration_folder or cache_folder() / "calibrations"
    calibration = await calibration_for(teacher, prompts, calibration_cases(), folder)
    # With the prompts that it was calibrated for, whatever the agents are told.
    return lambda model, _: LikelihoodGrader(model, prompts, calibration)


def _unchanged(model: Model) -> Model:
    return model
