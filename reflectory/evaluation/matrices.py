"""What the alignment matrices of many loops show (the survey's Figure 5)."""

from __future__ import annotations

from pydantic import Field

from reflectory.evaluation.comparison import PairedComparison
from reflectory.types import Record


class LevelTrend(Record):
    """One level over all loops.

    Attributes:
        level: Its name.
        means: Mean of A at each iteration over the loops that have the cell; ``None`` where
            none has.
        spreads: Standard deviation, likewise.
        counts: Loops that have the cell.
        slope: Mean change of A from one iteration to the next.
        rise: The last cell against the first, paired over loops with two or more.
        settled: Mean number of iterations until the level stays within epsilon of its last
            value.
    """

    level: str
    means: tuple[float | None, ...]
    spreads: tuple[float | None, ...]
    counts: tuple[int, ...]
    slope: float | None = None
    rise: PairedComparison | None = None
    settled: float | None = None


class MatrixReport(Record):
    """All levels, and how loops stopped.

    Attributes:
        loops: Trajectories that were read.
        levels: Easiest first.
        order: Rank correlation (Kendall's tau-b) of a level's place with how long it takes
            to settle, over loops and levels, in [-1, 1]; positive as the survey says.
        order_p: Its two-sided p-value.
        stops: How many loops stopped by which rule at which iteration:
            ``stops[rule][iteration]``.
        flags: How many loops carry each flag.
        failed_cells: Cells without a value.
        cells: All cells.
    """

    loops: int = Field(ge=0)
    levels: tuple[LevelTrend, ...] = ()
    order: float | None = None
    order_p: float | None = None
    stops: dict[str, dict[int, int]] = Field(default_factory=dict)
    flags: dict[str, int] = Field(default_factory=dict)
    failed_cells: int = 0
    cells: int = 0
