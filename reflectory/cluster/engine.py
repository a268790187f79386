"""A run on a Ray cluster: the same run directory, written here and computed elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

from reflectory.background import BACKGROUND
from reflectory.cluster.budget import price_list
from reflectory.cluster.crew import Crew, WorkerLost
from reflectory.cluster.runtime import (
    BudgetDoor,
    KeeperDoor,
    end_keepers,
    hire_worker,
    lost_errors,
    pack,
    ray_cluster,
    start_keeper,
    start_ledger,
)
from reflectory.cluster.worker import MakeLoop, Terms
from reflectory.config import BudgetConfig, RunConfig
from reflectory.config.cluster import ClusterConfig
from reflectory.errors import UserError
from reflectory.graphs.outcome import failed_trajectory
from reflectory.runs.belonging import refuse_foreign, refuse_unfit
from reflectory.runs.budget import Spent
from reflectory.runs.directory import RunDirectory
from reflectory.runs.instructions import Instruction, read_instructions
from reflectory.runs.manifest import ModelRecord
from reflectory.runs.scheduler import run_many
from reflectory.runs.spending import spent_before, spent_in
from reflectory.runs.stopping import Stoppable
from reflectory.types import Trajectory


class ClusterRunner:
    """Runs many loops on a Ray cluster, as :class:`~reflectory.runner.Runner` does here.

    Args:
        make_loop: Makes the loop in each worker's process; pickled with cloudpickle, so a
            function of a module that the workers can import, or one that needs none.
            Paths in it are those of the worker's machine.
        cluster: How many workers, and what each needs.
        settings: The configuration that a run directory records; by default made
            from the loop.

    Attributes:
        crew: The workers, once a stream has begun.
    """

    def __init__(
        self,
        make_loop: MakeLoop,
        cluster: ClusterConfig | None = None,
        *,
        settings: RunConfig | None = None,
    ) -> None:
        self._make_loop = make_loop
        self._cluster = cluster or ClusterConfig(engine="ray")
        self._settings = settings
        self.crew: Crew | None = None

    async def stream(
        self,
        items: AsyncIterable[Instruction] | Iterable[Instruction],
        *,
        concurrency: int,
        output: str | Path | None = None,
        retry_failed: bool = False,
    ) -> AsyncGenerator[Trajectory]:
        """Yield a trajectory per instruction, as they finish.

        Args:
            items: Read lazily, never more in flight than all workers run at once. A
                :class:`~reflectory.runs.stopping.Stoppable` may end early.
            concurrency: Loops at the same time in each worker, at least 1.
            output: Run directory on this machine's disk; what is finished there is
                yielded from it, whichever engine made it.
            retry_failed: Run again the instructions that failed in an earlier session.

        Raises:
            UserError: Ray is not installed, ``concurrency`` is below 1, something that
                the loop names is not there, a shared cache is named, or the workers differ.
            RunDirectoryError: The run directory does not fit.
            StorageError: The disk is full; what is finished is kept.
            RunStopped: There are no workers, or a budget is spent; it can go on later.
        """
        if concurrency < 1:
            raise UserError(f"concurrency must be at least 1, got {concurrency}")
        if self._settings is not None and self._settings.cache:
            raise UserError(
                "a cluster's workers have no shared call cache",
                hint="leave `cache` empty; the workers of a run share its own calls",
            )
        if output is not None:
            # Before models are loaded everywhere.
            folder = Path(output)
            if self._settings is None:
                await asyncio.to_thread(refuse_foreign, folder)
            else:
                await asyncio.to_thread(refuse_unfit, folder, self._settings)
        async with AsyncExitStack() as stack:
            ray = stack.enter_context(ray_cluster(self._cluster))
            keepers: list[KeeperDoor | BudgetDoor] = []
            stack.callback(end_keepers, ray, keepers)  # after the workers, who visit them
            budget = self._settings.budget if self._settings else BudgetConfig()
            terms = Terms(pack(ray, self._make_loop), self._cluster.workers, budget)
            crew = self.crew = Crew(
                lambda: hire_worker(ray, terms, self._cluster, concurrency),
                lambda actor: ray.kill(actor, no_restart=True),
                lost_errors(ray),
                self._cluster,
                concurrency,
            )
            stack.push_async_callback(crew.aclose)
            session = _Session(self._settings, self._cluster, crew, await crew.start())
            keeper = ledger = None
            if output is not None:
                directory = session.use_directory(stack, Path(output), retry_failed)
                keeper = start_keeper(ray, directory.calls.path)
                keepers.append(keeper)
            if budget.limits:
                ledger = start_ledger(ray, budget, session.spent_before())
                keepers.append(ledger)
            crew.begin(keeper, ledger)
            limit = concurrency * self._cluster.workers
            async with aclosing(run_many(items, session.trajectory_for, concurrency=limit)) as done:
                async for trajectory in done:
                    yield trajectory
            if not (isinstance(items, Stoppable) and items.left):
                session.finish()


class _Session:
    """One stretch of work of a crew, with or without a directory."""

    def __init__(
        self,
        settings: RunConfig | None,
        cluster: ClusterConfig,
        crew: Crew,
        facts: dict[str, Any],
    ) -> None:
        self._settings = settings or RunConfig.from_dict(facts["settings"])
        self._cluster = cluster
        self._crew = crew
        self._facts = facts
        self._directory: RunDirectory | None = None
        self._retry_failed = False
        self._prices = price_list(self._settings.budget, facts["prices"])

    def use_directory(self, stack: AsyncExitStack, path: Path, retry_failed: bool) -> RunDirectory:
        """Keep everything in a run directory from here on."""
        models = self._facts["models"].items()
        directory = RunDirectory.open(
            path,
            self._settings,
            identity=self._facts["identity"],
            models={part: ModelRecord.model_validate(record) for part, record in models},
            device=f"{self._cluster.workers} workers of a Ray cluster: {self._facts['device']}",
        )
        stack.enter_context(directory)
        self._directory, self._retry_failed = directory, retry_failed
        stack.callback(self._update_manifest, False)
        return directory

    def spent_before(self) -> Spent:
        """Return what earlier sessions spent of the budget.

        Raises:
            UserError: The cost is limited and a price is unknown.
        """
        models = set(self._facts["prices"])
        return spent_before(self._settings.budget, self._prices, models, self._directory)

    async def trajectory_for(self, item: Instruction) -> Trajectory:
        """Return the trajectory of an instruction, from the directory if it is there."""
        directory = self._directory
        if directory is not None:
            known = directory.trajectories.get(item.id)
            if known is not None and (known.status == "done" or not self._retry_failed):
                return known
        try:
            answer = await self._crew.run(item)
            trajectory = Trajectory.from_json(answer["trajectory"])
        except WorkerLost as error:
            trajectory = failed_trajectory(
                error,
                item.text,
                self._settings.loop,
                id=item.id,
                models=self._facts["identity"],
                metadata=item.metadata,
            )
        if directory is not None:
            await asyncio.to_thread(directory.record, trajectory)
        return trajectory

    def finish(self) -> None:
        """Write into the manifest that every instruction has been dealt with."""
        self._update_manifest(True)

    def _update_manifest(self, finished: bool) -> None:
        if self._directory is None:
            return
        counts = self._crew.counts()
        engines: dict[str, Counter[str]] = {}
        for worker in counts:
            for part, numbers in worker["engines"].items():
                engines.setdefault(part, Counter()).update(numbers)
        self._directory.update_manifest(
            hits=sum(worker["hits"] for worker in counts),
            engines=engines,
            spent=spent_in(self._directory, self._prices).figures,
            finished=finished or self._directory.manifest.finished is not None,
        )


def map_on_ray(
    make_loop: MakeLoop,
    instructions: str | Path | Iterable[Any],
    *,
    workers: int = 2,
    concurrency: int = 8,
    output: str | Path | None = None,
    gpus: float = 0.0,
    cluster: ClusterConfig | None = None,
) -> Iterator[Trajectory]:
    """Run many loops on a Ray cluster and yield their trajectories as they finish.

    What :meth:`~reflectory.loop.ReflectiveLoop.map` promises holds here too, and a run
    directory of one can be continued by the other.

    Args:
        make_loop: Makes the loop in each worker's process.
        instructions: Texts, or a file with one per line or JSON Lines.
        workers: Processes that hold models.
        concurrency: Loops at the same time in each of them.
        output: Run directory on this machine's disk.
        gpus: GPUs that Ray keeps for a worker; a fraction shares one.
        cluster: All settings at once, in the place of ``workers`` and ``gpus``.

    Raises:
        UserError: Ray is not installed, or something named does not exist or fit.
        RunStopped: No worker came up; the same call goes on later.
        StorageError: The disk is full; what is finished is kept.
    """
    config = cluster or ClusterConfig(engine="ray", workers=workers, gpus=gpus)
    runner = ClusterRunner(make_loop, config)
    items = read_instructions(instructions)
    return BACKGROUND.iterate(runner.stream(items, concurrency=concurrency, output=output))
