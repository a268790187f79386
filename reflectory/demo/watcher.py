"""What the demo tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reflectory.config import LoopConfig
    from reflectory.driver import OnEvent
    from reflectory.types import Trajectory


class DemoWatcher:
    """Told what the demo does; override what should be shown. All methods do nothing here."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    def loops(self, count: int, config: LoopConfig) -> OnEvent | None:
        """The loops begin; return who is told of their steps."""
        return None

    def loop_done(self, trajectory: Trajectory) -> None:
        """A loop is finished."""

    def training(self) -> Callable[[int, int, float, float], None] | None:
        """Training begins; return who is told of its steps."""
        return None
