"""What is known of a run while it goes on: counts, loops, rates, time left.

Nothing here draws. The loops' thread writes facts down, in a few look-ups for each node
and each call; whoever draws asks for a :class:`Snapshot` a few times a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.cli.progress_snapshot import LoopNow, Snapshot, Training
from reflectory.cli.progress_time import Rates, Work
from reflectory.observability.listening import Listener
from reflectory.types import Examination, matrix_of

if TYPE_CHECKING:
    from reflectory.models.protocol import Usage
    from reflectory.observability.place import Place
    from reflectory.runs.budget import Ledger
    from reflectory.types import Trajectory


class Activity(Listener):
    """Listens to a run and says on demand how it stands; may be used from several threads.

    Args:
        clock: Seconds that only grow; for tests.
        asked: Set when somebody asks for an end.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        asked: threading.Event | None = None,
    ) -> None:
        self._clock = clock
        self._asked = asked
        self._lock = threading.Lock()
        self._began = clock()
        self._ledger: Ledger | None = None
        self._calls = self._hits = self._read = self._written = 0
        self._rates = Rates()
        self._last: Trajectory | None = None
        self.expect("loops", None)

    def begin_stage(self) -> None:
        """Note that something else begins, and forget what was shown before."""
        self.expect("", None)
        with self._lock:
            self._last = None

    def expect(
        self,
        unit: str,
        total: int | None,
        *,
        iterations: int | None = None,
        observed: bool = True,
    ) -> None:
        """Note what will be counted from here on.

        Args:
            unit: ``loops`` or ``answers``; empty for a stage without a count.
            total: How many; ``None`` when that is not known.
            iterations: T.
            observed: Whether this process runs them and hears of their nodes.
        """
        with self._lock:
            self._unit, self._total = unit, total
            self._iterations, self._observed = iterations, observed
            self._done = self._failed = self._kept = 0
            self._running: dict[str, LoopNow] = {}
            self._ended: dict[str, tuple[int, float]] = {}
            self._calls_before = 0
            self._work = Work()
            self._doing = ""
            self._training: Training | None = None

    def finished(self, trajectory: Trajectory) -> None:
        """Count a loop whose trajectory is there."""
        with self._lock:
            took = self._ended.pop(trajectory.id, None)
            self._count(failed=trajectory.error is not None)
            if took is None and self._observed:
                self._kept += 1
            else:
                self._work.finish(self._clock(), *(took or ()))
            if trajectory.examinations:
                self._last = trajectory

    def answered(self, done: int, total: int, doing: str, *, failed: bool) -> None:
        """Count an answer of an evaluation; ``done`` and ``total`` are its own counts."""
        with self._lock:
            self._total, self._doing = total, doing
            if done > self._done:
                self._count(failed=failed)
                asked = self._calls + self._hits
                # What an earlier session answered comes without a call.
                if asked > self._calls_before:
                    self._work.finish(self._clock())
                else:
                    self._kept += 1
                self._calls_before = asked
            self._done = done

    def trained(self, step: int, steps: int, loss: float, seconds: float) -> None:
        """Note a step of a training."""
        with self._lock:
            first = loss if self._training is None else self._training.first
            self._training = Training(step, steps, loss, first, seconds)

    def _count(self, *, failed: bool) -> None:
        self._done += 1
        self._failed += failed

    # What a run tells, on the thread of its event loop.

    def loop_began(self, loop: str) -> None:
        """Note a loop in the making."""
        with self._lock:
            self._running[loop] = LoopNow(loop, self._clock())
            self._work.begin(self._clock())

    def node_began(self, place: Place, state: Mapping[str, Any]) -> None:
        """Note where a loop is."""
        with self._lock:
            now = self._running.get(place.loop)
            if now is None:
                return
            now.nodes += 1
            if not now.instruction:
                now.instruction = str(state.get("instruction", ""))
                now.names = place.levels
            if place.level is not None:
                if place.iteration != now.iteration:
                    now.iteration, now.levels = place.iteration, {}
                now.levels[place.level] = place.step
                return
            if place.step != "grade":  # beside the branches, and shown by none of them
                now.step = place.step
                now.levels = {}

    def node_ended(self, place: Place, update: Mapping[str, Any]) -> None:
        """Note a cell."""
        cell = update.get("cell")
        if not isinstance(cell, Examination):
            return
        with self._lock:
            now = self._running.get(place.loop)
            if now is None:
                return
            now.cells[cell.iteration, cell.level] = cell
            if cell.status is not CellStatus.PENDING and cell.iteration == now.iteration:
                now.levels[cell.level] = str(cell.status.value)

    def loop_ended(self, loop: str) -> None:
        """Take a loop off; whether it is done is told with its trajectory."""
        with self._lock:
            now = self._running.pop(loop, None)
            if now is not None and self._unit == "loops":
                self._ended[loop] = (now.nodes, self._clock() - now.began)

    def call_ended(self, usage: Usage, *, cached: bool) -> None:
        """Count a call."""
        with self._lock:
            if cached:
                self._hits += 1
                return
            self._calls += 1
            self._read += usage.prompt_tokens - usage.reused_tokens
            self._written += usage.completion_tokens

    def budget_opened(self, ledger: Ledger) -> None:
        """Remember who knows what is spent."""
        with self._lock:
            self._ledger = ledger

    def snapshot(self) -> Snapshot:
        """Return how things stand now."""
        budget = self._budget()
        with self._lock:
            now = self._clock()
            rates = self._rates.at(now, self._read, self._written)
            read, written = rates if self._calls else (None, None)
            running = tuple(self._running.values())
            title, matrix = self._matrix(running)
            asked = self._asked is not None and self._asked.is_set()
            total = self._total
            left = None if total is None else total - self._done
            return Snapshot(
                unit=self._unit,
                done=self._done,
                total=total,
                failed=self._failed,
                kept=self._kept,
                seconds=now - self._began,
                left_s=self._work.left(now, left, [loop.nodes for loop in running]),
                running=tuple(_copy(loop) for loop in running),
                iterations=self._iterations,
                calls=self._calls,
                hits=self._hits,
                read=read,
                written=written,
                budget=budget,
                title=title,
                matrix=matrix,
                training=self._training,
                doing=self._doing,
                stopping=asked,
            )

    def _budget(self) -> dict[str, tuple[float | None, float]]:
        ledger = self._ledger
        if ledger is None or not ledger.limits.limits:
            return {}
        spent = ledger.spent().figures
        return {name: (spent[name], limit) for name, limit in ledger.limits.limits.items()}

    def _matrix(self, running: tuple[LoopNow, ...]) -> tuple[str, AlignmentMatrix | None]:
        oldest = next((loop for loop in running if loop.cells and loop.names), None)
        if oldest is not None:
            cells = tuple(c for c in oldest.cells.values() if c.level in oldest.names)
            return oldest.instruction, matrix_of(oldest.names, cells)
        if self._last is None:
            return "", None
        return self._last.instruction, self._last.alignment


def _copy(loop: LoopNow) -> LoopNow:
    """Return what is drawn of a loop, which changes no more."""
    return LoopNow(
        loop.id,
        loop.began,
        loop.instruction,
        loop.iteration,
        loop.step,
        dict(loop.levels),
        nodes=loop.nodes,
    )
