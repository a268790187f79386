"""Which waiting rows run next, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from reflectory.models.engine.work import Row, ScoreRow

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Limits:
    """How large a batch may be; one row alone is never refused.

    Attributes:
        rows: Most rows.
        cells: Most tokens in the key-value cache, padding included.
        reading: Most rows times tokens to read in one pass, padding included.
        logits: Most rows times scored tokens in one pass; each needs logits over
            the whole vocabulary.
        copies: Whether every row holds a copy of its prefix; else rows with the
            same prefix hold one together.
    """

    rows: int
    cells: int
    reading: int = 16_384
    logits: int = 2_048
    copies: bool = True


def choose(
    waiting: Sequence[R], running: Sequence[Row], columns: int, limits: Limits, most_rows: int
) -> list[R]:
    """Return the waiting rows that should start now, in one forward pass.

    The oldest row decides whether completions or continuations are taken. Rows
    with the oldest one's prefix come first, then the others by age.

    Args:
        waiting: Rows that wait, the oldest first.
        running: Rows of the batch that completions would join.
        columns: Columns that the running batch has now.
        limits: How large a batch may be.
        most_rows: Most rows at this moment, at most ``limits.rows``.
    """
    if len(running) >= most_rows:
        # Continuations take no place in the batch, so they need not wait for one.
        waiting = [row for row in waiting if isinstance(row, ScoreRow)]
    if not waiting:
        return []
    first = waiting[0]
    kind = isinstance(first, ScoreRow)
    same_kind = [row for row in waiting if isinstance(row, ScoreRow) is kind]
    same_kind.sort(key=lambda row: row.prefix != first.prefix)
    beside = [] if kind else list(running)
    chosen: list[R] = []
    for row in same_kind:
        if len(beside) + len(chosen) >= most_rows:
            break
        group = [*chosen, row]
        alone = not beside and not chosen
        if alone or _fits(group, beside, 0 if kind else columns, limits):
            chosen.append(row)
    return chosen


def _fits(rows: Sequence[Row], beside: Sequence[Row], columns: int, limits: Limits) -> bool:
    right = max(len(row.tokens) - row.prefix_length for row in rows)
    room = max(row.room for row in (*rows, *beside))
    if limits.copies:
        left, once = max(row.prefix_length for row in rows), 0
    else:
        left, once = 0, sum(map(len, {row.prefix for row in (*rows, *beside)}))
    cells = (len(rows) + len(beside)) * (max(columns, left + right) + room) + once
    scored = max(len(row.targets) if isinstance(row, ScoreRow) else 1 for row in rows)
    return (
        cells <= limits.cells
        and len(rows) * right <= limits.reading
        and len(rows) * scored <= limits.logits
    )
