"""A run directory in a notebook: its loops, matrices, rounds and data sets, read only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reflectory.alignment import AlignmentMatrix
from reflectory.runs.directory import RunView
from reflectory.types.shown import Shown

if TYPE_CHECKING:
    from reflectory.evaluation.matrices import MatrixReport
    from reflectory.improvement.records import RoundRecord, StudentRecord
    from reflectory.planning import RunPlan
    from reflectory.training.dataset import DatasetManifest


@dataclass(frozen=True, repr=False)
class OpenedRun(Shown, RunView):
    """A run directory to look at, also while another process works in it.

    Trajectories are read from the disk one at a time, each time they are asked for.

    Attributes:
        path: The folder.
        manifest: What the run was made with and what came of it.
        trajectories: The finished loops, to be iterated; read only.

    Example:
        >>> run = open_run("runs/first")
        >>> run.mean_matrix()
        >>> [t.grades for t in run.trajectories]
    """

    def matrices(self) -> Iterator[tuple[str, AlignmentMatrix]]:
        """Yield (instruction, A) of every loop that is done, in the order of the file."""
        for trajectory in self.trajectories:
            if trajectory.status == "done":
                yield trajectory.instruction, trajectory.alignment

    def matrix_report(self) -> MatrixReport:
        """Return mean, spread and count of A by level and iteration, over all loops so far.

        It is what ``plots.plot_mean``, ``plot_levels``, ``plot_level`` and ``plot_stops`` draw.

        Raises:
            UserError: Two loops have different levels.
        """
        from reflectory.evaluation.trends import matrix_report

        return matrix_report(self.trajectories)

    def mean_matrix(self) -> AlignmentMatrix:
        """Return the mean of A over the loops, shape (k, longest T); later columns of fewer loops.

        Raises:
            UserError: There is no loop, or two loops have different levels.
        """
        from reflectory.report.comparing_plots import mean_of

        return mean_of(self.matrix_report())

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """The rounds of self-improvement that are over; none in a run of loops.

        Raises:
            IntegrityError: A record is damaged.
        """
        from reflectory.improvement.lineage import read_rounds

        return tuple(read_rounds(self.path))

    @property
    def students(self) -> tuple[StudentRecord, ...]:
        """Every student of the rounds, the base as number 0.

        Raises:
            IntegrityError: The record is damaged.
        """
        from reflectory.improvement.lineage import read_lineage

        return read_lineage(self.path).students

    @property
    def plan(self) -> RunPlan | None:
        """What the run was predicted to take; ``None`` when nobody asked.

        Raises:
            IntegrityError: The file is damaged.
        """
        from reflectory.planning.record import read_plan

        return read_plan(self.path)

    @property
    def datasets(self) -> dict[str, DatasetManifest]:
        """The data sets in the folders of rounds, by their path in the run.

        Raises:
            DatasetError: A manifest is damaged.
        """
        from reflectory.training.dataset import MANIFEST_FILE, read_manifest

        found = {}
        for file in sorted(self.path.glob(f"rounds/*/*/{MANIFEST_FILE}")):
            manifest = read_manifest(file.parent)
            if manifest is not None:
                found[file.parent.relative_to(self.path).as_posix()] = manifest
        return found

    def loops_of_round(self, number: int) -> OpenedRun:
        """Return the loops of a round, a run directory of their own.

        Args:
            number: The round, from 0.

        Raises:
            RunDirectoryError: The round made no loops.
        """
        return open_run(self.path / "rounds" / f"{number:03d}" / "loops")


def open_run(path: str | Path) -> OpenedRun:
    """Open a run directory to look at, without a lock and without changing it.

    Args:
        path: The folder that ``reflectory run``, ``improve``, ``demo`` or
            ``loop.map(..., output=...)`` wrote.

    Returns:
        The run, which shows itself in a notebook.

    Raises:
        RunDirectoryError: The folder is none, or of a newer schema.
        IntegrityError: A file in it is damaged.
    """
    return OpenedRun.read(path)
