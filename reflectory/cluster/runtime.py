"""Ray itself: found, started where none runs, and asked for workers and a keeper."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import PicklingError
from typing import Any

from reflectory.cluster.budget import LedgerKeeper
from reflectory.cluster.calls import Answers, CallKeeper, Visit
from reflectory.cluster.worker import LoopWorker, MakeLoop, Terms
from reflectory.config import BudgetConfig
from reflectory.config.cluster import ClusterConfig
from reflectory.errors import BackendError, UserError
from reflectory.runs.budget import Spent

_OBJECT_STORE = 100 * 1024 * 1024
"""Bytes of shared memory of a cluster that is started here; trajectories are what goes there."""
_MOST_WAITING = 10_000
"""Calls of all workers together that may wait for room in the budget."""


def load_ray() -> Any:
    """Import Ray, with its usage statistics off unless somebody switched them on.

    Raises:
        UserError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "the engine ray needs the package ray, which is not installed",
            hint='pip install "reflectory[ray]"',
        ) from error
    return ray


@contextmanager
def ray_cluster(config: ClusterConfig) -> Iterator[Any]:
    """Be connected to a cluster while the block runs.

    Where this process is connected already, that connection is used and left as it is.

    Args:
        config: Its address says which cluster.

    Yields:
        The module ``ray``.

    Raises:
        UserError: Ray is not installed, or the address is that of a client.
        BackendError: There is no cluster at the address.
    """
    ray = load_ray()
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise UserError(
            f"{address} is an address for clients outside of the cluster",
            hint="start the command on a machine of the cluster, as `ray job submit` does",
        )
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options["address"] = address
    else:
        # Loops that wait for a server need no core each, so more workers than cores may be asked.
        cores = max(os.cpu_count() or 1, int(config.workers * config.cpus) + 1)
        options |= {
            "address": "local",
            "num_cpus": cores,
            "object_store_memory": _OBJECT_STORE,
            "include_dashboard": False,
        }
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at {address}" if address else "on this machine"
        raise BackendError(
            f"no Ray cluster {where}: {str(error).splitlines()[0] if str(error) else error!r}",
            hint="check the address, or leave it empty for a cluster of this machine's own",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def pack(ray: Any, make_loop: MakeLoop) -> bytes:
    """Return what makes a loop as bytes that a worker can read.

    Raises:
        UserError: It holds something that no other process can have.
    """
    try:
        return bytes(ray.cloudpickle.dumps(make_loop))
    except (TypeError, PicklingError) as error:
        raise UserError(
            f"make_loop cannot be sent to a worker: {str(error).splitlines()[0]}",
            hint="let it make models and clients itself, and refer to none that are open here",
        ) from error


def hire_worker(ray: Any, terms: Terms, config: ClusterConfig, concurrency: int) -> Any:
    """Ask Ray for a worker's process; it comes up when there is room for it.

    Args:
        ray: The module.
        terms: What the worker is told of the run.
        config: What a worker needs.
        concurrency: Loops of a worker at the same time.
    """
    options = {
        "num_cpus": config.cpus,
        "num_gpus": config.gpus,
        "max_concurrency": concurrency + 8,
        # Who replaces whom, where, and what becomes of the loops is decided in crew.py.
        "max_restarts": 0,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
    }
    return ray.remote(LoopWorker).options(**options).remote(terms)


def lost_errors(ray: Any) -> tuple[type[BaseException], ...]:
    """Return what Ray raises when a worker, its machine, or what it returned is gone."""
    found = ray.exceptions
    return (
        found.RayActorError,
        found.ActorUnschedulableError,
        found.NodeDiedError,
        found.ObjectLostError,
    )


class KeeperDoor:
    """The way of a worker to the keeper's process; pickled into each worker.

    Args:
        actor: Handle of the keeper.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def __call__(self, visit: Visit) -> Answers:
        """Visit the keeper; a keeper that is being started again is waited for."""
        said: Awaitable[Answers] = self.actor.exchange.remote(visit)
        return await said

    def forget(self, worker: str) -> None:
        """Tell the keeper that a worker died, and wait for nothing."""
        self.actor.forget.remote(worker)


class BudgetDoor:
    """The way of a worker to the run's ledger; pickled into each worker.

    Args:
        actor: Handle of the ledger's keeper.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def reserve(
        self, worker: str, number: int, tokens: int, cost: float | None
    ) -> dict[str, Any] | None:
        """Hold what a call may use."""
        said: Awaitable[dict[str, Any] | None] = self.actor.reserve.remote(
            worker, number, tokens, cost
        )
        return await said

    def settle(self, worker: str, number: int, tokens: int, cost: float | None) -> None:
        """Tell what it did use, and wait for nothing."""
        self.actor.settle.remote(worker, number, tokens, cost)

    def forget(self, worker: str) -> None:
        """Tell the keeper that a worker died, and wait for nothing."""
        self.actor.forget.remote(worker)


def start_keeper(ray: Any, path: Path) -> KeeperDoor:
    """Start the keeper of calls on this machine, beside the file."""
    options = {
        **_beside_this_process(ray),
        "max_restarts": -1,
        "max_task_retries": -1,  # visits may be repeated: what is there first stays
    }
    return KeeperDoor(ray.remote(CallKeeper).options(**options).remote(str(path)))


def start_ledger(ray: Any, limits: BudgetConfig, before: Spent) -> BudgetDoor:
    """Start the keeper of the budget on this machine.

    It is not started again when it dies, because it alone knows what is spent: the run
    stops, and goes on with what is recorded.
    """
    options = {**_beside_this_process(ray), "max_concurrency": _MOST_WAITING}
    return BudgetDoor(ray.remote(LedgerKeeper).options(**options).remote(limits, before))


def end_keepers(ray: Any, doors: list[KeeperDoor | BudgetDoor]) -> None:
    """End the keepers' processes; a cluster that was there before this run outlives it.

    What was recorded is in the file. Left to themselves they would live until this process
    lets go of the last handle, which whatever ended the run may hold.
    """
    for door in doors:
        with suppress(ray.exceptions.RayError, ValueError):  # it is gone already
            ray.kill(door.actor, no_restart=True)
    doors.clear()


def _beside_this_process(ray: Any) -> dict[str, Any]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }
