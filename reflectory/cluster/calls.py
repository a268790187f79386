"""One call cache for all workers: a process beside the run directory keeps it.

SQLite must not be written over a network file system, and the disk of a machine
that is lost is lost with it. So workers keep nothing: what a model said goes to
the keeper, on the machine of the run directory, before any loop goes on from it.
A worker may then die at any moment, and its loops run again elsewhere on recorded
calls. One process writes the file, in the layout of a run on one machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reflectory.cluster.said import describe_error, error_from
from reflectory.errors import ReflectoryError
from reflectory.models.protocol import Model
from reflectory.runs.cached_model import Answered, Asked, CachedModel
from reflectory.runs.call_cache import CallCache
from reflectory.runs.places import FILE_NAME, CallPlace, CallPlaces

Answers = dict[str, Any]
"""What the keeper says: ``found`` (per key a response, ``None`` for "make the call", or
``TAKEN``), ``kept`` (per call ``None`` where it was recorded now, else the response that
was there first), or ``error``."""


@dataclass
class Visit:
    """What a worker brings to the keeper, and wants to know.

    Attributes:
        worker: Who comes.
        keys: Content hashes to look up; the worker makes the calls that nobody has made.
        calls: Arguments of :meth:`~reflectory.runs.call_cache.CallCache.put`.
        dropped: Keys that the worker was to make and gave up.
        places: Loops, and where in them a call was made.
    """

    worker: str
    keys: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    places: list[tuple[str, CallPlace]] = field(default_factory=list)


Exchange = Callable[[Visit], Awaitable[Answers]]
"""A way to the keeper."""

TAKEN = "taken"
"""Another worker is making this call now."""

_MOST = 256
"""Calls that one visit carries at most, so that its message stays small."""
_LONGEST_WAIT_S = 0.5


class CallKeeper:
    """Keeps the calls of all workers in one file; the body of a Ray actor.

    It also knows who is making which call, so that two workers that come to the same
    call at the same time do not both pay for it. Killed and started again it opens the
    file again and has forgotten only that.

    Args:
        path: The call cache of the run directory, on a disk of this machine.
    """

    def __init__(self, path: str) -> None:
        self._cache = CallCache(Path(path))
        self._places = CallPlaces(Path(path).with_name(FILE_NAME))
        self._taken: dict[str, str] = {}

    def exchange(self, visit: Visit) -> Answers:
        """Record calls, and return what is known."""
        try:
            for key in visit.dropped:
                self._release(key, visit.worker)
            kept = []
            for call in visit.calls:
                is_new = self._cache.put(**call)
                kept.append(None if is_new else self._cache.get(call["key"]))
                self._release(call["key"], visit.worker)
            for loop, place in visit.places:
                self._places.add(loop, place)
            return {"found": [self._look_up(key, visit.worker) for key in visit.keys], "kept": kept}
        except ReflectoryError as error:
            return {"error": describe_error(error)}

    def forget(self, worker: str) -> None:
        """Let others make what a worker that died was making."""
        for key in [key for key, holder in self._taken.items() if holder == worker]:
            del self._taken[key]

    def _look_up(self, key: str, worker: str) -> dict[str, Any] | str | None:
        recorded = self._cache.get(key)
        if recorded is None and self._taken.setdefault(key, worker) != worker:
            return TAKEN
        return recorded

    def _release(self, key: str, worker: str) -> None:
        if self._taken.get(key) == worker:
            del self._taken[key]


class CallDesk:
    """A worker's way to the keeper: what is asked during one visit goes along with the next.

    With one loop a call waits for its own visit and nothing else; with a hundred
    loops a visit carries many calls, so that the keeper is asked less often the
    more there is to do. It belongs to the event loop that it is first used on.

    Args:
        worker: Who comes.
        exchange: One visit to the keeper.

    Attributes:
        visits: How often the keeper was asked.
    """

    def __init__(self, worker: str, exchange: Exchange) -> None:
        self._worker = worker
        self._exchange = exchange
        self._dropped: list[str] = []
        self._places: list[tuple[str, CallPlace]] = []
        self._noted: list[asyncio.Future[None]] = []
        self._keys: list[tuple[str, asyncio.Future[Any]]] = []
        self._calls: list[tuple[dict[str, Any], asyncio.Future[Any]]] = []
        self._visiting: asyncio.Task[None] | None = None
        self.visits = 0

    async def get(self, key: str) -> dict[str, Any] | None:
        """Return the recorded response, or ``None``: then the call is the caller's to make.

        Whoever gets ``None`` calls :meth:`put` or :meth:`drop`. Where another worker is
        making the call, its answer is waited for.

        Raises:
            IntegrityError: The file is damaged.
        """
        wait_s = 0.01
        while True:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._keys.append((key, answer))
            self._go()
            recorded: dict[str, Any] | str | None = await answer
            if not isinstance(recorded, str):
                return recorded
            await asyncio.sleep(wait_s)
            # So it is at most a quarter longer than the other worker's call took.
            wait_s = min(_LONGEST_WAIT_S, wait_s * 1.25)

    def drop(self, key: str) -> None:
        """Give up a call that :meth:`get` left to the caller."""
        self._dropped.append(key)
        self._go()

    def note_place(self, loop: str, place: CallPlace) -> None:
        """Note where in a loop a call was made, for its trace."""
        self._places.append((loop, place))
        self._go()

    async def settle(self) -> None:
        """Wait until everything that was noted so far is kept.

        Raises:
            StorageError: The disk is full or the file cannot be written.
        """
        noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._noted.append(noted)
        self._go()
        await noted

    async def put(self, call: dict[str, Any]) -> dict[str, Any] | None:
        """Record a call; it is kept when this returns.

        Returns:
            The response that was recorded before under this key, ``None`` when there was none.

        Raises:
            StorageError: The disk is full or the file cannot be written.
            IntegrityError: The file is damaged.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append((call, answer))
        self._go()
        earlier: dict[str, Any] | None = await answer
        return earlier

    def _go(self) -> None:
        """See to it that the keeper is visited; one visit at a time."""
        if self._visiting is None or self._visiting.done():
            self._visiting = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        """Visit the keeper until nobody waits any more."""
        while any((self._keys, self._calls, self._dropped, self._places, self._noted)):
            keys, self._keys = self._keys[:_MOST], self._keys[_MOST:]
            calls, self._calls = self._calls[:_MOST], self._calls[_MOST:]
            visit = Visit(
                self._worker,
                [key for key, _ in keys],
                [call for call, _ in calls],
                self._dropped,
                self._places,
            )
            self._dropped, self._places = [], []
            noted, self._noted = self._noted, []
            waiting = [future for _, future in (*keys, *calls)]
            self.visits += 1
            try:
                said = await self._exchange(visit)
                if "error" in said:
                    raise error_from(said["error"])
            except Exception as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
                for future in (*waiting, *noted):
                    if not future.done():
                        future.set_exception(error)
                continue
            values = (*said["found"], *said["kept"], *(None for _ in noted))
            for future, value in zip((*waiting, *noted), values, strict=True):
                if not future.done():
                    future.set_result(value)
            # Whoever was cancelled meanwhile makes no call, although it is theirs to make.
            for (key, future), value in zip(keys, said["found"], strict=True):
                if value is None and future.cancelled():
                    self._dropped.append(key)


