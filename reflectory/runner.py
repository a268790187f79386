"""Many instructions: at the same time, each failure its own, kept in a run directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.assembly import Parts, Sources, Wrap
from reflectory.config import BudgetConfig, LoopConfig, RemoteConfig, RunConfig
from reflectory.driver import OnEvent, Review, check_instruction, drive, steps_are_told
from reflectory.errors import BackendError, OutputError, RunStopped, StorageError, UserError
from reflectory.graphs.outcome import failed_trajectory, trajectory_of
from reflectory.models.defaults import describe_source
from reflectory.models.device import describe_device
from reflectory.observability import in_run
from reflectory.observability.trace import recorder
from reflectory.planning import PLAN, note_plan, plan_of_parts
from reflectory.runs.belonging import refuse_unfit
from reflectory.runs.cached_model import CachedModel
from reflectory.runs.checkpoints import open_checkpointer, prune, prune_finished
from reflectory.runs.directory import RunDirectory
from reflectory.runs.instructions import Instruction
from reflectory.runs.manifest import ModelRecord
from reflectory.runs.places import FILE_NAME, CallPlaces
from reflectory.runs.scheduler import run_many
from reflectory.runs.shared_cache import open_shared
from reflectory.runs.spending import open_ledger, spent_in
from reflectory.runs.stopping import Stoppable
from reflectory.types import Trajectory

if TYPE_CHECKING:
    from reflectory.graphs.reflective_loop import LoopGraph
    from reflectory.loop import ReflectiveLoop
    from reflectory.models.protocol import Model
    from reflectory.runs.budget import Ledger
    from reflectory.runs.call_cache import CallCache

CHECKPOINTS_WITHIN_S = 1.0
"""How far behind a loop its checkpoint in the file may be; less than one call of most models."""


class Runner:
    """Runs many loops of one :class:`~reflectory.loop.ReflectiveLoop`.

    Args:
        loop: What to run.
        settings: The configuration that a run directory records; by default made
            from the loop.
        on_event: Told of every finished node.
        on_review: Answers when the configuration asks for a person.

    Attributes:
        settings: What a run directory records.
        ledger: What is spent and left of the budget, once the first loop has begun.
    """

    def __init__(
        self,
        loop: ReflectiveLoop,
        *,
        settings: RunConfig | None = None,
        on_event: OnEvent | None = None,
        on_review: Review | None = None,
    ) -> None:
        self.settings = settings or run_config_of(loop.sources, loop.config)
        self._loop = loop
        self._config: LoopConfig = loop.config
        self._on_event = on_event
        self._on_review = on_review
        self.ledger: Ledger | None = None

    async def stream(
        self,
        items: Iterable[Instruction],
        *,
        concurrency: int,
        output: str | Path | None = None,
        retry_failed: bool = False,
    ) -> AsyncGenerator[Trajectory]:
        """Yield a trajectory per instruction, as they finish.

        Args:
            items: Read lazily, never more than ``concurrency`` in flight. A
                :class:`~reflectory.runs.stopping.Stoppable` may end early, and then
                the run is not finished.
            concurrency: Loops at the same time, at least 1.
            output: Run directory; what is finished there is yielded from it.
            retry_failed: Run again the instructions that failed in an earlier session.

        Raises:
            UserError: ``concurrency`` is below 1, or the run directory does not fit.
            StorageError: The disk is full; what is finished is kept.
            BudgetSpent: A limit of the budget is reached; the same call with more goes on.
        """
        if concurrency < 1:
            raise UserError(f"concurrency must be at least 1, got {concurrency}")
        if retry_failed and output is None:
            raise UserError(
                "only a run directory knows what failed", hint="pass output=..., or no retry_failed"
            )
        if output is not None:  # before models are loaded, which takes a while
            await asyncio.to_thread(refuse_unfit, Path(output), self.settings)
        async with AsyncExitStack() as stack:
            parts = await self._loop.aopen()
            session = _Session(self, parts)
            if output is not None:
                await session.use_directory(stack, Path(output), retry_failed)
                session.note_plan(getattr(items, "total", None))
            else:
                session.use_memory(stack)
            results = run_many(items, session.trajectory_for, concurrency=concurrency)
            async with aclosing(results):
                async for trajectory in results:
                    yield trajectory
            if not (isinstance(items, Stoppable) and items.left):
                session.finish()

    @property
    def sources(self) -> Sources:
        """What the user named."""
        return self._loop.sources


class _Session:
    """One stretch of work on a list of instructions, with or without a directory."""

    def __init__(self, runner: Runner, parts: Parts) -> None:
        self._runner = runner
        self._parts = parts
        self._config = parts.config
        self._live = parts.context()
        self._fingerprints = parts.fingerprints()
        self._directory: RunDirectory | None = None
        self._caches: list[CachedModel] = []
        self._saver: Any = None
        self._observed: Callable[[], AbstractContextManager[None]] = nullcontext
        self._graph: LoopGraph | None = None
        self._retry_failed = False

    async def use_directory(self, stack: AsyncExitStack, path: Path, retry_failed: bool) -> None:
        """Keep everything in a run directory from here on."""
        await self._parts.retriever.prepare()
        self._fingerprints = self._parts.fingerprints()
        directory = RunDirectory.open(
            path,
            self._runner.settings,
            identity=self._fingerprints,
            models=model_records(self._runner.sources, self._fingerprints),
            device=str(describe_device()),
        )
        stack.enter_context(directory)
        self._directory = directory
        self._retry_failed = retry_failed
        self._live = self._parts.context(self._cached(directory.calls, directory))
        places = CallPlaces(directory.path / FILE_NAME)
        stack.callback(places.close)
        self._observed = partial(in_run, directory.path.name, recorder(places))
        self._saver = await stack.enter_async_context(
            open_checkpointer(
                directory.checkpoints_path,
                directory.config.checkpoints,
                # A person's review may be long, and whoever waits for it asks the file.
                within_s=0.0 if self._config.review else CHECKPOINTS_WITHIN_S,
            )
        )
        await prune_finished(self._saver, directory.trajectories)
        stack.callback(self._update_manifest, False)

    def note_plan(self, instructions: int | None) -> None:
        """Keep what the run should take, to be shown beside what it takes; once per directory."""
        runner, directory = self._runner, self._directory
        if directory is None or (directory.path / PLAN).exists():
            return
        plan = plan_of_parts(
            runner.settings, self._parts, runner.sources, instructions=instructions or 1
        )
        note_plan(directory.path, plan)

    def use_memory(self, stack: AsyncExitStack) -> None:
        """Keep nothing, or no more than a shared cache does; a budget holds nevertheless."""
        folder = self._runner.settings.cache
        if not folder:
            self._live = self._parts.context(self._open_ledger(None).around)
            return
        shared = open_shared(folder)
        stack.callback(shared.close)
        self._live = self._parts.context(self._cached(shared, None))

    def _cached(self, calls: CallCache, directory: RunDirectory | None) -> Wrap:
        """Return what puts the recorded calls, and behind them the budget, before a model."""
        ledger = self._open_ledger(directory)

        def cached(model: Model) -> CachedModel:
            self._caches.append(CachedModel(ledger.around(model), calls))
            return self._caches[-1]

        return cached

    def _open_ledger(self, directory: RunDirectory | None) -> Ledger:
        sources, parts = self._runner.sources, self._parts
        named = ((parts.teacher, sources.teacher), (parts.student, sources.student))
        ledger = open_ledger(self._runner.settings.budget, named, directory)
        self._runner.ledger = ledger
        return ledger

    async def trajectory_for(self, item: Instruction) -> Trajectory:
        """Return the finished trajectory of an instruction, from the directory if it is there.

        What concerns only this instruction is recorded as its failure. What
        would hit every other one as well (a full disk, a spent budget) ends the run.
        """
        directory = self._directory
        if directory is not None:
            known = directory.trajectories.get(item.id)
            if known is not None and (known.status == "done" or not self._retry_failed):
                return known
        trajectory = await self._run(item)
        if directory is not None:
            await asyncio.to_thread(directory.record, trajectory)
            await prune(self._saver, item.id)
        return trajectory

    async def _run(self, item: Instruction) -> Trajectory:
        common: dict[str, Any] = {
            "id": item.id,
            "models": self._fingerprints,
            "metadata": item.metadata,
        }
        try:
            with self._observed():
                state = await drive(
                    self._graph_of_a_loop(),
                    self._live,
                    check_instruction(item.text),
                    item.id,
                    on_event=self._runner._on_event,
                    on_review=self._runner._on_review,
                )
        except (RunStopped, StorageError):
            raise
        except (UserError, BackendError, OutputError) as error:
            return failed_trajectory(error, item.text, self._config, **common)
        return trajectory_of(state, self._config, **common)

    def _graph_of_a_loop(self) -> LoopGraph:
        """Return the compiled graph; compiling takes longer than a whole loop does."""
        if self._graph is None or (self._saver is None and self._config.review):
            # A checkpointer in memory is for one loop: nobody would prune it.
            memory = self._runner._loop.memory()
            self._graph = self._runner._loop.graph(
                self._saver or memory,
                branch_graphs=steps_are_told(self._runner._on_event),
                # Within a branch, the call cache knows how far it was.
                branch_checkpoints=self._directory is None,
            )
        return self._graph

    def finish(self) -> None:
        """Write into the manifest that every instruction has been dealt with."""
        self._update_manifest(True)

    def _update_manifest(self, finished: bool) -> None:
        if self._directory is None:
            return
        done = finished or self._directory.manifest.finished is not None
        ledger = self._runner.ledger
        self._directory.update_manifest(
            hits=sum(c.hits for c in self._caches),
            engines=_engine_counts(self._parts),
            spent=None if ledger is None else spent_in(self._directory, ledger.prices).figures,
            finished=done,
        )


def run_config_of(
    sources: Sources,
    config: LoopConfig,
    *,
    cache: str | Path | None = None,
    budget: BudgetConfig | None = None,
) -> RunConfig:
    """Return the configuration that a run directory records.

    Objects that were handed over in Python have no name that YAML could hold;
    they stand as ``object``, and their fingerprint is in the run's identity.

    Args:
        sources: What was handed over.
        config: Of the loop.
        cache: Folder of the calls that several runs share.
        budget: How much the run may use; no limits when ``None``.

    Raises:
        UserError: ``budget`` is no :class:`~reflectory.config.BudgetConfig`.
    """
    if budget is not None and not isinstance(budget, BudgetConfig):
        raise UserError(
            f"budget must be a BudgetConfig, got {type(budget).__name__}",
            hint="from reflectory.config import BudgetConfig; budget=BudgetConfig(calls=1000)",
        )

    def name(value: Any) -> str:
        return value if isinstance(value, str) else "object"

    documents = sources.documents
    if isinstance(documents, str | Path):
        documents = (documents,)
    paths = isinstance(documents, list | tuple) and all(
        isinstance(d, str | Path) for d in documents
    )
    return RunConfig(
        documents=tuple(str(d) for d in documents) if paths else (),
        teacher=name(sources.teacher),
        student=name(sources.student),
        embedder=name(sources.embedder),
        teacher_adapter=_path(sources.teacher_adapter),
        student_adapter=_path(sources.student_adapter),
        device=sources.device,
        dtype=sources.dtype,
        remote=sources.remote or RemoteConfig(),
        cache="" if cache is None else str(cache),
        budget=budget or BudgetConfig(),
        loop=config,
    )


def _engine_counts(parts: Parts) -> dict[str, dict[str, float]]:
    """Return what local engines have computed, by the parts they play."""
    counts: dict[str, dict[str, float]] = {}
    for part, model in (("teacher", parts.teacher), ("student", parts.student)):
        count = getattr(model, "engine_stats", None)
        if count is not None:
            counts[part] = count()
    if len(counts) == 2 and counts["teacher"] == counts["student"]:
        return {"teacher and student": counts["teacher"]}
    return counts


def _path(value: str | Path | None) -> str | None:
    return None if value is None else str(value)


def model_records(sources: Sources, fingerprints: dict[str, str]) -> dict[str, ModelRecord]:
    """Return where each model came from, for the manifest.

    Args:
        sources: What was handed over.
        fingerprints: By role.
    """
    records = {}
    for part in ("teacher", "student", "embedder"):
        named = getattr(sources, part)
        name = named if isinstance(named, str) else type(named).__name__
        source, sha256 = describe_source(name, part)
        records[part] = ModelRecord(
            name=name, source=source, sha256=sha256, fingerprint=fingerprints[part]
        )
    return records
