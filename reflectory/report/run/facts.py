"""Everything that the page of a run says, gathered with one look at every trajectory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reflectory.alignment import AlignmentMatrix
from reflectory.report.run.details import Details
from reflectory.report.run.loops import FailedLoop, FailedStep, LoopFacts, loop_facts
from reflectory.report.run.parts import RunParts
from reflectory.report.run.rounds import RoundFacts, rounds_of
from reflectory.report.run.spending import Spending, spending_of
from reflectory.runs.manifest import Manifest
from reflectory.types import Trajectory

SHOWN_MATRICES = 12
"""Loops whose matrices stand in the page itself; those of all can be unfolded in the list."""
_MANY_LOOPS = 2_000
_FEW_RESAMPLES = 1_000


@dataclass(frozen=True)
class ShownMatrix:
    """One loop's matrix among the small multiples.

    Attributes:
        number: Place of the loop in the list of trajectories, from 0.
        instruction: I.
        matrix: A.
    """

    number: int
    instruction: str
    matrix: AlignmentMatrix


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run.

    Attributes:
        name: Of its folder.
        manifest: What it was made with.
        parts: Name of each part with loops, and what they come to.
        matrices: Of the first loops with one.
        rounds: What each round left.
        spending: What it took.
    """

    name: str
    manifest: Manifest
    parts: tuple[tuple[str, LoopFacts], ...]
    matrices: tuple[ShownMatrix, ...]
    rounds: tuple[RoundFacts, ...]
    spending: Spending

    @property
    def loops(self) -> int:
        """All loops."""
        return sum(facts.loops for _, facts in self.parts)

    @property
    def failed(self) -> int:
        """Loops that failed as a whole."""
        return sum(facts.failed for _, facts in self.parts)

    @property
    def flags(self) -> dict[str, int]:
        """Loops by flag."""
        return dict(sum((Counter(facts.flags) for _, facts in self.parts), Counter[str]()))

    @property
    def failures(self) -> tuple[FailedLoop, ...]:
        """Failed loops, as far as they are named."""
        return tuple(failed for _, facts in self.parts for failed in facts.failures)

    @property
    def steps(self) -> tuple[FailedStep, ...]:
        """Failures inside of loops that went on, by part."""
        return tuple(step for _, facts in self.parts for step in facts.steps)

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON values, for machines."""
        spent = self.spending
        return {
            "run": self.name,
            "started": self.manifest.started,
            "finished": self.manifest.finished,
            "loops": self.loops,
            "failed": self.failed,
            "flags": self.flags,
            "parts": [_part_summary(name, facts) for name, facts in self.parts],
            "rounds": [_round_summary(found) for found in self.rounds],
            "calls": spent.total.calls,
            "tokens_read": spent.total.prompt_tokens,
            "tokens_written": spent.total.completion_tokens,
            "cost": spent.cost,
        }


def gather(
    parts: RunParts, details: Details, *, progress: Callable[[int, int], None] | None = None
) -> RunFacts:
    """Read a run directory; every trajectory is looked at once and handed to ``details``.

    Args:
        parts: The run directory.
        details: Takes what the list of trajectories shows.
        progress: Told after each trajectory how many were read, and of how many.

    Raises:
        IntegrityError: A trajectory cannot be read.
        StorageError: The disk is full.
    """
    total = len(parts)
    resamples = _FEW_RESAMPLES if total > _MANY_LOOPS else 10_000
    matrices: list[ShownMatrix] = []

    def passing(place: int, trajectories: Iterator[Trajectory]) -> Iterator[Trajectory]:
        for found in trajectories:
            if len(matrices) < SHOWN_MATRICES and (matrix := found.alignment).iterations:
                matrices.append(ShownMatrix(details.count, found.instruction, matrix))
            details.add(found, place)
            if progress is not None:
                progress(details.count, total)
            yield found

    found = []
    for place, part in enumerate(parts.loops):
        trajectories = passing(place, iter(part.view.trajectories))
        facts = loop_facts(trajectories, first=details.count, resamples=resamples)
        found.append((part.name, facts))
    return RunFacts(
        name=parts.path.resolve().name,
        manifest=parts.manifest,
        parts=tuple(found),
        matrices=tuple(matrices),
        rounds=rounds_of(parts.path),
        spending=spending_of(parts),
    )


def _part_summary(name: str, facts: LoopFacts) -> dict[str, Any]:
    return {
        "name": name,
        "loops": facts.loops,
        "failed": facts.failed,
        "converged": facts.converged,
        "iterations": facts.iterations.mean if facts.iterations else None,
        "grades": [grade.mean if grade else None for grade in facts.grades],
        "first_grade": facts.first.mean if facts.first else None,
        "returned_grade": facts.returned.mean if facts.returned else None,
        "alignment": {level.level: level.means for level in facts.matrices.levels},
        "stops": facts.matrices.stops,
    }


def _round_summary(found: RoundFacts) -> dict[str, Any]:
    record = found.record
    return {
        "number": found.number,
        "decision": record.decision if record else None,
        "reason": record.reason if record else None,
        "rows": {data.name: data.manifest.rows for data in found.datasets},
        "loss": found.training.losses[-1] if found.training and found.training.losses else None,
        "figures": {
            figure.name: [figure.before, figure.after]
            for figure in (found.check.figures if found.check else ())
        },
        "seconds": found.seconds,
        "problems": list(found.problems),
    }
