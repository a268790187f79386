"""``reflectory cache``: what models said in a run, and taking out what is not needed."""

from __future__ import annotations

import json as jsonlib
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import out, print_json
from reflectory.cli.tables import FittingTable
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.runs.call_cache import CallCache
    from reflectory.runs.call_inspection import CacheView, CallFilter
    from reflectory.runs.call_records import RecordedCall

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def cache(
    run: options.RunFolder,
    key: Annotated[
        str | None, typer.Option(help="Show one call in full, by the beginning of its key.")
    ] = None,
    trajectory: Annotated[
        str | None, typer.Option(help="List the calls that served a loop, by its id.")
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="Only calls of a role; `teacher.` is all of its roles.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only calls of a model's fingerprint.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only calls of that age, as in 90m, 12h or 30d.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete the calls that were named.")
    ] = False,
    json: options.JsonResult = False,
) -> None:
    """Show the calls of a run by role and model, one call in full, or prune them.

    Finished loops need no calls; a loop that is resumed makes pruned ones again.
    What was spent stays counted.

    Example: reflectory cache runs/first --role teacher. --older-than 30d --prune
    """
    from reflectory.runs.call_inspection import CallFilter, calls_of, find_call, look_into

    which = CallFilter(role, model, None if older_than is None else seconds_of(older_than))
    if prune:
        if key or trajectory or which == CallFilter():
            raise UserError(
                "--prune was given without saying which calls",
                hint="name them with --role, --model or --older-than (0s is all of them)",
            )
        _prune(run, which, json)
        return
    calls = _open(run)
    try:
        if key is not None:
            _show_call(find_call(calls, key), json)
        elif trajectory is not None:
            found = list(calls_of(calls, trajectory))
            if not found:
                raise UserError(
                    f"no calls are noted for the loop {trajectory!r}",
                    hint="ids of loops are in trajectories.jsonl; runs of earlier versions "
                    "did not note which call served which loop",
                )
            _show_calls(found, json)
        else:
            _show_view(look_into(calls, which), calls, json)
    finally:
        calls.close()


def seconds_of(age: str) -> float:
    """Return the seconds of an age such as ``90m``, ``12h`` or ``30d``.

    Raises:
        UserError: It is spelt otherwise.
    """
    found = _AGE.fullmatch(age.strip().lower())
    if found is None:
        raise UserError(
            f"{age!r} is no age", hint="write a number and s, m, h, d or w, as in 90m or 30d"
        )
    return float(found[1]) * _SECONDS[found[2]]


def _open(run: Path) -> CallCache:
    from reflectory.runs.call_cache import CallCache

    if not (run / "calls.sqlite").is_file():
        raise UserError(
            f"{run} has no calls.sqlite", hint="pass the folder that a run was written to"
        )
    return CallCache(run / "calls.sqlite")


def _prune(run: Path, which: CallFilter, json: bool) -> None:
    from reflectory.runs.call_inspection import prune_calls
    from reflectory.runs.lock import FolderLock

    calls = _open(run)
    try:
        # A run that is going on reads what it wrote a moment ago.
        lock = FolderLock(run / ".lock")
        try:
            gone = prune_calls(calls, which)
        finally:
            lock.release()
    finally:
        calls.close()
    if json:
        print_json(asdict(gone))
    else:
        out.print(
            f"{gone.calls} calls and {gone.segments} prompt segments pruned, "
            f"{gone.bytes / 1e6:.1f} MB given back."
        )


def _show_view(view: CacheView, calls: CallCache, json: bool) -> None:
    if json:
        print_json({**asdict(view), "file_bytes": calls.path.stat().st_size})
        return
    figures = ("calls", "read", "reused", "written", "kB", "newest (UTC)")
    rows = []
    for group in view.groups:
        sums = group.totals
        rows.append(
            (
                group.role,
                group.model,
                f"{sums.calls:,}",
                f"{sums.prompt_tokens - sums.reused_tokens:,}",
                f"{sums.reused_tokens:,}",
                f"{sums.completion_tokens:,}",
                f"{group.bytes / 1e3:,.0f}",
                _time(group.newest),
            )
        )
    out.print(FittingTable(("role", "model", *figures), rows, right=figures, folded=("model",)))
    line = f"{view.segments} prompt segments, {view.segment_bytes / 1e3:.0f} kB, each stored once."
    if view.pruned.calls:
        line += f" {view.pruned.calls} calls were pruned."
    out.print(line)


def _show_calls(found: list[RecordedCall], json: bool) -> None:
    if json:
        print_json([asdict(call) for call in found])
        return
    rows = []
    for call in found:
        said = str(call.response.get("text", "(scores)")).replace("\n", " ")
        rows.append((call.key[:12], call.role, call.model, f"{call.seconds:.2f}", said[:60]))
    columns = ("key", "role", "model", "seconds", "said")
    out.print(FittingTable(columns, rows, right=("seconds",), folded=("model", "said")))


def _show_call(call: RecordedCall, json: bool) -> None:
    if json:
        print_json(asdict(call))
        return

    def say(text: Any) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"key: {call.key}\nkind: {call.kind}\nrole: {call.role}\nmodel: {call.model}")
    say(f"recorded: {_time(call.created)} UTC, took {call.seconds:.2f} s")
    for part in call.request["segments"]:
        say(f"--- prompt, {part.get('role', 'segment')}")
        say(part["text"])
    rest = {name: value for name, value in call.request.items() if name != "segments"}
    say(f"--- parameters\n{jsonlib.dumps(rest, ensure_ascii=False)}")
    say("--- said")
    say(call.response.get("text", jsonlib.dumps(call.response, ensure_ascii=False)))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")[:19]
