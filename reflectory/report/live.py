"""A matrix that grows in a notebook's cell while loops run.

    >>> with LiveMatrix(loop) as live:
    ...     trajectory = loop.run("Explain why.", on_event=live)

Outside of a notebook nothing is shown, and the same lines run.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.config import LoopConfig
from reflectory.report.matrix_html import matrix_html
from reflectory.report.terminal import plain

if TYPE_CHECKING:
    from reflectory.driver import LoopEvent
    from reflectory.loop import ReflectiveLoop
    from reflectory.types import Examination, Response

_STEPS = {
    "preprocess": "the documents are read",
    "retrieve": "passages are found",
    "aggregate": "the context is made",
    "respond": "the first response is written",
    "ask": "the teacher has asked",
    "answer": "the student has answered",
    "evaluate": "an answer is graded",
    "align": "a cell is done",
    "grade": "the response is graded",
    "reflect": "the student has reflected",
    "check": "the change is measured",
    "conclude": "the last response is graded",
}


class Display(Protocol):
    """What is updated: IPython's display handle, or a double of it."""

    def update(self, shown: Any) -> None:
        """Put something in the place of what is shown."""
        ...


class LiveMatrix:
    """Shows A while it is filled; handed over as ``on_event``.

    With one loop it is that loop's matrix with its grades G; with several at the same time
    it is the mean over them, and how many are over. It keeps one number per cell and loop
    that is not over, whatever the length of the run.

    Args:
        loop: Whose events come, or its configuration: the levels and the threshold.
        interval: Least seconds between two updates, at least 0.
        display: Where it is shown; the notebook's cell when ``None``.

    Attributes:
        loops: How many loops have begun.
        finished: How many are over.
    """

    def __init__(
        self,
        loop: ReflectiveLoop | LoopConfig | None = None,
        *,
        interval: float = 0.25,
        display: Display | None = None,
    ) -> None:
        given: Any = LoopConfig() if loop is None else loop
        config: LoopConfig = getattr(given, "config", given)
        self._levels: tuple[str, ...] = config.level_names
        self._epsilon: float | None = config.epsilon
        self._interval = interval
        self._display = display
        self._lock = threading.Lock()
        self._shown_at = -1e9
        self._cells: dict[tuple[str, int], list[float]] = {}  # (level, t): sum, count, failed
        self._grades: dict[int, float] = {}
        self._running: set[str] = set()
        self._step = ""
        self._converged = False
        self.loops = 0
        self.finished = 0

    def __enter__(self) -> Self:
        if self._display is None:
            self._display = _cell_of_a_notebook(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._step = "" if error is None else "stopped"
        self._show(now=True)

    def __call__(self, event: LoopEvent) -> None:
        """Take in what has just been done; called from the thread that runs the loops."""
        with self._lock:
            if event.trajectory_id not in self._running:
                self._running.add(event.trajectory_id)
                self.loops += 1
            self._take_in(event)
            if event.step == "conclude":
                self._running.discard(event.trajectory_id)
                self.finished += 1
        self._show()

    @property
    def matrix(self) -> AlignmentMatrix:
        """What is known so far, of shape (k, T so far); the mean where there are several loops.

        A cell is done when one loop has it, failed when it failed in all that came so far.
        """
        with self._lock:
            cells = {key: list(value) for key, value in self._cells.items()}
        columns = 1 + max((t for _, t in cells), default=-1)
        values = np.full((len(self._levels), columns), np.nan)
        status = [[CellStatus.PENDING] * columns for _ in self._levels]
        for (level, t), (total, count, failed) in cells.items():
            j = self._levels.index(level)
            if count:
                values[j, t], status[j][t] = min(1.0, total / count), CellStatus.DONE
            elif failed:
                status[j][t] = CellStatus.FAILED
        alone = self.loops == 1
        return AlignmentMatrix(
            self._levels,
            values,
            status=status,
            epsilon=self._epsilon if alone else None,
            converged=self._converged and alone,
        )

    def _repr_html_(self) -> str:
        """What the cell shows."""
        matrix = self.matrix
        caption = "Alignment A[j,t]" if self.loops < 2 else f"Mean A[j,t] of {self.loops} loops"
        return matrix_html(matrix, caption=caption, note=self._note())

    def __repr__(self) -> str:
        return f"{self.matrix}\n{self._note()}"

    def _note(self) -> str:
        """Return the line below: grades, loops that are over, and what was done last."""
        with self._lock:
            grades = dict(sorted(self._grades.items())) if self.loops == 1 else {}
            words = [f"G[{t}] = {score:.2f}" for t, score in grades.items()]
        if self.loops > 1:
            words.append(f"{self.finished} of {self.loops} loops are over")
        if self._step:
            words.append(self._step)
        elif self.loops == 1 and self.finished == 1:
            words.append("converged" if self._converged else "over")
        return ", ".join(words) or "nothing yet"

    def _take_in(self, event: LoopEvent) -> None:
        cell: Examination | None = event.update.get("cell")
        if cell is not None and cell.level in self._levels:
            kept = self._cells.setdefault((cell.level, cell.iteration), [0.0, 0.0, 0.0])
            if cell.status is CellStatus.DONE and cell.alignment is not None:
                kept[0] += cell.alignment
                kept[1] += 1
            elif cell.status is CellStatus.FAILED:
                kept[2] += 1
        responses: Mapping[int, Response] = event.update.get("responses") or {}
        for t, response in responses.items():
            if response.grade is not None:
                self._grades[t] = response.grade.score
        stop = event.update.get("stop")
        if stop is not None:
            self._converged = stop.converged
        place = "" if event.iteration is None else f" (t = {event.iteration})"
        level = "" if event.level is None else f"{plain(event.level)}: "
        self._step = f"{level}{_STEPS.get(event.step, event.step)}{place}"

    def _show(self, *, now: bool = False) -> None:
        if self._display is None:
            return
        clock = time.monotonic()
        if not now and clock - self._shown_at < self._interval:
            return
        self._shown_at = clock
        self._display.update(self)


def _cell_of_a_notebook(shown: LiveMatrix) -> Display | None:
    """Return a handle of the cell that runs, or ``None`` where there is no notebook.

    IPython is not imported: where it has not been, there is no notebook. In its terminal an
    update would be one more print, so there it is silent, too.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    handle: Display | None = display(shown, display_id=True)
    return handle