class DeskModel(CachedModel):
    """A model that is asked only what no worker of the run ever asked before.

    Looking up and recording are part of the one flight of a call, so that all who
    ask the same in this process at the same time wait for one answer.

    Args:
        model: What answers.
        desk: The way to the keeper.
    """

    def __init__(self, model: Model, desk: CallDesk) -> None:
        super().__init__(model, _Elsewhere())  # type: ignore[arg-type]
        self._desk = desk

    async def _ask(
        self,
        key: str,
        kind: str,
        request: Asked,
        content: dict[str, Any],
        answer_type: type[Answered],
        ask: Callable[[Asked], Awaitable[Answered]],
    ) -> Answered:
        recorded = await self._desk.get(key)
        if recorded is not None:
            self.hits += 1
            self.misses -= 1
            return self._parse(recorded, answer_type)
        began = time.perf_counter()
        try:
            answer = await ask(request)
        except BaseException:
            self._desk.drop(key)
            raise
        if getattr(answer, "finish", "") == "cancelled":
            self._desk.drop(key)
            return answer
        call = {
            "key": key,
            "kind": kind,
            "role": request.role,
            "model": self.fingerprint,
            "request": content,
            "response": answer.model_dump(mode="json"),
            "seconds": time.perf_counter() - began,
        }
        # Paid for, so it is recorded even when whoever asked is cancelled meanwhile.
        earlier = await asyncio.shield(self._desk.put(call))
        return answer if earlier is None else self._parse(earlier, answer_type)


class _Elsewhere:
    """Stands where a process of its own would have a file: nothing is known here."""

    path = Path("calls.sqlite")

    def recall(self, key: str, **call: Any) -> None:
        """Know nothing; the keeper is asked in the call's flight."""
