"""Which waiting rows run next, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reflectory.models.engine.work import Row, ScoreRow


@dataclass(frozen=True)
class Limits:
    """How much may run at once; one row alone is never refused.

    Attributes:
        rows: Most completions at the same time.
        tokens: Most tokens whose keys and values are held for rows that run: as many
            for each as the widest needs, and every shared beginning once.
    """

    rows: int
    tokens: int


def choose(
    waiting: Sequence[Row], running: Sequence[Row], limits: Limits, most_rows: int
) -> list[Row]:
    """Return the waiting rows that should start now.

    Rows with the oldest one's beginning come first, then the others by age.

    Args:
        waiting: Rows that wait, the oldest first.
        running: Completions that run already.
        limits: How much may run.
        most_rows: Most completions at this moment, at most ``limits.rows``.
    """
    if not waiting:
        return []
    first = waiting[0]
    order = sorted(waiting, key=lambda row: row.prefix != first.prefix)
    chosen: list[Row] = []
    beginnings = {(row.adapter, row.prefix) for row in running}
    shared = sum(len(prefix) for _, prefix in beginnings)
    widest = max(map(own_tokens, running), default=0)
    places = most_rows - len(running)
    # Continuations take no place for longer than a pass, but after a failure what
    # runs together must get fewer, whatever it is.
    careful = most_rows < limits.rows
    for row in order:
        takes_place = careful or not isinstance(row, ScoreRow)
        if places <= 0 and takes_place:
            continue
        name = (row.adapter, row.prefix)
        more = 0 if name in beginnings else len(row.prefix)
        # All rows have as much room as the widest one.
        own = (len(running) + len(chosen) + 1) * max(widest, own_tokens(row))
        if own + shared + more > limits.tokens and (chosen or running):
            break
        chosen.append(row)
        beginnings.add(name)
        shared += more
        widest = max(widest, own_tokens(row))
        places -= takes_place
    return chosen


def own_tokens(row: Row) -> int:
    """Return how many tokens a row holds besides its shared beginning, at most."""
    return len(row.tokens) - row.prefix_length + row.room
