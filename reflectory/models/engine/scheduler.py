"""The thread that owns torch, and what it does next.

Callers put jobs in; the thread prepares them (tokens), gathers those that
belong together into batches, writes one token per live row and step, and lets
waiting rows join between steps. All state but the inbox belongs to the thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from reflectory.models.engine.decoding import Batch
from reflectory.models.engine.failures import closed_error, failure_of, is_out_of_memory
from reflectory.models.engine.prefix_cache import PrefixCache
from reflectory.models.engine.runner import Runner
from reflectory.models.engine.scoring import score_together
from reflectory.models.engine.selection import Limits, choose
from reflectory.models.engine.work import (
    CompletionRow,
    Job,
    Row,
    ScoreRow,
    completion_row,
    score_rows,
    scores_of,
)
from reflectory.models.protocol import Completion, Request, Scores
from reflectory.models.torch_thread import run_in_torch_thread

GATHER_SECONDS = 0.005
"""How long the first job waits for its siblings; much less than one step takes."""

PATIENCE_STEPS = 8
"""Joining copies the running batch once, about the work of a step. A few waiting
rows wait this many steps; many are let in at once."""


class Scheduler:
    """Runs jobs on one model in one daemon thread, started with the first job.

    Args:
        runner: The model.
        tokenizer: Its tokenizer.
        lock: Held while the tokenizer makes tokens of text.
        prefixes: Keys and values of shared beginnings.
        limits: How large a batch may be.
        invariant: Run every row alone, so that its numbers depend on it only.
        window: Most tokens of prompt and completion, if there is such a limit.
        on_done: Called in the thread with each job and its result, before the caller
            gets it.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Any,
        lock: threading.Lock,
        prefixes: PrefixCache,
        *,
        limits: Limits,
        invariant: bool,
        window: int | None,
        on_done: Callable[[Job, Completion | Scores], None],
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._lock = lock
        self._prefixes = prefixes
        self._limits = limits
        self._invariant = invariant
        self._window = window
        self._on_done = on_done
        self._changed = threading.Condition()
        self._inbox: list[Job] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self._waiting: list[Row] = []
        self._batch: Batch | None = None
        self._most_rows = limits.rows
        self._steps = 0

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
                run_in_torch_thread(self._step)
            except Exception as error:  # noqa: BLE001 - else its callers would wait for ever
                self._fail_everything(error)
        self._fail_everything(closed_error())
        self._prefixes.clear()

    def _step(self) -> None:
        # The mode belongs to a thread, so it is set in the one that computes.
        with torch.inference_mode():
            self._advance()

    def _fail_everything(self, error: Exception) -> None:
        rows = [*self._waiting, *(self._batch.rows if self._batch is not None else ())]
        self._waiting, self._batch = [], None
        for row in rows:
            row.job.finish(error)

    def _collect(self) -> bool:
        """Take the jobs from the inbox, waiting when there is nothing to do."""
        with self._changed:
            if not self._waiting and self._batch is None:
                self._most_rows = self._limits.rows
                while not self._inbox and not self._closing:
                    self._changed.wait()
                self._gather()
            jobs, self._inbox = self._inbox, []
            closing = self._closing
        if closing:
            for job in jobs:
                job.finish(closed_error())
            return False
        for job in jobs:
            if not job.future.cancelled():
                self._prepare(job)
        return True

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
                        completion_row(job, request, self._tokenizer, self._window)
                    ]
                else:
                    rows = score_rows(
                        job,
                        request,
                        self._tokenizer,
                        self._window,
                        whole_prompt=not self._invariant,
                    )
        except Exception as error:  # noqa: BLE001 - handed to the caller whose job it is
            job.finish(error)
            return
        job.rows = tuple(rows)
        self._waiting.extend(rows)

    def _advance(self) -> None:
        """Let waiting rows in, or run those that wait alone, then write one token each."""
        self._drop_cancelled()
        if self._waiting and self._may_admit():
            self._admit()
        elif self._batch is not None and self._batch.live:
            self._steps += 1
            self._run(self._batch.live, self._batch.step)
        self._deliver()

    def _may_admit(self) -> bool:
        """Return whether there is a batch to let rows in to, and whether that pays."""
        if self._batch is None:
            return True
        live = len(self._batch.live)
        full = live >= self._most_rows
        able = sum(isinstance(row, ScoreRow) or not full for row in self._waiting)
        return able > 0 and (4 * able >= live or self._steps >= PATIENCE_STEPS)

    def _admit(self) -> None:
        running = [] if self._batch is None else self._batch.live
        columns = 0 if self._batch is None else self._batch.columns
        rows = choose(self._waiting, running, columns, self._limits, self._most_rows)
        self._steps = 0
        if not rows:
            if self._batch is not None:  # No room: go on without them.
                self._run(running, self._batch.step)
            return
        chosen = set(map(id, rows))
        self._waiting = [row for row in self._waiting if id(row) not in chosen]
        scored = [row for row in rows if isinstance(row, ScoreRow)]
        written = [row for row in rows if isinstance(row, CompletionRow)]
        if scored:
            self._run(scored, lambda: self._score(scored))
        else:
            self._run(written, lambda: self._start(written))

    def _score(self, rows: list[ScoreRow]) -> None:
        score_together(self._runner, self._prefixes, rows)
        for job in {id(row.job): row.job for row in rows}.values():
            done = [r for r in job.rows if isinstance(r, ScoreRow) and r.logprobs is not None]
            if len(done) == len(job.rows):
                self._finish(job, scores_of(done))

    def _start(self, rows: list[CompletionRow]) -> None:
        new = Batch(self._runner, self._prefixes, rows, self._tokenizer)
        if self._batch is None:
            self._batch = new
        else:
            self._batch.join(new)

    def _run(self, rows: Sequence[Row], work: Callable[[], None]) -> None:
        """Do a piece of work for some rows; when it fails they try again in smaller groups."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the callers of these rows
            self._recover(list(rows), error)

    def _recover(self, rows: list[Row], error: Exception) -> None:
        memory = is_out_of_memory(error)
        if memory:
            self._prefixes.clear()
        if self._batch is not None:
            # A batch whose step or join failed half way cannot be continued.
            rows = [*self._batch.live, *(r for r in rows if r not in self._batch.rows)]
            self._deliver_rows(self._batch.rows)
            self._batch = None
        for row in rows:
            row.reset()
        if memory and self._runner.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(rows) > 1:
            self._most_rows = max(1, len(rows) // 2)
            self._waiting = rows + self._waiting
        elif memory and rows[0].attempts == 0:
            rows[0].attempts = 1  # The prefix cache took the room; now it is empty.
            self._waiting = rows + self._waiting
        else:
            rows[0].job.finish(failure_of(error, memory, rows[0].width))

    def _drop_cancelled(self) -> None:
        self._waiting = [row for row in self._waiting if not row.job.future.done()]
        if self._batch is not None:
            for row in self._batch.live:
                if row.job.future.done():
                    row.finish = "cancelled"

    def _deliver(self) -> None:
        """Hand over what is finished and give its places back."""
        if self._batch is not None:
            self._deliver_rows(self._batch.rows)
            if not self._batch.live:
                self._batch = None
            else:
                self._run(self._batch.live, self._batch.compact)

    def _deliver_rows(self, rows: Sequence[CompletionRow]) -> None:
        for row in rows:
            if row.finish and not row.job.future.done():
                self._finish(row.job, row.completion(self._tokenizer))

    def _finish(self, job: Job, result: Completion | Scores) -> None:
        if not job.future.done():
            # First, so that whoever got the result finds it counted.
            self._on_done(job, result)
            job.finish(result)
