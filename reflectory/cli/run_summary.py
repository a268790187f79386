"""What came of a run, for people: counts, grades, why loops ended, what it took, what next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from reflectory.cli.budget import spent_line
from reflectory.cli.progress_time import clock
from reflectory.report.terminal import SAME_GRADE, plain

if TYPE_CHECKING:
    from reflectory.runs.manifest import Manifest
    from reflectory.types import Trajectory

_CAUSES_KEPT = 20
_CAUSES_LISTED = 5
_IDS_LISTED = 3


class Tally:
    """Counts over trajectories, in as much memory for a million as for one.

    Attributes:
        done: How many loops are done.
        failed: How many failed as a whole.
        causes: How many failed by each of the first causes.
        ids: Ids of the first loops that failed by such a cause.
        stops: Finished loops by the rule that ended them.
        better: Loops whose returned response has a higher grade than R_0.
        worse: Loops whose returned response has a lower one.
        equal: Loops where both are graded alike.
        few: All trajectories while they are few, and then none.
        interrupted: Whether somebody asked for an end before the last instruction.
    """

    shown_in_full = 3
    """So many trajectories are few."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.causes: Counter[str] = Counter()
        self.ids: dict[str, list[str]] = {}
        self.stops: Counter[str] = Counter()
        self.better = self.worse = self.equal = 0
        self.few: list[Trajectory] = []
        self.interrupted = False
        self._first = self._final = 0.0
        self._due = 0
        self._graded = 0

    @property
    def count(self) -> int:
        """How many trajectories there were."""
        return self.done + self.failed

    @property
    def share_ungraded(self) -> float:
        """Share of answers and responses without a grade, in [0, 1]."""
        return 1.0 - self._graded / self._due if self._due else 0.0

    @property
    def grades(self) -> tuple[float, float] | None:
        """Mean G of R_0 and of the returned responses, over loops that have both."""
        both = self.better + self.worse + self.equal
        return (self._first / both, self._final / both) if both else None

    def add(self, trajectory: Trajectory) -> None:
        """Count a trajectory."""
        if trajectory.error is None:
            self.done += 1
            if trajectory.stop is not None:
                self.stops[trajectory.stop.rule] += 1
            self._compare(trajectory)
        else:
            self.failed += 1
            self._note_failure(trajectory.id, trajectory.error.kind, trajectory.error.message)
        if self.count <= self.shown_in_full:
            self.few.append(trajectory)
        else:
            self.few.clear()
        self._due += len(trajectory.examinations) + len(trajectory.responses)
        self._graded += sum(cell.feedback is not None for cell in trajectory.examinations)
        self._graded += sum(grade is not None for grade in trajectory.grades)

    def _compare(self, trajectory: Trajectory) -> None:
        if not trajectory.responses:
            return
        first, final = trajectory.grades[0], trajectory.grades[trajectory.chosen]
        if first is None or final is None:
            return
        self._first += first
        self._final += final
        self.better += final - first >= SAME_GRADE
        self.worse += first - final >= SAME_GRADE
        self.equal += abs(final - first) < SAME_GRADE

    def _note_failure(self, trajectory_id: str, kind: str, message: str) -> None:
        cause = f"{kind}: {message}"
        if cause not in self.causes and len(self.causes) >= _CAUSES_KEPT:
            return
        self.causes[cause] += 1
        ids = self.ids.setdefault(cause, [])
        if len(ids) < _IDS_LISTED:
            ids.append(trajectory_id)


def run_summary(tally: Tally, output: Path, seconds: float, manifest: Manifest | None) -> Table:
    """Return what came of a run as a table of two columns.

    Args:
        tally: The loops of this session, and those that it found.
        output: The run directory.
        seconds: What this session took.
        manifest: That of the run directory, if there is one.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for label, words in _rows(tally, seconds, manifest):
        table.add_row(label, Text(plain(words)))
    for label, words in zip(["next", *[""] * 9], next_steps(tally, output), strict=False):
        table.add_row(label, Text(plain(words)))
    return table


def failure_lines(tally: Tally, output: Path) -> Iterator[str]:
    """Yield the causes of failures with their hints, the most frequent first."""
    listed = tally.causes.most_common(_CAUSES_LISTED)
    for cause, count in listed:
        ids = tally.ids[cause]
        more = f" and {count - len(ids)} more" if count > len(ids) else ""
        yield f"failed: {', '.join(ids)}{more}: {cause}"
    rest = tally.failed - sum(count for _, count in listed)
    if rest:
        yield f"... and {rest} more failed; {output / 'trajectories.jsonl'} has them all"


def next_steps(tally: Tally, output: Path) -> Iterator[str]:
    """Yield what to do with such a run, the most pressing first."""
    run = quote(str(output))
    if tally.interrupted:
        yield "the same command goes on from here"
    if tally.failed:
        yield "the same command with --retry-failed runs the failed ones again"
    if tally.share_ungraded > 0.2:
        yield "reflectory check  measures the grader, which could often not be read"
    if tally.done:
        yield f"reflectory report {run}  makes a page of it"
        yield f"reflectory dataset {run} -o DATASET  makes training data of it"


def _rows(tally: Tally, seconds: float, manifest: Manifest | None) -> Iterator[tuple[str, str]]:
    grades = tally.grades
    if grades is not None:
        first, final = grades
        said = f"{first:.3f} -> {final:.3f} ({final - first:+.3f}), the mean of R_0 and R_final: "
        said += f"{tally.better} better, {tally.worse} worse, {tally.equal} equal"
        yield "grade G", said
    if tally.stops:
        by = tally.stops.most_common()
        yield "ended by", ", ".join(f"{rule} {count}" for rule, count in by)
    if manifest is None:
        yield "time", clock(seconds)
        return
    totals, session = manifest.totals, manifest.sessions[-1]
    rows = totals.tokens.values()
    read = sum(row["prompt_tokens"] - row["reused_tokens"] for row in rows)
    written = sum(row["completion_tokens"] for row in rows)
    sessions = "" if len(manifest.sessions) == 1 else f" in {len(manifest.sessions)} sessions"
    cached = f", and {session.hits:,} answered from the cache" if session.hits else ""
    yield "calls", f"{totals.calls:,}{sessions}{cached}"
    reused = sum(row["reused_tokens"] for row in rows)
    yield "tokens", f"{read:,.0f} read, {reused:,.0f} reused, {written:,.0f} written{sessions}"
    hours = totals.spent.get("hours")
    whole = "" if not sessions or not hours else f", {hours:,.2f} hours{sessions}"
    yield "time", f"{clock(seconds)}{whole}"
    if "cost" in totals.spent:
        cost = totals.spent["cost"]
        yield "cost", "unknown: a model has no price" if cost is None else f"${cost:,.4f}"
    if session.budget:
        yield "budget", spent_line(manifest)
