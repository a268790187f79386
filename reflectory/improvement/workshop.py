"""What the stages of a round share: the run, the models, the folder, the current student."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reflectory.config import RunConfig
from reflectory.driver import Review
from reflectory.graphs.round_state import StageOutcome
from reflectory.improvement.crew import Crew
from reflectory.improvement.folder import StageFolder, add_seconds
from reflectory.improvement.lineage import adapter_of, read_lineage
from reflectory.improvement.records import StudentRecord
from reflectory.improvement.watcher import RoundWatcher
from reflectory.models.protocol import content_hash, derive_seed
from reflectory.models.store import sha256_of
from reflectory.runs.directory import RunDirectory


class Workshop:
    """Where rounds are worked on.

    Args:
        run: The run directory, open and locked.
        settings: The configuration.
        crew: Opens the models.
        watcher: Told what is happening.
        on_review: Answers where the loops ask for a person.
    """

    def __init__(
        self,
        run: RunDirectory,
        settings: RunConfig,
        crew: Crew,
        watcher: RoundWatcher,
        on_review: Review | None = None,
    ) -> None:
        self.run = run
        self.settings = settings
        self.crew = crew
        self.watcher = watcher
        self.on_review = on_review

    def round(self, number: int) -> StageFolder:
        """Return the folder of a round."""
        return StageFolder(self.run.round_path(number))

    def shared(self) -> StageFolder:
        """Return the run itself as a folder of stages, for what all rounds share."""
        return StageFolder(self.run.path)

    def student(self, number: int) -> StudentRecord:
        """Return the student that a round began with."""
        lineage = read_lineage(self.run.path)
        noted = self.round(number).noted("student")
        return lineage.student(lineage.current if noted is None else noted)

    def adapter(self, student: StudentRecord) -> Path | None:
        """Return the adapter folder that a student answers with; ``None`` for a bare base."""
        return adapter_of(self.run.path, student) or (
            self.crew.first_adapter() if student.number == 0 else None
        )

    def round_seed(self, own: int, what: str, number: int) -> int:
        """Return the seed of a round's draws from that of a part of the configuration.

        The first round has the configured one itself. Every other draws anew, for after a
        roll-back the same draws would end in the same roll-back.
        """
        return own if number == 0 else derive_seed(own, what, number)

    async def stage(
        self,
        folder: StageFolder,
        name: str,
        key: str,
        outputs: Sequence[str],
        work: Callable[[], Awaitable[None]],
        *,
        tell: Callable[[], None] = lambda: None,
    ) -> StageOutcome:
        """Do the work of a stage unless it is done, and return what it counted.

        Args:
            folder: Where its output goes.
            name: Of the stage.
            key: Hash of its inputs.
            outputs: What it makes, relative to the folder; the last one is put in place
                last, so that it being there means that all is.
            work: Makes the outputs.
            tell: Called when there is work.
        """
        if not folder.is_done(name, key, outputs[-1]):
            tell()
            folder.begin(name, key, outputs)
            with timed(folder, name):
                await work()
        place = (folder.path / outputs[-1]).relative_to(self.run.path)
        return StageOutcome(place.as_posix(), folder.counts(name))


@contextmanager
def timed(folder: StageFolder, name: str) -> Iterator[None]:
    """Add the length of the block to ``timing.json``, also when it fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add_seconds(folder.path / "timing.json", name, time.perf_counter() - began)


def key_of(*parts: Any, files: Sequence[Path] = ()) -> str:
    """Return the hash of a stage's inputs: JSON values, and files by their content."""
    return content_hash(*parts, [sha256_of(file) if file.exists() else "" for file in files])
