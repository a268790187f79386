"""A run as one page for people: it needs no network and is read from the disk.

The texts of models and documents stand in the page as text. The templates escape them, and
the page's content security policy allows no script but its own, named by its hash.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflectory.evaluation.fields import flatten
from reflectory.report import evaluation_words
from reflectory.report.html import asset, environment, script_hash
from reflectory.report.reading import trajectory_css
from reflectory.report.run import words
from reflectory.report.run.details import CHUNK, FLAGS, SHOWN, Details
from reflectory.report.run.facts import RunFacts, gather
from reflectory.report.run.parts import RunParts
from reflectory.report.run.pictures import pictures_of
from reflectory.runs.files import storage_errors, write_atomic

PAGE = "report.html"
"""Name of the page in its run directory."""

_ENTRIES, _CHUNKS = "<!--entries-->", "<!--chunks-->"
"""Places in the template; a text of a model cannot hold them, as it is escaped."""


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Attributes:
        path: The file.
        facts: What it says.
        size: Of the file, in bytes.
        details_size: Of the compressed trajectories in it, in bytes.
        details_unpacked: The same before compression.
        seconds: What making it took.
    """

    path: Path
    facts: RunFacts
    size: int
    details_size: int
    details_unpacked: int
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Return page and figures as JSON values, for machines."""
        return {
            "path": str(self.path),
            "bytes": self.size,
            "details_bytes": self.details_size,
            "details_unpacked_bytes": self.details_unpacked,
            "seconds": round(self.seconds, 3),
            **self.facts.summary(),
        }


def write_report(
    run: str | Path,
    output: str | Path | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> WrittenReport:
    """Write a run as one self-contained HTML file.

    Trajectories are read one at a time, and their details go through a temporary file beside
    the page, so memory does not grow with their number.

    Args:
        run: Folder of ``reflectory run``, ``improve`` or ``demo``; it may be at work.
        output: Where the page goes, by default ``report.html`` in the folder; a file that is
            there is replaced as a whole.
        progress: Told after each trajectory how many were read, and of how many.

    Raises:
        RunDirectoryError: The folder is no run directory, or of a newer schema.
        IntegrityError: A file in it is damaged.
        StorageError: The page cannot be written.
    """
    began = time.perf_counter()
    parts = RunParts.of(run)
    target = Path(output) if output is not None else parts.path / PAGE
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with Details(target.parent) as details:
        facts = gather(parts, details, progress=progress)
        write_atomic(target, _page(facts, details))
        size = target.stat().st_size
        seconds = time.perf_counter() - began
        return WrittenReport(target, facts, size, details.packed_bytes, details.html_bytes, seconds)


def _page(facts: RunFacts, details: Details) -> Iterator[bytes]:
    """Yield the page: all but the details stands before them, and works before they are there."""
    chunks = details.chunks()  # the last chunk is packed by the first step
    first = next(chunks, b"")
    text = _html(facts, details)
    head, rest = text.split(_ENTRIES)
    middle, tail = rest.split(_CHUNKS)
    yield head.encode("utf-8", "replace")
    yield from details.entries()
    yield middle.encode("utf-8", "replace")
    yield first
    yield from chunks
    yield tail.encode("utf-8", "replace")


def _html(facts: RunFacts, details: Details) -> str:
    script = asset("run.js")
    manifest = facts.manifest
    about = {
        "chunk": CHUNK,
        "flags": FLAGS,
        "rules": details.rules,
        "levels": details.levels,
        "parts": [name for name, _ in facts.parts],
    }
    return (
        environment()
        .get_template("run.html.j2")
        .render(
            facts=facts,
            words=words,
            said=evaluation_words,
            manifest=manifest,
            session=manifest.sessions[-1] if manifest.sessions else None,
            style=asset("page.css") + asset("run.css") + trajectory_css(),
            script=script,
            script_hash=script_hash(script),
            about=json.dumps(about, ensure_ascii=False).replace("<", "\\u003c"),
            rules=details.rules,
            flags=FLAGS,
            shown=SHOWN,
            unpacked=details.html_bytes,
            packed=details.packed_bytes,
            pictures=pictures_of(facts),
            settings=flatten(manifest.config),
            identity=flatten(manifest.identity),
        )
    )
