"""What the loops of a run come to, counted while they go by.

A trajectory is looked at once and forgotten; what stays is a mean per iteration and the
counts. :mod:`reflectory.evaluation.trends` does the same for the matrices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reflectory.evaluation.matrices import MatrixReport
from reflectory.evaluation.trends import matrix_report
from reflectory.report.terminal import SAME_GRADE
from reflectory.types import Failure, Trajectory

NAMED_FAILURES = 200
"""Most failed loops that are listed with their message; the others are counted."""
_KINDS_OF_FAILURES = 50
_NAMED_SOURCES = 20


@dataclass(frozen=True)
class Spread:
    """The mean of a figure at one iteration, over the loops that have it.

    Attributes:
        count: Loops.
        mean: Their mean.
        deviation: Their standard deviation (divided by their number).
    """

    count: int
    mean: float
    deviation: float


@dataclass
class Running:
    """Mean and spread of numbers that go by (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    square: float = 0.0

    def add(self, value: float) -> None:
        """Take in one number."""
        self.count += 1
        distance = value - self.mean
        self.mean += distance / self.count
        self.square += distance * (value - self.mean)

    def spread(self) -> Spread | None:
        """Return what the numbers come to; ``None`` when there was none."""
        if not self.count:
            return None
        return Spread(self.count, self.mean, math.sqrt(self.square / self.count))


@dataclass(frozen=True)
class FailedLoop:
    """A loop that failed as a whole.

    Attributes:
        number: Its place in the list of trajectories, from 0.
        id: Of its trajectory.
        instruction: I.
        failure: What went wrong; its message without the hint.
        hint: What helps; empty where the error named nothing.
    """

    number: int
    id: str
    instruction: str
    failure: Failure
    hint: str


@dataclass(frozen=True)
class FailedStep:
    """Failures of one kind inside of loops that went on.

    Attributes:
        step: The step of Algorithm 1.
        kind: Class of the error.
        count: How many.
        message: What the first of them said.
        number: The loop of the first one, as its place in the list of trajectories.
    """

    step: str
    kind: str
    count: int
    message: str
    number: int


@dataclass(frozen=True)
class LoopFacts:
    """What the loops come to.

    Attributes:
        loops: All of them.
        failed: Those that failed as a whole.
        converged: Those that epsilon stopped.
        iterations: Of the loops that were not failed.
        grades: G[t] over the loops, for every t.
        first: G[0] of the loops with two known grades or more.
        returned: The grade of the response that is returned, of the same loops.
        groundedness: Of the responses, for every t; empty where it was not measured.
        risen: Loops whose returned response has a higher grade than R_0.
        fallen: Loops where it is lower.
        flags: Loops by flag.
        failures: Failed loops, at most :data:`NAMED_FAILURES`.
        steps: Failures inside of loops, most frequent first.
        matrices: What the matrices show; of the loops with the levels of the first one.
        other_levels: Loops with other levels, which are in no mean of the matrices.
        sources: The documents that were in the last context of most loops, with how many.
        documents: How many documents were.
    """

    loops: int
    failed: int
    converged: int
    iterations: Spread | None
    grades: tuple[Spread | None, ...]
    first: Spread | None
    returned: Spread | None
    groundedness: tuple[Spread | None, ...]
    risen: int
    fallen: int
    flags: dict[str, int]
    failures: tuple[FailedLoop, ...]
    steps: tuple[FailedStep, ...]
    matrices: MatrixReport
    other_levels: int = 0
    sources: tuple[tuple[str, int], ...] = ()
    documents: int = 0

    @property
    def done(self) -> int:
        """Loops that were not failed."""
        return self.loops - self.failed


def split_hint(message: str) -> tuple[str, str]:
    """Return the message of an error and its hint, as ``str(error)`` puts them together."""
    said, _, hint = message.partition("\n  -> ")
    return said, hint


@dataclass
class _Tally:
    """Everything that is counted."""

    loops: int = 0
    failed: int = 0
    converged: int = 0
    risen: int = 0
    fallen: int = 0
    other_levels: int = 0
    iterations: Running = field(default_factory=Running)
    first: Running = field(default_factory=Running)
    returned: Running = field(default_factory=Running)
    grades: list[Running] = field(default_factory=list)
    groundedness: list[Running] = field(default_factory=list)
    flags: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    failures: list[FailedLoop] = field(default_factory=list)
    steps: dict[tuple[str, str], FailedStep] = field(default_factory=dict)

    def add(self, number: int, found: Trajectory) -> None:
        """Take in one trajectory."""
        self.loops += 1
        self.flags.update(flag.value for flag in found.flags)
        for failure in _failures_in(found):
            self._failed_step(number, failure)
        _add_each(self.grades, found.grades)
        _add_each(self.groundedness, found.groundedness)
        self.sources.update({p.title or p.source or p.document_id for p in found.context})
        if found.error is not None:
            self.failed += 1
            if len(self.failures) < NAMED_FAILURES:
                said, hint = split_hint(found.error.message)
                told = found.error.model_copy(update={"message": said})
                self.failures.append(FailedLoop(number, found.id, found.instruction, told, hint))
            return
        if found.stop is not None:
            self.iterations.add(found.stop.iterations)
            self.converged += found.stop.converged
        self._gain(found)

    def _gain(self, found: Trajectory) -> None:
        grades = found.grades
        if len(grades) < 2 or grades[0] is None or grades[found.chosen] is None:
            return
        before, after = grades[0], grades[found.chosen] or 0.0
        self.first.add(before)
        self.returned.add(after)
        # What reads the same in the report is the same.
        self.risen += after - before >= SAME_GRADE
        self.fallen += before - after >= SAME_GRADE

    def _failed_step(self, number: int, failure: Failure) -> None:
        key = (failure.step, failure.kind)
        known = self.steps.get(key)
        if known is None and len(self.steps) >= _KINDS_OF_FAILURES:
            return
        message = split_hint(failure.message)[0]
        was = known or FailedStep(*key, 0, message, number)
        self.steps[key] = FailedStep(*key, was.count + 1, was.message, was.number)


def _failures_in(found: Trajectory) -> Iterator[Failure]:
    for cell in found.examinations:
        if cell.failure is not None:
            yield cell.failure
    for response in found.responses:
        if response.failure is not None:
            yield response.failure


def _add_each(running: list[Running], values: Iterable[float | None]) -> None:
    for t, value in enumerate(values):
        while len(running) <= t:
            running.append(Running())
        if value is not None and math.isfinite(value):
            running[t].add(value)


def loop_facts(
    trajectories: Iterable[Trajectory], *, first: int = 0, resamples: int = 10_000
) -> LoopFacts:
    """Count what many loops come to; each is read once.

    Args:
        trajectories: The loops, in the order of the list that they are shown in.
        first: Place of the first of them in that list.
        resamples: Draws of the intervals of the levels' rise.
    """
    tally = _Tally()

    def passing() -> Iterator[Trajectory]:
        levels: tuple[str, ...] | None = None
        for number, found in enumerate(trajectories, start=first):
            tally.add(number, found)
            levels = levels or found.levels
            if found.levels == levels:
                yield found
            else:
                tally.other_levels += 1

    matrices = matrix_report(passing(), resamples=resamples)
    grounded = tuple(r.spread() for r in tally.groundedness)
    return LoopFacts(
        loops=tally.loops,
        failed=tally.failed,
        converged=tally.converged,
        iterations=tally.iterations.spread(),
        grades=tuple(r.spread() for r in tally.grades),
        first=tally.first.spread(),
        returned=tally.returned.spread(),
        groundedness=grounded if any(grounded) else (),
        risen=tally.risen,
        fallen=tally.fallen,
        flags=dict(sorted(tally.flags.items())),
        failures=tuple(tally.failures),
        steps=tuple(sorted(tally.steps.values(), key=lambda s: (-s.count, s.step, s.kind))),
        matrices=matrices,
        other_levels=tally.other_levels,
        sources=tuple(tally.sources.most_common(_NAMED_SOURCES)),
        documents=len(tally.sources),
    )
