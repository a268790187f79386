"""What the graph of rounds knows while it runs, and the work that is done for it.

The state holds numbers, counts and paths relative to the run. What a stage makes
lies in files, and the objects that make it travel in the run context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, runtime_checkable

REVIEWS = ("rows", "promotion")
"""Where a person can be asked, in the order of the stages."""


class RoundState(TypedDict, total=False):
    """State of the rounds.

    Attributes:
        round: Number of the round in progress, from 0.
        student: Number of the student that the round began with.
        last: The last round to make in this call.
        counts: What the stages of this round have counted so far, by stage.
        files: What they made, by stage, relative to the run.
        failure: Class and message of what ended the round early, empty otherwise.
        said: What a person said in the reviews of this round, by review.
        promote: What the check says.
        decision: ``promoted``, ``rolled_back`` or ``failed`` once it is taken.
        decisions: All decisions of this call, by number of the round.
    """

    round: int
    student: int
    last: int
    counts: dict[str, dict[str, Any]]
    files: dict[str, str]
    failure: dict[str, str]
    said: dict[str, bool]
    promote: bool
    decision: str
    decisions: dict[str, str]


@dataclass(frozen=True)
class StageOutcome:
    """What a stage says of itself to the graph.

    Attributes:
        file: What it made, relative to the run.
        counts: Numbers for people and for the record of the round; JSON values.
    """

    file: str
    counts: Mapping[str, Any]


@runtime_checkable
class RoundWork(Protocol):
    """Does the work of the stages of a round.

    Contract:
        - Every stage first looks whether what it makes is there, whole, and made from the
          same inputs; then it does nothing. So a stage may be run twice, also after a kill.
        - What a stage makes appears in one step or not at all.
        - :class:`~reflectory.errors.TrainingError` and
          :class:`~reflectory.errors.DatasetError` end the round as failed; every other
          error ends the call, and the next one goes on with the stage.
        - ``promote``, ``roll_back`` and ``fail`` may be called twice for one round.
    """

    async def begin(self) -> tuple[int, int]:
        """Return the number of the round to work on, and that of the current student."""
        ...

    async def practise(self, number: int) -> StageOutcome:
        """Write the questions of the round, or take the given instructions."""
        ...

    async def reflect(self, number: int) -> StageOutcome:
        """Run a reflective loop (Algorithm 1) for each of them."""
        ...

    async def gather(self, number: int) -> StageOutcome:
        """Gather and grade the answers among which the one to learn is chosen."""
        ...

    async def curate(self, number: int) -> StageOutcome:
        """Make the data set: D_{r+1} = D_r and what is new (Equation 4)."""
        ...

    async def train(self, number: int) -> StageOutcome:
        """Train the adapter."""
        ...

    async def evaluate(self, number: int) -> StageOutcome:
        """Compare both students; ``counts["promote"]`` says whether the rule is met."""
        ...

    async def promote(self, number: int, said: Mapping[str, bool]) -> None:
        """Make the new adapter the current student; ``said`` is what a person said.

        Args:
            number: Of the round, from 0.
            said: What a person said, by review.
        """
        ...

    async def roll_back(self, number: int, said: Mapping[str, bool]) -> None:
        """Keep the student and record why; ``said`` is what a person said.

        Args:
            number: Of the round, from 0.
            said: What a person said, by review.
        """
        ...

    async def fail(self, number: int, failure: Mapping[str, str]) -> None:
        """Keep the student and record what ended the round.

        Args:
            number: Of the round, from 0.
            failure: Kind, message and hint of the error.
        """
        ...

    def review(self, number: int, what: str) -> Mapping[str, Any]:
        """Return what a person is shown: paths and figures; ``what`` is one of ``REVIEWS``.

        Args:
            number: Of the round, from 0.
            what: One of ``REVIEWS``.
        """
        ...


@dataclass(frozen=True)
class RoundContext:
    """The live objects of the rounds; never part of a checkpoint.

    Attributes:
        work: Does the stages.
        rounds: Rounds to make in all, counted from 0.
    """

    work: RoundWork
    rounds: int
