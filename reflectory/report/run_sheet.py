"""What an opened run shows of itself."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from reflectory.errors import ReflectoryError
from reflectory.report.round_plots import DECISIONS
from reflectory.report.sheet import Grid, Sheet

if TYPE_CHECKING:
    from reflectory.report.opened_run import OpenedRun
    from reflectory.runs.manifest import Manifest

_MANY = 2_000  # of more loops the mean is not taken for a glance


def run_sheet(run: OpenedRun) -> Sheet:
    """Return counts, models, how loops stopped, calls by role, rounds, and the mean of A."""
    manifest, store = run.manifest, run.trajectories
    state = "finished" if manifest.finished else "not finished"
    count = f"{store.done:,} loops done, {store.failed:,} failed"
    rounds = len(run.rounds)
    if rounds and not store:
        count = f"{rounds} round{'s' * (rounds != 1)}"
    lines = [f"{count}; {state}, last written {manifest.updated}"]
    if rounds:
        lines.append("the loops of a round are a run of their own: loops_of_round(number)")
    if manifest.sessions and manifest.sessions[-1].device:
        lines.append(f"on {_device(manifest.sessions[-1].device)}")
    warnings, matrix = [], None
    if 0 < len(store) <= _MANY:
        try:
            matrix = run.mean_matrix()
        except ReflectoryError as error:
            warnings.append(error.message)
    elif store:
        lines.append("many loops: mean_matrix() reads them all")
    return Sheet(
        title=f"Run {run.path.name}",
        lines=tuple(lines),
        warnings=tuple(warnings),
        matrix=matrix,
        matrix_caption="Mean A[j,t]; later iterations are of the loops that got so far",
        grids=(_models(manifest), _stops(run), _roles(manifest), _rounds(run)),
    )


def _models(manifest: Manifest) -> Grid:
    rows = tuple((part, m.name, m.source) for part, m in manifest.models.items())
    return Grid("Models", ("part", "name", "from"), rows, words=frozenset({"name", "from"}))


def _stops(run: OpenedRun) -> Grid:
    stops = run.trajectories.stops()
    most = max(stops.values(), default=0) or 1
    return Grid(
        "How loops ended",
        ("rule", "loops"),
        tuple((rule, f"{number:,}") for rule, number in stops.items()),
        tuple(number / most for number in stops.values()),
    )


def _roles(manifest: Manifest) -> Grid:
    parts = ("calls", "prompt_tokens", "completion_tokens")
    rows = tuple(
        (role, *(f"{sums.get(part, 0):,.0f}" for part in parts))
        for role, sums in manifest.totals.tokens.items()
    )
    return Grid("Calls by role", ("role", "calls", "tokens read", "tokens written"), rows)


def _rounds(run: OpenedRun) -> Grid:
    rows = tuple(
        (f"{r.number}", DECISIONS.get(r.decision, r.decision), r.reason) for r in run.rounds
    )
    words = frozenset({"decision", "because"})
    return Grid("Rounds", ("round", "decision", "because"), rows, words=words)


def _device(said: str) -> str:
    """Return the device in words; manifests hold it as Python writes a mapping."""
    try:
        found = ast.literal_eval(said)
    except (ValueError, SyntaxError):
        return said
    if not isinstance(found, dict):
        return said
    return f"{found.get('device', '')}, {found.get('name', '')}".strip(", ")
