"""The facade of the rounds: documents, a teacher and a student in; a better student out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from reflectory.assembly import Sources
from reflectory.background import BACKGROUND
from reflectory.config import RunConfig
from reflectory.driver import Review
from reflectory.errors import UserError
from reflectory.evaluation.held_out import read_held_out
from reflectory.graphs.round_state import RoundContext
from reflectory.graphs.self_improvement import build_self_improvement
from reflectory.improvement.crew import Crew
from reflectory.improvement.driver import OnRoundReview, drive_rounds
from reflectory.improvement.folder import StageFolder
from reflectory.improvement.learning import base_named, distilled_from
from reflectory.improvement.lineage import (
    adapter_of,
    read_lineage,
    read_rounds,
    reopen_failed,
    restore_student,
)
from reflectory.improvement.records import ImprovementResult, RoundRecord, StudentRecord
from reflectory.improvement.rounds import SETTINGS, Rounds
from reflectory.improvement.watcher import RoundWatcher
from reflectory.improvement.workshop import Workshop
from reflectory.models.device import describe_device
from reflectory.runner import model_records
from reflectory.runs.budget import Ledger
from reflectory.runs.checkpoints import open_checkpointer
from reflectory.runs.directory import RunDirectory
from reflectory.runs.lock import FolderLock
from reflectory.runs.spending import open_ledger, spent_in


class SelfImprovement:
    """Rounds of self-improvement in a run directory.

    A round practises, runs reflective loops, chooses what is worth learning, trains an
    adapter and compares it with the student as it was on held-out questions; only a
    better one becomes the student of the next round. Nothing is loaded before
    :meth:`run`, and the same call again goes on where it stopped, also after a kill.

    Args:
        output: The run directory.
        config: Everything that is configured; its ``documents``, ``teacher``, ``student``
            and the rest are used where no object is handed over here.
        documents: As :class:`~reflectory.loop.ReflectiveLoop` takes them.
        teacher: The same.
        embedder: The same.
        grader: The same.
        verifier: The same.

    Example:
        >>> rounds = SelfImprovement("runs/better", RunConfig(documents="notes/"))
        >>> result = rounds.run()
        >>> result.student.adapter
        'rounds/001/adapter'
    """

    def __init__(
        self,
        output: str | Path,
        config: RunConfig | None = None,
        *,
        documents: Any = None,
        teacher: Any = None,
        embedder: Any = None,
        grader: Any = None,
        verifier: Any = None,
    ) -> None:
        self.output = Path(output)
        settings = config or RunConfig()
        if not isinstance(settings, RunConfig):
            raise UserError(
                f"config must be a RunConfig, got {type(config).__name__}",
                hint="from reflectory import RunConfig",
            )
        self.config = settings.anchored(Path.cwd())
        self._sources = Sources(
            documents=list(self.config.documents) if documents is None else documents,
            teacher=self.config.teacher if teacher is None else teacher,
            student=self.config.student,
            embedder=self.config.embedder if embedder is None else embedder,
            grader=grader,
            verifier=verifier,
            teacher_adapter=self.config.teacher_adapter,
            student_adapter=self.config.student_adapter,
            device=self.config.device,
            dtype=self.config.dtype,
            remote=self.config.remote,
        )

    async def arun(
        self,
        *,
        watcher: RoundWatcher | None = None,
        on_review: OnRoundReview | None = None,
        on_loop_review: Review | None = None,
        retry_failed: bool = False,
    ) -> ImprovementResult:
        """Make the rounds; see :meth:`run`.

        Args:
            watcher: Is told what happens.
            on_review: Asks a person about rows or a promotion.
            on_loop_review: Asks a person within a loop.
            retry_failed: Try again a round that failed.
        """
        self._check()
        crew = Crew(self._sources, self.config)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(crew.rest)
            await asyncio.to_thread(lambda: crew.split)
            run = await self._open(crew)
            stack.enter_context(run)
            ledger = await self._open_ledger(crew, run)
            stack.callback(_close_session, run, crew, ledger)
            crew.use(run.calls, ledger)
            StageFolder(run.path).clean()
            if retry_failed:
                reopen_failed(run.path)
            saver = await stack.enter_async_context(
                open_checkpointer(run.checkpoints_path, self.config.checkpoints)
            )
            shop = Workshop(run, self.config, crew, watcher or RoundWatcher(), on_loop_review)
            graph = build_self_improvement(
                review=self.config.improvement.review, checkpointer=saver
            )
            used = self.config.model_dump(mode="json")
            await drive_rounds(
                graph,
                RoundContext(Rounds(shop), self.config.improvement.rounds),
                run.path,
                {part: used[part] for part in SETTINGS},
                on_review=on_review,
            )
            spent = spent_in(run, ledger.prices).figures
            run.update_manifest(hits=crew.hits(), spent=spent, finished=True)
        return self.result()

    def run(
        self,
        *,
        watcher: RoundWatcher | None = None,
        on_review: OnRoundReview | None = None,
        on_loop_review: Review | None = None,
        retry_failed: bool = False,
    ) -> ImprovementResult:
        """Make the rounds that are left, and return all of them.

        Args:
            watcher: Told what is happening.
            on_review: Answers where ``improvement.review`` asks for a person.
            on_loop_review: Answers where ``loop.review`` does.
            retry_failed: Make the last round again if it failed.

        Returns:
            Rounds and students of the run. A round in which nothing could be learnt is
            among them as ``failed``, and ends the call.

        Raises:
            UserError: Something that was named does not exist, does not fit, cannot be
                trained, or the run directory belongs to another configuration.
            BackendError: A model, download or disk failed; the same call goes on.
        """
        return BACKGROUND.run(
            self.arun(
                watcher=watcher,
                on_review=on_review,
                on_loop_review=on_loop_review,
                retry_failed=retry_failed,
            )
        )

    def result(self) -> ImprovementResult:
        """Return what is there now, without loading anything."""
        lineage = read_lineage(self.output)
        return ImprovementResult(
            rounds=tuple(read_rounds(self.output)),
            students=lineage.students,
            current=lineage.current,
        )

    def rounds(self) -> tuple[RoundRecord, ...]:
        """Return the rounds that are over."""
        return self.result().rounds

    def students(self) -> tuple[StudentRecord, ...]:
        """Return every student that was trained, and the base as number 0."""
        return self.result().students

    def adapter(self, number: int | None = None) -> Path | None:
        """Return the adapter folder of a student, checked; ``None`` for number 0.

        Args:
            number: Of the student; the current one when ``None``.
        """
        lineage = read_lineage(self.output)
        record = lineage.student(lineage.current if number is None else number)
        return adapter_of(self.output, record)

    def restore(self, number: int) -> StudentRecord:
        """Make an earlier student the current one; the next round begins with it.

        Raises:
            UserError: There is no such student.
            RunDirectoryError: Rounds are being made in the folder right now.
            IntegrityError: Its adapter is gone or was changed.
        """
        read_lineage(self.output)  # before a lock is put into a folder that is none of ours
        lock = FolderLock(self.output / ".lock")
        try:
            return restore_student(self.output, number)
        finally:
            lock.release()

    def _check(self) -> None:
        """Find what would fail after hours, before anything is loaded.

        Raises:
            UserError: There are no documents, the student cannot be trained, or a file of
                held-out questions cannot be read.
        """
        if isinstance(self._sources.documents, list) and not self._sources.documents:
            raise UserError(
                "no documents were named",
                hint="set documents in the configuration, or give --documents FOLDER",
            )
        base_named(self.config.student, self.config.improvement.base)
        if self.config.training.kl_weight:
            distilled_from(self.config.teacher)
        for file in self.config.improvement.held_out:
            read_held_out(file)
        for file in self.config.improvement.manual_rows:
            if not Path(file).exists():
                raise UserError(f"{file} is not there", hint="see improvement.manual_rows")

    async def _open_ledger(self, crew: Crew, run: RunDirectory) -> Ledger:
        """Return the ledger of the rounds; later students cost what the first one does."""
        parts = await crew.parts(crew.first_adapter())
        named = ((parts.teacher, self._sources.teacher), (parts.student, self._sources.student))
        return open_ledger(self.config.budget, named, run)

    async def _open(self, crew: Crew) -> RunDirectory:
        parts = await crew.parts(crew.first_adapter())
        identity = parts.fingerprints()
        return RunDirectory.open(
            self.output,
            self.config,
            identity=identity,
            models=model_records(crew.sources, identity),
            device=str(describe_device()),
        )


def _close_session(run: RunDirectory, crew: Crew, ledger: Ledger) -> None:
    """Write the totals of a call into the manifest, also of one that failed."""
    spent = spent_in(run, ledger.prices).figures
    finished = run.manifest.finished is not None
    run.update_manifest(hits=crew.hits(), spent=spent, finished=finished)
