"""Rows of several origins in one set, each keeping where it came from.

Equation 5 of the survey: D = D_manual + D_distilled + D_self; who wrote a row is its
``provenance.source``. Equation 4: D_{r+1} = D_r + what round r + 1 made.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from reflectory.errors import DatasetError
from reflectory.training.dataset import RowSet
from reflectory.training.dataset_columns import encode_row
from reflectory.training.rows import SOURCES, Provenance, Row, Source


def merge_rows(
    *row_sets: RowSet, shares: Mapping[Source, float] | None = None, seed: int = 0
) -> RowSet:
    """Return the rows of several sets in their order, what is said twice counted once.

    Rows are the same when all of them but their provenance is; the earliest stays, so
    that merging is associative and merging a set with itself changes nothing.

    Args:
        row_sets: At least one, all of the same format.
        shares: Most that the rows of a source may be of the whole, see
            :func:`limit_shares`.
        seed: Decides which rows stay when there are too many.

    Raises:
        DatasetError: There is no set, or they are of several formats, or ``shares``
            cannot be kept.
    """
    if not row_sets:
        raise DatasetError("there is nothing to merge", hint="pass at least one set of rows")
    formats = sorted({rows.format for rows in row_sets})
    if len(formats) > 1:
        raise DatasetError(
            f"rows of the formats {', '.join(formats)} cannot be merged",
            hint="merge each format on its own",
        )
    # Equations 4 and 5: the sum over rounds and over sources, what is said twice once.
    merged = distinct(row for rows in row_sets for row in rows.rows)
    if shares:
        merged = limit_shares(merged, shares, seed=seed)
    return RowSet.of(row_sets[0].format, merged)


def distinct(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the rows without those that say the same as an earlier one."""
    first: dict[bytes, Row] = {}
    for row in rows:
        first.setdefault(_content(row), row)
    return tuple(first.values())


def _content(row: Row) -> bytes:
    bare = row.model_copy(update={"provenance": Provenance()})
    return hashlib.sha256(encode_row(bare)).digest()


def limit_shares(
    rows: Sequence[Row], shares: Mapping[Source, float], *, seed: int = 0
) -> tuple[Row, ...]:
    """Return as many rows as possible so that no source has more than its share.

    Which rows of a source stay depends on the seed and on what they hold, not on
    their order; the order of those that stay is kept.

    Args:
        rows: Any number.
        shares: Largest share of the result by source, in [0, 1]; a source that is not
            named may have any share.
        seed: Draws another selection of the same size.

    Raises:
        DatasetError: A source is unknown, a share is not in [0, 1], or together the
            shares leave nothing.
    """
    for source, share in shares.items():
        if source not in SOURCES or not 0.0 <= share <= 1.0:
            raise DatasetError(
                f"a share of {share} of the source {source!r} cannot be kept",
                hint=f"name one of {', '.join(SOURCES)} with a share from 0 to 1",
            )
    counts = Counter(row.provenance.source for row in rows)
    allowed = _largest(counts, shares)
    if rows and not allowed.total():
        raise DatasetError(
            f"no set of rows keeps the shares {dict(shares)}: there are {dict(counts)}",
            hint="the shares of the sources that there are must add up to 1 or more",
        )
    kept: set[int] = set()
    for source, most in allowed.items():
        places = [i for i, row in enumerate(rows) if row.provenance.source == source]
        kept.update(sorted(places, key=lambda i: _rank(rows[i], seed))[:most])
    return tuple(row for i, row in enumerate(rows) if i in kept)


def _largest(counts: Counter[Source], shares: Mapping[Source, float]) -> Counter[Source]:
    """Return the most rows of each source that keep all shares.

    From above: a total that its parts cannot make is lowered to what they make, until
    they can. What is taken away so is in no solution, so the first one found is the largest.
    """
    total = counts.total()
    while True:
        parts = Counter({s: min(n, _most(shares.get(s, 1.0), total)) for s, n in counts.items()})
        if parts.total() == total:
            return parts
        total = parts.total()


def _most(share: float, total: int) -> int:
    return math.floor(share * total + 1e-9)  # 0.3 * 10 is a little less than 3 in binary


def _rank(row: Row, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + _content(row)).digest()
