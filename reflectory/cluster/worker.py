"""What runs on a machine of the cluster: one loop's models, many instructions at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import reflectory
from reflectory.cluster.budget import LedgerDoor, SharedLedger, prices_of
from reflectory.cluster.calls import CallDesk, DeskModel, Exchange
from reflectory.cluster.said import describe_error
from reflectory.config import BudgetConfig, RemoteConfig
from reflectory.config.remote import ModelLimits
from reflectory.driver import check_instruction, drive, steps_are_told
from reflectory.errors import BackendError, OutputError, RunStopped, StorageError, UserError
from reflectory.graphs.outcome import failed_trajectory, trajectory_of
from reflectory.loop import ReflectiveLoop
from reflectory.models.device import describe_device
from reflectory.models.protocol import Model
from reflectory.observability import in_run
from reflectory.observability.place import Place
from reflectory.runner import model_records, run_config_of
from reflectory.runs.instructions import Instruction
from reflectory.runs.places import CallPlace
from reflectory.runs.spending import open_ledger

MakeLoop = Callable[[], ReflectiveLoop]


@dataclass(frozen=True)
class Terms:
    """What every worker of a run is told before it starts.

    Attributes:
        make_loop: What makes the loop, as cloudpickle wrote it.
        workers: How many there are, to share what a server allows.
        budget: Of the run.
    """

    make_loop: bytes
    workers: int
    budget: BudgetConfig


class LoopWorker:
    """Holds models and runs loops; the body of an asynchronous Ray actor.

    It keeps nothing on its disk: calls go to the keeper, trajectories to whoever
    asked. Its answers are plain data, errors included (:mod:`reflectory.cluster.said`).

    Args:
        terms: What it is told of the run.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._models: list[DeskModel] = []
        self._desk: CallDesk | None = None

    async def open(self) -> dict[str, Any]:
        """Load models and documents, and say what they are.

        Returns:
            ``identity`` (fingerprints by part), ``models`` (records for the
            manifest), ``settings`` (the configuration, where the loop is all that is
            known of it), ``prices``, ``version``, ``device``, ``place``; or ``error``.
        """
        try:
            self._loop = self._make()
            if self._loop.config.review:
                raise UserError(
                    "the configuration asks for a person's review, and a cluster has none",
                    hint="run it with engine: local, or leave `review` empty",
                )
            self._parts = await self._loop.aopen()
            await self._parts.retriever.prepare()
            sources, parts = self._loop.sources, self._parts
            named = ((parts.teacher, sources.teacher), (parts.student, sources.student))
            self._prices = open_ledger(self._terms.budget, named).prices
        except (UserError, BackendError, OutputError) as error:
            return {"error": describe_error(error)}
        self._fingerprints = self._parts.fingerprints()
        records = model_records(self._loop.sources, self._fingerprints)
        return {
            "identity": self._fingerprints,
            "models": {part: record.model_dump() for part, record in records.items()},
            "settings": run_config_of(self._loop.sources, self._loop.config).model_dump(
                mode="json"
            ),
            "prices": prices_of(self._prices, self._fingerprints),
            "version": reflectory.__version__,
            "device": str(describe_device()),
            "place": f"process {os.getpid()} on {socket.gethostname()}",
        }

    def _make(self) -> ReflectiveLoop:
        from ray import cloudpickle

        try:
            make_loop: MakeLoop = cloudpickle.loads(self._terms.make_loop)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"a worker cannot read make_loop: {error}",
                hint="define it where the workers can import it, install that package on them, "
                "or put its folder into PYTHONPATH",
            ) from error
        loop = make_loop()
        if loop.sources.remote is not None:
            loop.sources = replace(
                loop.sources, remote=share_of(loop.sources.remote, self._terms.workers)
            )
        return loop

    async def begin(
        self, name: str, exchange: Exchange | None = None, door: LedgerDoor | None = None
    ) -> None:
        """Take up work.

        Args:
            name: Of this worker, among all that the run ever has.
            exchange: The way to the keeper of calls, where there is a run directory.
            door: The way to the ledger, where there is a limit.
        """
        desk = self._desk = None if exchange is None else CallDesk(name, exchange)
        budget = self._terms.budget
        ledger = None if door is None else SharedLedger(name, door, budget, self._prices)

        def wrap(model: Model) -> Model:
            limited = model if ledger is None else ledger.around(model)
            if desk is None:
                return limited
            self._models.append(DeskModel(limited, desk))
            return self._models[-1]

        self._live = self._parts.context(wrap)
        # No checkpoints: a loop that is cut off runs again on recorded calls, anywhere.
        self._graph = self._loop.graph(None, branch_graphs=steps_are_told(None))

    async def run(self, item: Instruction) -> dict[str, Any]:
        """Run one loop.

        Returns:
            ``trajectory`` as JSON text, or ``error`` when it ends the whole run; and
            ``hits`` and ``engines`` of this worker so far.
        """
        common: dict[str, Any] = {
            "id": item.id,
            "models": self._fingerprints,
            "metadata": item.metadata,
        }
        try:
            with in_run("", self._note):
                state = await drive(self._graph, self._live, check_instruction(item.text), item.id)
            trajectory = trajectory_of(state, self._loop.config, **common)
            if self._desk is not None:
                await self._desk.settle()
        except (RunStopped, StorageError) as error:
            return {"error": describe_error(error), **self._counts()}
        except (UserError, BackendError, OutputError) as error:
            trajectory = failed_trajectory(error, item.text, self._loop.config, **common)
        return {"trajectory": trajectory.to_json(), **self._counts()}

    def _note(self, place: Place, role: str, key: str) -> None:
        """Note where a call was made, as the runner does on one machine."""
        if self._desk is not None:
            call = CallPlace(key, role, place.step, place.iteration, place.level)
            self._desk.note_place(place.loop, call)

    def _counts(self) -> dict[str, Any]:
        engines = {}
        for part, model in (("teacher", self._parts.teacher), ("student", self._parts.student)):
            count = getattr(model, "engine_stats", None)
            if count is not None:
                engines[part] = count()
        if len(engines) == 2 and engines["teacher"] == engines["student"]:
            engines = {"teacher and student": engines["teacher"]}
        return {"hits": sum(m.hits for m in self._models), "engines": engines}


def share_of(remote: RemoteConfig, workers: int) -> RemoteConfig:
    """Return a worker's share of what one model may be asked, all workers together.

    Args:
        remote: For the whole run.
        workers: How many share it; each gets at least 1 of everything.
    """

    def part(bound: int | None) -> int | None:
        return None if bound is None else max(1, bound // workers)

    bounds = set(ModelLimits.model_fields)
    everybody = remote.model_dump(include=bounds)
    own = {
        model: limits.model_dump(exclude_unset=True)  # the rest stays as for all
        for model, limits in remote.limits.items()
    }
    return remote.model_copy(
        update={
            **{name: part(bound) for name, bound in everybody.items()},
            "limits": {
                model: ModelLimits(**{name: part(bound) for name, bound in named.items()})
                for model, named in own.items()
            },
        }
    )
