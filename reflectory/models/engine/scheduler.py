"""The thread of an engine, and what it does next.

Callers put jobs in; the thread prepares them (tokens), lets waiting rows in as soon
as there is room, and writes one token per running row and pass. All state but the
inbox belongs to the thread; what computes does so in the torch thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from reflectory.models.engine.batch import Batch
from reflectory.models.engine.failures import closed_error, failure_of, is_out_of_memory
from reflectory.models.engine.memory import empty_caches
from reflectory.models.engine.plain import PlainBatch
from reflectory.models.engine.rendering import Renderer
from reflectory.models.engine.selection import Limits, choose
from reflectory.models.engine.work import (
    CompletionRow,
    Counts,
    Job,
    Row,
    ScoreRow,
    completion_row,
    score_rows,
    scores_of,
)
from reflectory.models.protocol import Request
from reflectory.models.torch_thread import run_in_torch_thread

_GOOD_PASSES = 32
"""After so many without a failure twice as many rows may run together again."""

GATHER_SECONDS = 0.005
"""How long the first job waits for its siblings; much less than one pass takes."""


class Scheduler:
    """Runs jobs in one daemon thread, started with the first job.

    Args:
        make_batch: Makes what rows run in; called in the thread when there is none.
        tokenizer: Makes tokens of text.
        lock: Held meanwhile.
        limits: How much may run at once.
        window: Most tokens of prompt and completion, if there is such a limit.
        counts: Where time is counted.
    """

    def __init__(
        self,
        make_batch: Callable[[], Batch | PlainBatch],
        tokenizer: Any,
        lock: threading.Lock,
        *,
        limits: Limits,
        window: int | None,
        counts: Counts,
    ) -> None:
        self._make_batch = make_batch
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._lock = lock
        self._limits = limits
        self._window = window
        self._counts = counts
        self._changed = threading.Condition()
        self._inbox: list[Job] = []
        self._pauses: list[tuple[Callable[[], None], threading.Event]] = []
        self._errands: list[Callable[[Batch | PlainBatch | None], None]] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self._unanswered: list[Job] = []
        self._waiting: list[Row] = []
        self._batch: Batch | PlainBatch | None = None
        self._most_rows = limits.rows
        self._good = 0

    def limit(self, limits: Limits) -> None:
        """Set how much may run at once; called in the thread."""
        self._limits = limits
        self._most_rows = min(self._most_rows, limits.rows)

    def submit(self, job: Job) -> None:
        """Put a job into the queue.

        Raises:
            BackendError: The engine was closed.
        """
        with self._changed:
            if self._closing:
                raise closed_error()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="reflectory-engine", daemon=True
                )
                self._thread.start()
            self._inbox.append(job)
            self._changed.notify()

    def pause(self, drop: Callable[[], None]) -> None:
        """Wait until nothing runs, forget the batch and call ``drop``."""
        with self._changed:
            if self._thread is None or self._closing:
                drop()
                return
            done = threading.Event()
            self._pauses.append((drop, done))
            self._changed.notify()
        done.wait()

    def errand(self, work: Callable[[Batch | PlainBatch | None], None]) -> None:
        """Have something done between two passes, before cancelled rows could run on.

        Args:
            work: Gets what rows run in, if there is such a thing now.
        """
        with self._changed:
            if self._thread is not None and not self._closing:
                self._errands.append(work)
                self._changed.notify()
                return
        run_in_torch_thread(lambda: work(None))

    def close(self) -> None:
        """Fail what waits and runs, and end the thread; may be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._collect():
            try:
                began = time.perf_counter()
                run_in_torch_thread(self._step)
                self._counts.busy_seconds += time.perf_counter() - began
            except Exception as error:  # noqa: BLE001 - else its callers would wait for ever
                self._fail_everything(error)
        self._fail_everything(closed_error())

    def _step(self) -> None:
        # The mode belongs to a thread, so it is set in the one that computes.
        with torch.inference_mode():
            self._waiting = [row for row in self._waiting if not row.job.future.done()]
            with self._changed:
                errands, self._errands = self._errands, []
            for work in errands:
                work(self._batch)
            if self._batch is None:
                if not self._waiting:
                    return  # A sleeping model is not woken for an errand.
                self._batch = self._make_batch()
            self._advance(self._batch)

    def _fail_everything(self, error: Exception) -> None:
        self._waiting, self._batch = [], None
        for job in self._unanswered:
            job.finish(error)
        self._unanswered = []

    def _collect(self) -> bool:
        """Take the jobs from the inbox, waiting when there is nothing to do."""
        with self._changed:
            if not self._waiting and not (self._batch is not None and self._batch.rows):
                self._most_rows = self._limits.rows
                self._rest()
                while not (self._inbox or self._errands or self._closing):
                    self._changed.wait()
                    self._rest()
                self._gather()
            jobs, self._inbox = self._inbox, []
            closing = self._closing
            if closing:
                self._rest()
        if closing:
            for job in jobs:
                job.finish(closed_error())
            return False
        self._unanswered = [job for job in self._unanswered if not job.future.done()]
        for job in jobs:
            if not job.future.cancelled():
                self._unanswered.append(job)
                self._prepare(job)
        return True

    def _rest(self) -> None:
        """Grant the pauses that were asked for."""
        while self._pauses:
            drop, done = self._pauses.pop()
            self._batch = None
            drop()
            done.set()

    def _gather(self) -> None:
        """Wait a moment for siblings; the condition is held by the caller."""
        end = time.perf_counter() + GATHER_SECONDS
        while not self._closing and 1 <= len(self._inbox) < self._limits.rows:
            left = end - time.perf_counter()
            if left <= 0 or self._limits.rows == 1:
                return
            self._changed.wait(left)

    def _prepare(self, job: Job) -> None:
        request = job.request
        try:
            with self._lock:
                if isinstance(request, Request):
                    rows: Sequence[Row] = [
                        completion_row(job, request, self._renderer, self._window)
                    ]
                else:
                    rows = score_rows(job, request, self._renderer, self._window)
        except Exception as error:  # noqa: BLE001 - handed to the caller whose job it is
            job.finish(error)
            return
        job.rows = tuple(rows)
        self._waiting.extend(rows)

    def _advance(self, batch: Batch | PlainBatch) -> None:
        """Let waiting rows in, and write a token for each that runs."""
        self._drop_cancelled(batch)
        rows = choose(self._waiting, batch.rows, self._limits, self._most_rows)
        if rows:
            chosen = set(map(id, rows))
            self._waiting = [row for row in self._waiting if id(row) not in chosen]
            self._admit(batch, rows)
        elif batch.rows:
            self._run(batch, batch.rows, batch.step)
        self._deliver(batch.sweep())

    def _admit(self, batch: Batch | PlainBatch, rows: Sequence[Row]) -> None:
        written = [row for row in rows if isinstance(row, CompletionRow)]
        scored = [row for row in rows if isinstance(row, ScoreRow)]
        if written:
            self._run(batch, written, lambda: batch.start(written))
        if scored:
            self._run(batch, scored, lambda: batch.score(scored))
            for job in {id(row.job): row.job for row in scored}.values():
                done = [r for r in job.rows if isinstance(r, ScoreRow) and r.logprobs is not None]
                if len(done) == len(job.rows):
                    job.finish(scores_of(done))

    def _run(
        self, batch: Batch | PlainBatch, rows: Sequence[Row], work: Callable[[], None]
    ) -> None:
        """Do a piece of work for some rows; when it fails they try again in smaller groups."""
        try:
            work()
            self._recovering()
        except Exception as error:  # noqa: BLE001 - handed to the callers of these rows
            self._recover(batch, list(rows), error)

    def _recovering(self) -> None:
        """Let more rows run together again when it went well for a while."""
        if self._most_rows < self._limits.rows:
            self._good += 1
            if self._good % _GOOD_PASSES == 0:
                self._most_rows = min(2 * self._most_rows, self._limits.rows)

    def _recover(self, batch: Batch | PlainBatch, rows: list[Row], error: Exception) -> None:
        memory, self._good = is_out_of_memory(error), 0
        rows = [row for row in rows if not getattr(row, "finish", "")]
        # A pass that failed half way leaves nothing that could be continued.
        live = [row for row in batch.rows if not row.finish and row not in rows]
        self._deliver(batch.sweep())
        batch.clear()
        if memory:
            error.__traceback__ = None  # It holds the tensors of the pass.
            batch.forget()  # The kept prefixes took the room.
            empty_caches()
        for row in (*live, *rows):
            row.reset()
        if not rows:
            self._waiting = [*live, *self._waiting]
        elif len(rows) > 1:
            self._most_rows = max(1, len(rows) // 2)
            self._waiting = [*live, *rows, *self._waiting]
        elif live or (memory and rows[0].attempts == 0):
            # Perhaps it was the company; the next time it is alone.
            rows[0].attempts = 1
            self._most_rows = 1
            self._waiting = [*rows, *live, *self._waiting]
        else:
            rows[0].job.finish(failure_of(error, memory, rows[0].width))

    def _deliver(self, rows: Sequence[CompletionRow]) -> None:
        for row in rows:
            if row.finish == "cancelled" or row.job.future.done():
                continue
            try:
                row.job.finish(row.completion(self._tokenizer))
            except Exception as error:  # noqa: BLE001 - handed to the caller whose row it is
                row.job.finish(error)

    def _drop_cancelled(self, batch: Batch | PlainBatch) -> None:
        self._waiting = [row for row in self._waiting if not row.job.future.done()]
        for row in batch.rows:
            if row.job.future.done():
                row.finish = "cancelled"
        batch.sweep()
