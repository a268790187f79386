"""``reflectory dataset``: trajectories of runs into training rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reflectory.cli.common import out, print_json
from reflectory.errors import DatasetError

if TYPE_CHECKING:
    from reflectory.training.counts import CurationCounts


def dataset(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the data set.")],
    format: Annotated[str, typer.Option(help="sft or dpo.")] = "sft",
    minimum_grade: Annotated[
        float | None, typer.Option(help="Least G of a response; default from the run.")
    ] = None,
    minimum_score: Annotated[
        float | None, typer.Option(help="Least score of an answer; default from the run.")
    ] = None,
    minimum_margin: Annotated[
        float | None, typer.Option(help="Least distance of a pair; default from the run.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Turn what was learnt in one or more runs into rows that TRL reads.

    Example: reflectory dataset runs/first -o data/first
    """
    from reflectory.agents import PromptSet, answer_segments
    from reflectory.config import CurationConfig
    from reflectory.runs.directory import RunView
    from reflectory.training.curation import curate
    from reflectory.training.dataset import write_dataset

    views = [RunView.read(run) for run in runs]
    texts = [PromptSet.for_loop(view.config.loop) for view in views]
    if any(prompts != texts[0] for prompts in texts):
        raise DatasetError(
            "the runs were made with different prompts",
            hint="make one data set per run: a row holds the prompt of its run",
        )
    changes = {
        "minimum_grade": minimum_grade,
        "minimum_score": minimum_score,
        "minimum_margin": minimum_margin,
    }
    rule = CurationConfig(
        **{
            **views[0].config.curation.model_dump(),
            **{name: value for name, value in changes.items() if value is not None},
        }
    )
    trajectories = [t for view in views for t in view.trajectories]
    curated = curate(trajectories, rule, lambda *given: answer_segments(texts[0], *given))
    rows = curated.preferences if format == "dpo" else curated.rows
    if not rows:
        raise DatasetError(
            f"none of {len(trajectories)} trajectories gave a row of the format {format}\n"
            f"{explain(curated.counts)}",
            hint="lower --minimum-grade, --minimum-score or --minimum-margin",
        )
    manifest = write_dataset(
        output,
        rows,
        format=format,  # type: ignore[arg-type]  # checked by write_dataset
        rule=rule,
        counts=curated.counts,
        seeds=[t.seed for t in trajectories],
    )
    if json:
        print_json(manifest.model_dump(mode="json"))
    else:
        out.print(f"{manifest.rows} rows from {manifest.trajectories} trajectories in {output}")
        out.print(explain(curated.counts), markup=False)


def explain(counts: CurationCounts) -> str:
    """Return one line per kind of candidate: how many became rows, and why the others did not."""
    lines = []
    for kind, tally in counts.kinds.items():
        reasons = ", ".join(f"{number} {reason}" for reason, number in tally.refused.items())
        refused = f"; refused: {reasons}" if reasons else ""
        lines.append(f"  {kind}: {tally.accepted} of {tally.seen} accepted{refused}")
    return "\n".join(lines)
