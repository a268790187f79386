"""Statistics of a data set in a run directory: formats, lengths, levels, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reflectory.errors import ReflectoryError
from reflectory.training.counts import Tally
from reflectory.training.dataset import DatasetManifest, iterate_rows, read_manifest
from reflectory.training.rows import Row

REPEATED = ("repeated", "duplicate", "near_duplicate")
"""Beginnings of the reasons by which a row or pair was refused as one that was there already."""
_QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in words.

    Attributes:
        counts: How many have each length.
    """

    counts: Mapping[int, int]

    @property
    def total(self) -> int:
        """How many texts there are."""
        return sum(self.counts.values())

    @property
    def quantiles(self) -> tuple[int, ...]:
        """Shortest, tenth, half, nine tenths and longest; empty without texts."""
        total, passed = self.total, 0
        found: list[int] = []
        wanted = [share * (total - 1) for share in _QUANTILES] if total else []
        for length, count in sorted(self.counts.items()):
            passed += count
            while len(found) < len(wanted) and passed > wanted[len(found)]:
                found.append(length)
        return tuple(found)


@dataclass(frozen=True)
class DatasetFacts:
    """What a data set holds.

    Attributes:
        name: Of its folder in the run directory.
        manifest: What it says of itself.
        lengths: Of prompts and of what is learnt, by column; empty when the rows are unread.
        levels: Rows by level; answers to the instruction itself are under ``response``.
        rounds: Rows by the round that made them.
        scores: Rows by the tenth of [0, 1] that their score lies in.
        problem: Why the rows could not be read; empty when they were.
    """

    name: str
    manifest: DatasetManifest
    lengths: dict[str, Lengths] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    rounds: dict[int, int] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def tallies(self) -> dict[str, Tally]:
        """What the selection looked at, by kind of candidate."""
        if self.manifest.counts is not None:
            return self.manifest.counts.kinds
        derived = self.manifest.derivation
        return {} if derived is None else {"candidates": derived.tally}

    @property
    def repeated(self) -> int:
        """Candidates, rows and pairs that were left out because they repeat another."""
        counts = self.manifest.counts
        tallies = list(self.tallies.values())
        for step in counts.steps if counts is not None else ():
            tallies += [step.rows, step.pairs]
        return sum(
            count
            for tally in tallies
            for reason, count in tally.refused.items()
            if reason.startswith(REPEATED)
        )


def dataset_facts(folder: Path, name: str) -> DatasetFacts | None:
    """Return what a data set holds, read row by row; ``None`` when there is none.

    Rows that cannot be read, such as edited ones, are a problem of the data set and no error.

    Args:
        folder: Of the data set.
        name: What it is called on the page.
    """
    if not folder.is_dir() or (manifest := read_manifest(folder)) is None:
        return None
    lengths: dict[str, Counter[int]] = {}
    levels: Counter[str] = Counter()
    rounds: Counter[int] = Counter()
    scores: Counter[int] = Counter()
    problem = ""
    try:
        for row in iterate_rows(folder):
            for column, text in texts_of(row).items():
                lengths.setdefault(column, Counter())[len(text.split())] += 1
            origin = row.provenance
            levels[origin.level or origin.what] += 1
            if origin.round is not None:
                rounds[origin.round] += 1
            if origin.score is not None:
                scores[min(int(origin.score * 10), 9)] += 1
    except ReflectoryError as error:
        problem = error.message
    return DatasetFacts(
        name=name,
        manifest=manifest,
        lengths={column: Lengths(dict(sorted(c.items()))) for column, c in lengths.items()},
        levels=dict(levels.most_common()),
        rounds=dict(sorted(rounds.items())),
        scores=dict(sorted(scores.items())),
        problem=problem,
    )


def texts_of(row: Row) -> dict[str, str]:
    """Return the texts of a row by column, messages of a prompt joined."""
    texts = {"prompt": " ".join(message.content for message in row.prompt)}
    for column in ("completion", "chosen", "rejected"):
        messages = getattr(row, column, ())
        if messages:
            texts[column] = " ".join(message.content for message in messages)
    for column in ("privileged_context", "question"):
        if text := getattr(row, column, ""):
            texts[column] = text
    return texts
