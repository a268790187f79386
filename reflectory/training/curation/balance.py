"""A step that keeps one level from crowding out the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from reflectory.training.curation.reading import rank_of
from reflectory.training.curation.steps import Outcome, R, sorted_out


@dataclass(frozen=True)
class LevelBalance:
    """Refuses the worst graded rows of levels that have too many.

    The measure is the level in the middle by number of rows (of an even number of levels
    the lower one), and not the rarest: one level with a single row would cost nearly all
    others. Rows without a level, which answer the instruction itself, are left alone.

    Args:
        most: Most rows of a level, as a multiple of the level in the middle; at least 1,
            which keeps the middle where it is when the step is repeated.
    """

    most: float
    name: ClassVar[str] = "levels"

    @property
    def explanation(self) -> str:
        """The multiple."""
        return (
            f"Of a level with more than {self.most:g} times as many rows as the level in the "
            "middle, the worst graded are refused. Rows without a level are left alone."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows that stay."""
        levels: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            if row.provenance.level is not None:
                levels.setdefault(row.provenance.level, []).append(number)
        reasons = [""] * len(rows)
        if levels:
            sizes = sorted(len(members) for members in levels.values())
            limit = int(self.most * sizes[(len(sizes) - 1) // 2])
            for members in levels.values():
                for number in sorted(members, key=lambda n: rank_of(rows[n]))[limit:]:
                    reasons[number] = "crowded_level"
        return sorted_out(rows, reasons)
