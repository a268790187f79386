"""The plan in a run directory, and what the run took beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from reflectory.errors import IntegrityError
from reflectory.planning.forecast import CASES, Case, Need, RunPlan
from reflectory.runs.directory import RunView
from reflectory.runs.files import storage_errors, write_atomic
from reflectory.types import Record

PLAN = "plan.json"


class Comparison(Record):
    """A prediction beside what happened.

    Attributes:
        loops: Loops that are over.
        planned: Loops that the plan is for.
        predicted: What so many loops take by the plan, by case and role.
        fact: What was recorded, by role.
        cost: US dollars by the plan, by case, and as ``fact``; ``None`` where unknown.
        hours: Wall-clock time by the plan, by case, and as ``fact``; ``None`` where unknown.
    """

    loops: int
    planned: int
    predicted: dict[Case, dict[str, Need]]
    fact: dict[str, Need]
    cost: dict[str, float | None]
    hours: dict[str, float | None]


def note_plan(folder: Path, plan: RunPlan) -> None:
    """Write a plan into a run directory, in one step.

    Args:
        folder: The run directory.
        plan: What the run was predicted to take.

    Raises:
        StorageError: The folder cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / PLAN, plan.model_dump_json(indent=1) + "\n")


def read_plan(folder: Path) -> RunPlan | None:
    """Return the plan of a run directory, or ``None`` when it has none.

    Raises:
        IntegrityError: The file is damaged.
    """
    file = folder / PLAN
    if not file.is_file():
        return None
    with storage_errors(file, "read"):
        text = file.read_bytes()
    try:
        return RunPlan.model_validate_json(text)
    except ValidationError as error:
        raise IntegrityError(
            f"{file} is no plan: {error.errors()[0]['msg']}",
            hint="delete it; the run does not depend on it",
        ) from error


def compare(view: RunView, plan: RunPlan) -> Comparison:
    """Put what a run took beside what was predicted for as many loops.

    Args:
        view: The run directory, finished or not.
        plan: Its plan.
    """
    totals = view.manifest.totals
    loops = totals.done + totals.failed
    share = loops / plan.instructions
    fact = {
        role: Need(
            calls=sums["calls"],
            prompt_tokens=sums["prompt_tokens"],
            completion_tokens=sums["completion_tokens"],
        )
        for role, sums in totals.tokens.items()
    }

    def scaled(value: float | None, unit: float = 1.0) -> float | None:
        return None if value is None else value * share / unit

    cases = plan.cases
    return Comparison(
        loops=loops,
        planned=plan.instructions,
        predicted={
            case: {role: need.times(share) for role, need in cases[case].roles.items()}
            for case in CASES
        },
        fact=fact,
        cost={
            **{case: scaled(cases[case].cost) for case in CASES},
            "fact": totals.spent.get("cost"),
        },
        hours={
            **{case: scaled(cases[case].seconds, 3600.0) for case in CASES},
            "fact": totals.spent.get("hours"),
        },
    )
