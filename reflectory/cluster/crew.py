"""The workers of a run: found, compared, given instructions, and replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from reflectory.cluster.said import error_from
from reflectory.config.cluster import ClusterConfig
from reflectory.errors import BackendError, RunStopped, UserError
from reflectory.runs.instructions import Instruction

_LOG = logging.getLogger(__name__)
_FAILED_STARTS = 5
"""Starts that may fail one after the other before the run stops."""
_STARTING_PAUSE_S = 0.5
"""Before the next try of a start that failed; doubled each time."""
_LONGEST_WAIT_S = 30.0


class WorkerLost(BackendError):
    """The workers that had an instruction in their hands died, one after the other."""


@dataclass(eq=False)
class _Place:
    """One worker of the crew, or the one that takes its place.

    Attributes:
        actor: Its handle; ``None`` while there is none.
        name: Of this worker, among all that there were.
        busy: Loops that it has in hand.
        ready: Whether it takes instructions.
        counts: What it counted so far, and what those before it did.
    """

    actor: Any = None
    name: str = ""
    busy: int = 0
    ready: bool = False
    counts: list[dict[str, Any]] = field(default_factory=list)


class Crew:
    """A number of workers that loops are given to, one by one.

    Each loop goes to the worker with the fewest in hand, as soon as one has room, so a
    slow machine gets fewer of them. A worker whose process or machine dies is replaced
    by another one wherever there is room, and the loops that it had in hand go to the
    living ones at once.

    Args:
        hire: Returns the handle of a new worker.
        dismiss: Ends a worker's process.
        lost: The exceptions by which a handle says that its process is gone.
        config: How many, and how long to be patient.
        concurrency: Loops of one worker at the same time.
    """

    def __init__(
        self,
        hire: Callable[[], Any],
        dismiss: Callable[[Any], None],
        lost: tuple[type[BaseException], ...],
        config: ClusterConfig,
        concurrency: int,
    ) -> None:
        self._hire = hire
        self._dismiss = dismiss
        self._lost = lost
        self._passing: tuple[type[BaseException], ...] = (*lost, BackendError)
        self._config = config
        self._concurrency = concurrency
        self._places = [_Place() for _ in range(config.workers)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._change = asyncio.Condition()
        self._facts: dict[str, Any] | None = None
        self._doors: tuple[Any, ...] = ()
        self._open = asyncio.Event()
        self._stopped: BaseException | None = None
        self._failed_starts = 0
        self._starting_pause_s = _STARTING_PAUSE_S
        self._hired = 0
        self.deaths = 0

    async def start(self) -> dict[str, Any]:
        """Start all workers and return what the first one says of itself.

        Raises:
            UserError: What the loop names is not there.
            RunStopped: No worker came up in time.
        """
        for place in self._places:
            self._spawn(self._fill(place))
        await self._until(lambda: self._facts is not None)
        assert self._facts is not None
        return self._facts

    def begin(self, *doors: Any) -> None:
        """Let the workers take up work.

        Args:
            *doors: The ways to the keepers of calls and of the budget, ``None`` for none.
        """
        self._doors = doors
        self._open.set()

    async def run(self, item: Instruction) -> dict[str, Any]:
        """Run an instruction on some worker and return its answer.

        Raises:
            WorkerLost: As many workers died over it as the configuration allows.
            RunStopped: No worker has been living for as long as it allows.
        """
        for _ in range(self._config.deaths):
            place = await self._take()
            actor = place.actor
            try:
                answer: dict[str, Any] = await actor.run.remote(item)
            except self._lost as error:
                self._bury(place, actor, error)
                continue
            finally:
                # A worker that came in its stead has a count of its own.
                if place.actor is actor:
                    place.busy -= 1
                await self._tell()
            self._failed_starts = 0
            if place.counts and place.actor is actor:
                place.counts[-1] = {key: answer[key] for key in ("hits", "engines")}
            if "error" in answer:
                raise error_from(answer["error"])
            return answer
        raise WorkerLost(
            f"{self._config.deaths} workers died while they had this instruction in hand",
            hint="look for what kills them in Ray's logs (often memory); "
            "--retry-failed tries again",
        )

    @property
    def ready(self) -> int:
        """Workers that take instructions now."""
        return len(self._living())

    def counts(self) -> list[dict[str, Any]]:
        """Return ``hits`` and ``engines`` of every worker there was."""
        return [counts for place in self._places for counts in place.counts]

    async def aclose(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for place in self._places:
            if place.actor is not None:
                self._dismiss(place.actor)
                place.actor, place.ready = None, False

    async def _take(self) -> _Place:
        """Wait for a worker with room and count one more loop into its hands."""

        def best() -> _Place | None:
            living = [p for p in self._places if p.ready and p.busy < self._concurrency]
            return min(living, key=lambda p: p.busy, default=None)

        await self._until(lambda: best() is not None, living=lambda: any(self._living()))
        place = best()
        assert place is not None
        place.busy += 1
        return place

    def _living(self) -> list[_Place]:
        return [place for place in self._places if place.ready]

    async def _until(
        self, met: Callable[[], bool], *, living: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait for a condition, with patience while nobody lives."""
        give_up = time.monotonic() + self._config.patience_s
        async with self._change:
            while not met():
                if self._stopped is not None:
                    raise self._stopped
                if living():
                    give_up = time.monotonic() + self._config.patience_s
                left = give_up - time.monotonic()
                if left <= 0:
                    raise self._nobody()
                try:
                    await asyncio.wait_for(self._change.wait(), timeout=min(left, 10.0))
                except TimeoutError:
                    if not living():
                        _LOG.warning("no worker is there yet; Ray is waiting for room for one")
            if self._stopped is not None:
                raise self._stopped

    def _nobody(self) -> RunStopped:
        config = self._config
        return RunStopped(
            f"no worker came up in {config.patience_s:g} s; each needs {config.cpus:g} cores "
            f"and {config.gpus:g} GPUs of one machine",
            hint="add machines or ask for less (`ray status` shows what is free); "
            "the same command goes on",
        )

    async def _tell(self) -> None:
        async with self._change:
            self._change.notify_all()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _bury(self, place: _Place, actor: Any, error: BaseException) -> None:
        """Replace a worker, once, although each of its loops reports its death."""
        if place.actor is not actor:
            return
        self.deaths += 1
        _LOG.warning("a worker was lost and is replaced: %s", _first_line(error))
        place.actor, place.busy, place.ready = None, 0, False
        self._dismiss(actor)  # one that is only out of reach must not come back
        for door in self._doors:
            if door is not None:
                door.forget(place.name)
        self._spawn(self._fill(place))

    async def _fill(self, place: _Place) -> None:
        """Put a worker into a place, trying again when it dies before it is ready."""
        try:
            while True:
                place.actor = actor = self._hire()
                try:
                    said = await actor.open.remote()
                    if "error" in said:
                        raise error_from(said["error"])
                    await self._compare(said)
                    await self._open.wait()
                    self._hired += 1
                    place.name = f"worker {self._hired}"
                    await actor.begin.remote(place.name, *self._doors)
                except self._passing as error:
                    await self._start_failed(place, actor, error)
                    continue
                place.counts.append({"hits": 0, "engines": {}})
                place.busy, place.ready = 0, True
                await self._tell()
                return
        except Exception as error:  # noqa: BLE001 - it ends the run, where it is raised again
            self._stopped = error
            await self._tell()

    async def _start_failed(self, place: _Place, actor: Any, error: BaseException) -> None:
        """Wait a little before another try, or give up."""
        self._dismiss(actor)
        place.actor = None
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            if isinstance(error, BackendError):
                raise error
            raise RunStopped(
                f"{_FAILED_STARTS} workers died one after the other as they started, "
                f"the last one so: {_first_line(error)}",
                hint="look into Ray's logs (often memory); the same command goes on",
            ) from error
        _LOG.warning("a worker did not come up: %s", _first_line(error))
        pause_s = self._starting_pause_s * 2 ** max(0, self._failed_starts - 1)
        await asyncio.sleep(min(_LONGEST_WAIT_S, pause_s))

    async def _compare(self, said: dict[str, Any]) -> None:
        """Remember the first worker's facts and refuse one that would say other things.

        Raises:
            UserError: It has other models or documents than the first one.
        """
        if self._facts is None:
            self._facts = said
            await self._tell()
            return
        known, found = _what_counts(self._facts), _what_counts(said)
        differing = [part for part in known if known[part] != found.get(part)]
        if differing:
            lines = "\n".join(
                f"  - {part}: {known[part]} there, {found.get(part)} here" for part in differing
            )
            raise UserError(
                f"the workers differ: {self._facts['place']} and {said['place']}\n{lines}",
                hint="give all machines the same files, version, number format and kind of device",
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _what_counts(said: dict[str, Any]) -> dict[str, Any]:
    """Return what has to be the same in all workers, for the same results."""
    return {**said["identity"], "reflectory": said["version"]}
