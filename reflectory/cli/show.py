"""``reflectory show``: the trajectories of a run, and one of them to read."""

from __future__ import annotations

import json as jsons
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import err, out, print_json

if TYPE_CHECKING:
    from reflectory.runs.directory import RunView
    from reflectory.types import Trajectory


def show(
    run: options.RunFolder,
    trajectory: Annotated[
        str | None, typer.Argument(help="Id of a trajectory, or its beginning.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the trajectory as one self-contained page.")
    ] = None,
    passages: Annotated[bool, typer.Option(help="Print the passages too.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a trajectory to read: answers and what changed, questions, grades, evidence.

    Without an id, list the trajectories of the run.

    Example: reflectory show runs/first 000000 --html first.html
    """
    from reflectory.runs.directory import RunView

    view = RunView.read(run)
    if trajectory is None:
        if html is not None:
            raise typer.BadParameter(
                "a page shows one trajectory: name its id", param_hint="--html"
            )
        _list(view, json=json)
        return
    _show_one(view, trajectory, html=html, passages=passages, json=json)


def _show_one(
    view: RunView, trajectory_id: str, *, html: Path | None, passages: bool, json: bool
) -> None:
    from reflectory.observability.trace import find_trajectory
    from reflectory.report.reading import trajectory_text, write_trajectory

    found = find_trajectory(view, trajectory_id)
    facts = _facts(view, found)
    if html is not None:
        written = write_trajectory(found, html, facts=facts)
        err.print(f"Wrote {written}", markup=False, highlight=False, soft_wrap=True)
    if json:
        print_json(found.model_dump(mode="json"))
    elif html is None:
        # A reader's lines: no longer than can be followed, nor than the terminal.
        width = min(out.width, 100)
        out.print(trajectory_text(found, width=width, passages=passages, facts=facts))


def _facts(view: RunView, found: Trajectory) -> dict[str, str]:
    """Return what the run knows of a trajectory besides: its calls and their tokens."""
    from reflectory.runs.call_cache import CallCache
    from reflectory.runs.places import FILE_NAME, CallPlaces

    if not (view.path / FILE_NAME).is_file():
        return {}  # a run of an older version, or of a cluster
    places, cache = CallPlaces(view.path / FILE_NAME), CallCache(view.path / "calls.sqlite")
    try:
        records = [cache.get(place.key) for place in places.of(found.id)]
    finally:
        places.close()
        cache.close()
    if not records:
        return {}
    usages = [record.get("usage", {}) for record in records if record is not None]
    read = sum(usage.get("prompt_tokens", 0) for usage in usages)
    written = sum(usage.get("completion_tokens", 0) for usage in usages)
    pruned = records.count(None)
    lost = f"; {pruned:,} of them were pruned" if pruned else ""
    return {"Calls": f"{len(records):,}, {read:,} tokens read and {written:,} written{lost}"}


def _list(view: RunView, *, json: bool) -> None:
    """Print one line for each trajectory while they are read: a run may hold many."""
    if json:
        sys.stdout.write("[")
        for place, row in enumerate(_rows(view)):
            text = jsons.dumps(row, ensure_ascii=False)
            sys.stdout.write(f"{',' if place else ''}\n  {text}")
        sys.stdout.write("\n]\n")
        return
    _print_rows(view)


def _rows(view: RunView) -> Iterator[dict[str, Any]]:
    for found in view.trajectories:
        stop = found.stop
        yield {
            "id": found.id,
            "instruction": found.instruction,
            "status": found.status,
            "grades": found.grades,
            "chosen": found.chosen,
            "iterations": None if stop is None else stop.iterations,
            "stop": None if stop is None else stop.rule,
            "failed_cells": sum(cell.failure is not None for cell in found.examinations),
            "flags": [flag.value for flag in found.flags],
        }


def _print_rows(view: RunView) -> None:
    from rich.text import Text

    from reflectory.report.reading.words import clean, counted, number

    count = 0
    for row in _rows(view):
        grades = [number(score, 2) for score in row["grades"]]
        parts = [" > ".join([grades[0], grades[row["chosen"]]] if grades[1:] else grades)]
        parts += ["failed"] if row["status"] == "failed" else [row["stop"] or ""]
        if row["failed_cells"]:
            parts.append(f"{counted(row['failed_cells'], 'cell')} failed")
        parts += [flag.replace("_", " ") for flag in row["flags"]]
        said = ", ".join(part for part in parts if part)
        out.print(Text.assemble((clean(row["id"]), "bold"), "  ", clean(said)))
        # One long line each: nobody reads on in a list.
        asked = textwrap.shorten(clean(row["instruction"]), 160, placeholder=" ...")
        out.print(Text(f"    {asked}"), soft_wrap=not out.is_terminal)
        count += 1
    if not count:
        err.print("No loop has finished yet.")
        return
    err.print(
        f"{counted(count, 'trajectory', 'trajectories')}, the grade of R_0 > that of what is "
        f"returned; read one: reflectory show {view.path} ID",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
