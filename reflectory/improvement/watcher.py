"""What the rounds tell of themselves while they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reflectory.config import LoopConfig
    from reflectory.driver import OnEvent
    from reflectory.improvement.records import RoundRecord
    from reflectory.types import Trajectory


class RoundWatcher:
    """Told what a round does; override what should be shown. All methods do nothing here."""

    def stage(self, number: int, name: str, text: str) -> None:
        """A stage of a round begins, and its work was not done before.

        Args:
            number: Of the round, from 0.
            name: Of the stage.
            text: What it is about to do, for people.
        """

    def loops(self, count: int, config: LoopConfig) -> OnEvent | None:
        """The loops begin; return who is told of their steps.

        Args:
            count: How many there are.
            config: How they run.
        """
        return None

    def loop_done(self, trajectory: Trajectory) -> None:
        """A loop is finished."""

    def training(self) -> Callable[[int, int, float, float], None] | None:
        """Training begins; return who is told of its steps."""
        return None

    def round_done(self, record: RoundRecord) -> None:
        """A round is over."""
