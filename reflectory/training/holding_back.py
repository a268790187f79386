"""Which rows are measured and not learnt, to know when to stop."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from reflectory.errors import DatasetError
from reflectory.training.rows import PreferenceRow, TrainingRow

RowT = TypeVar("RowT", TrainingRow, PreferenceRow)


def hold_back(
    rows: Sequence[RowT], share: float, seed: int, *, keep: int
) -> tuple[tuple[RowT, ...], tuple[RowT, ...]]:
    """Divide rows into those to learn and those to measure.

    Rows of one trajectory stay on one side as long as there are several trajectories:
    they share documents, and a row beside its sister would measure memory.

    Args:
        rows: All rows; both parts keep their order.
        share: Share to hold back, in [0, 0.5]; 0 holds none.
        seed: Seed of the draw.
        keep: Rows that must be left to learn.

    Returns:
        Rows to learn, and rows held back: at least one where the share is not 0.

    Raises:
        DatasetError: There are too few for both.
    """
    if not share or not rows:
        return tuple(rows), ()
    wanted = max(round(share * len(rows)), 1)
    if len(rows) - wanted < keep:
        raise DatasetError(
            f"{len(rows)} rows are too few to hold {wanted} back and learn {keep}",
            hint="set training.validation_share to 0, or make more trajectories",
        )
    origins = [row.provenance.trajectory or f"row {i}" for i, row in enumerate(rows)]
    names = sorted(set(origins))
    if len(names) == 1:
        names = origins = [f"row {i}" for i in range(len(rows))]
    random.Random(seed).shuffle(names)
    sizes = Counter(origins)
    held: set[str] = set()
    count = 0
    for name in names:
        if count >= wanted:
            break
        if len(rows) - count - sizes[name] >= keep:
            held.add(name)
            count += sizes[name]
    both = list(zip(rows, origins, strict=True))
    measured = tuple(row for row, origin in both if origin in held)
    return tuple(row for row, origin in both if origin not in held), measured
