"""What the alignment matrices of many loops show (the survey's Figure 5): the records.

:func:`reflectory.evaluation.trends.matrix_report` fills them.
"""

from __future__ import annotations

from pydantic import Field

from reflectory.evaluation.comparison import PairedComparison
from reflectory.types import Record


class LevelTrend(Record):
    """One level over all loops.

    Attributes:
        level: Its name.
        means: Mean of A at each iteration over the loops that have the cell; ``None`` where
            none has. Loops that stopped early are missing from the later ones, so a change
            of these means can be a change of company; ``slope`` and ``rise`` compare each
            loop with itself.
        spreads: Standard deviation over these loops (divided by their number).
        counts: Loops that have the cell.
        slope: Mean change of A from one iteration to the next, over all pairs of
            neighbouring cells that are both known.
        rise: The last known cell against the first, paired over loops with two or more; its
            p-value is two-sided.
        settled: Mean number of iterations until the level stays within epsilon of its last
            value, over loops with two or more known cells.
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
            to settle, over loops and levels, in [-1, 1]; positive as the survey says. ``None``
            with one level, or when all take equally long.
        order_p: Its two-sided p-value, which takes loops and levels as independent. Levels
            of one loop that settle together make it too high rather than too low.
        stops: How many loops stopped by which rule at which iteration:
            ``stops[rule][iteration]``; loops that ended with an error are under ``failed``.
        flags: How many loops carry each flag.
        failed_cells: Cells without a value, failed or never computed.
        cells: All cells, levels times iterations of every loop.
    """

    loops: int = Field(ge=0)
    levels: tuple[LevelTrend, ...] = ()
    order: float | None = None
    order_p: float | None = None
    stops: dict[str, dict[int, int]] = Field(default_factory=dict)
    flags: dict[str, int] = Field(default_factory=dict)
    failed_cells: int = 0
    cells: int = 0
