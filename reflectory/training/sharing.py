"""Rows that begin with the same tokens, read together with that beginning once.

All rows of one loop begin with the same documents, which are most of every row. Read
one by one, the same passages are computed for each of them, forwards and backwards. Here
a group of rows becomes one sequence: the shared beginning, then what each row has of its
own. No row sees another, and each goes on at the positions behind the beginning, so loss
and gradient are those of the rows one by one. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reflectory.training.tokens import IGNORED, TokenisedRow

LEAST_SHARED = 32
"""Rows with a shorter common beginning stay apart: one sequence would gain nothing."""


@dataclass(frozen=True)
class SharedRows:
    """Rows as one sequence.

    Attributes:
        input_ids: The shared tokens, then each row's own.
        positions: Position of each token in its row.
        branches: 0 for a shared token, else the number of its row, from 1. A token sees
            the shared ones and those of its own row that come before it.
        sources: For every learnt token, the place in the sequence that predicts it; it is
            never a shared one.
        targets: The learnt tokens.
    """

    input_ids: tuple[int, ...]
    positions: tuple[int, ...]
    branches: tuple[int, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return max(self.branches[-1:], default=0)

    def apart(self) -> list[SharedRows]:
        """Return its rows one by one, each with its own copy of the beginning."""
        if self.rows == 1:
            return [self]
        learnt = list(zip(self.sources, self.targets, strict=True))
        found = []
        for number in range(1, self.rows + 1):
            places = [n for n, branch in enumerate(self.branches) if branch in {0, number}]
            where = {place: n for n, place in enumerate(places)}
            own = [(where[s], t) for s, t in learnt if self.branches[s] == number]
            found.append(
                SharedRows(
                    tuple(self.input_ids[n] for n in places),
                    tuple(range(len(places))),
                    (1,) * len(places),
                    tuple(s for s, _ in own),
                    tuple(t for _, t in own),
                )
            )
        return found


def group_rows(rows: Sequence[TokenisedRow], most: int, longest: int) -> list[tuple[int, ...]]:
    """Return which rows are read together.

    Args:
        rows: All rows.
        most: Most rows of a group.
        longest: Most tokens of a group's sequence.

    Returns:
        Places of rows; every row is in one group, groups are in the order of their first
        rows. The result depends on the rows and not on the order they have.
    """
    order = sorted(range(len(rows)), key=lambda at: (rows[at].input_ids, at))
    groups: list[list[int]] = []
    prefix = length = 0
    for at in order:
        row = rows[at]
        size = len(row.input_ids)
        if groups and len(groups[-1]) < most:
            first = rows[groups[-1][0]]
            common = min(_common(first, row), prefix if len(groups[-1]) > 1 else size)
            grown = length + (prefix - common) * (len(groups[-1]) - 1) + size - common
            if common >= LEAST_SHARED and grown <= longest and 2 * common >= size:
                groups[-1].append(at)
                prefix, length = common, grown
                continue
        groups.append([at])
        prefix, length = _own_beginning(row), size
    return sorted(tuple(sorted(group)) for group in groups)


def _own_beginning(row: TokenisedRow) -> int:
    """Return how many tokens come before the one that predicts the first learnt token.

    The predicting token is never shared: what it predicts differs from row to row.
    """
    first = next((n for n, label in enumerate(row.labels) if label != IGNORED), len(row.labels))
    return max(first - 1, 0)


def _common(one: TokenisedRow, other: TokenisedRow) -> int:
    most = min(_own_beginning(one), _own_beginning(other))
    pairs = zip(one.input_ids[:most], other.input_ids[:most], strict=True)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), most)


def shared_rows(rows: Sequence[TokenisedRow]) -> SharedRows:
    """Return rows as one sequence, what all of them begin with first.

    Args:
        rows: At least one; of a single row nothing is shared, and it stays as it is.
    """
    common = min((_common(rows[0], row) for row in rows[1:]), default=0)
    ids = list(rows[0].input_ids[:common])
    positions, branches = list(range(common)), [0] * common
    sources: list[int] = []
    targets: list[int] = []
    for number, row in enumerate(rows, start=1):
        shift = len(ids) - common
        ids += row.input_ids[common:]
        positions += range(common, len(row.input_ids))
        branches += [number] * (len(row.input_ids) - common)
        for at, label in enumerate(row.labels):
            if label != IGNORED and at > 0:
                sources.append(at - 1 + shift)  # never shared, see _own_beginning
                targets.append(label)
    return SharedRows(tuple(ids), tuple(positions), tuple(branches), tuple(sources), tuple(targets))
