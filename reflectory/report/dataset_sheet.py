"""What a data set shows of itself: its rows in memory, or the manifest of a folder."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING

from reflectory.report.dataset_plots import SOURCE_NAMES, lengths_of, origins_of, taught
from reflectory.report.sheet import Grid, Sheet

if TYPE_CHECKING:
    from reflectory.training.counts import Tally
    from reflectory.training.dataset import DatasetManifest, RowSet

_SHOWN = 3  # rows that can be unfolded
_LONG = 2_000  # characters of a text that are shown


def rows_sheet(rows: RowSet) -> Sheet:
    """Return what rows are: how many of which origin, how long, and the first few."""
    count = len(rows.rows)
    origins = origins_of(rows.rows)
    return Sheet(
        title=f"{count:,} row{'s' * (count != 1)} of the format {rows.format}",
        lines=(f"sha256 {rows.sha256[:16]}",) if count else ("there is no row",),
        grids=(
            _shares(
                "What the rows come from",
                ("from", "by", "rows"),
                (((o, SOURCE_NAMES[s]), n) for (o, s), n in origins.items()),
            ),
            Grid(
                "Length in words",
                ("text", "texts", "shortest", "median", "longest"),
                tuple(
                    (
                        name,
                        f"{len(found):,}",
                        f"{min(found)}",
                        f"{statistics.median(found):g}",
                        f"{max(found)}",
                    )
                    for name, found in lengths_of(rows.rows).items()
                ),
            ),
        ),
        folded=tuple(
            (f"row {place}: {_cut(row.provenance.question, 80) or row.provenance.what}", text)
            for place, row in enumerate(rows.rows[:_SHOWN])
            for text in ["\n\n".join(f"{n}: {_cut(t, _LONG)}" for n, t in taught(row))]
        ),
    )


def manifest_sheet(manifest: DatasetManifest) -> Sheet:
    """Return what a data set says of itself: rows, origins, and what curation refused."""
    lines = [
        f"format {manifest.format}, {manifest.style} style, {manifest.file_format} file, from "
        f"{manifest.trajectories:,} trajector{'y' if manifest.trajectories == 1 else 'ies'}",
        f"licence of the documents: {manifest.sources_licence}; sha256 {manifest.sha256[:16]}",
    ]
    if manifest.derivation is not None:
        lines.append(manifest.derivation.explanation)
    return Sheet(
        title=f"Data set of {manifest.rows:,} row{'s' * (manifest.rows != 1)}",
        lines=tuple(lines),
        grids=(
            _shares(
                "What the rows come from",
                ("from", "rows"),
                (((name,), number) for name, number in manifest.kinds.items()),
            ),
            _shares(
                "Who wrote them",
                ("by", "rows"),
                (((SOURCE_NAMES.get(s, s),), n) for s, n in manifest.sources.items()),
            ),
            Grid(
                "What curation looked at",
                ("candidates", "seen", "accepted", "refused because"),
                tuple(_tallies(manifest)),
                words=frozenset({"refused because"}),
            ),
        ),
    )


def _tallies(manifest: DatasetManifest) -> Iterable[tuple[str, ...]]:
    found: dict[str, Tally] = {}
    if manifest.counts is not None:
        found |= manifest.counts.kinds
        for step in manifest.counts.steps:
            named = {f"{step.name}, rows": step.rows, f"{step.name}, pairs": step.pairs}
            found |= {name: tally for name, tally in named.items() if tally.refused}
    if manifest.derivation is not None:
        found["candidates"] = manifest.derivation.tally
    for name, tally in found.items():
        reasons = ", ".join(
            f"{number:,} {reason.replace('_', ' ')}" for reason, number in tally.refused.items()
        )
        yield name.replace("_", " "), f"{tally.seen:,}", f"{tally.accepted:,}", reasons or "-"


def _shares(
    caption: str, heads: tuple[str, ...], found: Iterable[tuple[tuple[str, ...], int]]
) -> Grid:
    """Return a table of counts with a bar for each, the longest being the most."""
    pairs = list(found)
    most = max((number for _, number in pairs), default=0) or 1
    return Grid(
        caption,
        heads,
        tuple((*names, f"{number:,}") for names, number in pairs),
        tuple(number / most for _, number in pairs),
        frozenset({"by"}),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
