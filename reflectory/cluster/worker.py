"""What runs on a machine of the cluster: one loop's models, many instructions at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import reflectory
from reflectory.cluster.calls import CallDesk, DeskModel, Exchange
from reflectory.cluster.said import describe_error
from reflectory.driver import check_instruction, drive
from reflectory.errors import BackendError, OutputError, RunStopped, StorageError, UserError
from reflectory.graphs.outcome import failed_trajectory, trajectory_of
from reflectory.loop import ReflectiveLoop
from reflectory.models.device import describe_device
from reflectory.models.protocol import Model
from reflectory.runner import model_records, run_config_of
from reflectory.runs.instructions import Instruction

MakeLoop = Callable[[], ReflectiveLoop]


class LoopWorker:
    """Holds models and runs loops; the body of an asynchronous Ray actor.

    It keeps nothing on its disk: calls go to the keeper, trajectories to whoever
    asked. Its answers are plain data, errors included (:mod:`reflectory.cluster.said`).

    Args:
        make_loop: What makes the loop, as cloudpickle wrote it; called once, in this process.
    """

    def __init__(self, make_loop: bytes) -> None:
        self._packed = make_loop
        self._models: list[DeskModel] = []

    async def open(self) -> dict[str, Any]:
        """Load models and documents, and say what they are.

        Returns:
            ``identity`` (fingerprints by part), ``models`` (records for the
            manifest), ``settings`` (the configuration, where the loop is all that is
            known of it), ``version``, ``device``, ``place``; or ``error``.
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
            "version": reflectory.__version__,
            "device": str(describe_device()),
            "place": f"process {os.getpid()} on {socket.gethostname()}",
        }

    def _make(self) -> ReflectiveLoop:
        from ray import cloudpickle

        try:
            make_loop: MakeLoop = cloudpickle.loads(self._packed)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"a worker cannot read make_loop: {error}",
                hint="define it where the workers can import it, install that package on them, "
                "or put its folder into PYTHONPATH",
            ) from error
        return make_loop()

    async def begin(self, name: str, exchange: Exchange | None) -> None:
        """Take up work.

        Args:
            name: Of this worker, among all that the run ever has.
            exchange: The way to the keeper, where there is a run directory.
        """
        desk = None if exchange is None else CallDesk(name, exchange)

        def wrap(model: Model) -> Model:
            if desk is None:
                return model
            self._models.append(DeskModel(model, desk))
            return self._models[-1]

        self._live = self._parts.context(wrap)
        # No checkpoints: a loop that is cut off runs again on recorded calls, anywhere.
        self._graph = self._loop.graph(None)

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
            state = await drive(self._graph, self._live, check_instruction(item.text), item.id)
            trajectory = trajectory_of(state, self._loop.config, **common)
        except (RunStopped, StorageError) as error:
            return {"error": describe_error(error), **self._counts()}
        except (UserError, BackendError, OutputError) as error:
            trajectory = failed_trajectory(error, item.text, self._loop.config, **common)
        return {"trajectory": trajectory.to_json(), **self._counts()}

    def _counts(self) -> dict[str, Any]:
        engines = {}
        for part, model in (("teacher", self._parts.teacher), ("student", self._parts.student)):
            count = getattr(model, "engine_stats", None)
            if count is not None:
                engines[part] = count()
        if len(engines) == 2 and engines["teacher"] == engines["student"]:
            engines = {"teacher and student": engines["teacher"]}
        return {"hits": sum(m.hits for m in self._models), "engines": engines}
