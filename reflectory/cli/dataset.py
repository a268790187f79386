"""``reflectory dataset``: trajectories of runs into training rows."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from reflectory.cli import options
from reflectory.cli.common import err, out, print_json
from reflectory.errors import DatasetError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflectory.config import CurationConfig
    from reflectory.runs.directory import RunView
    from reflectory.training.counts import CurationCounts, Tally
    from reflectory.training.dataset_columns import Style
    from reflectory.training.dataset_files import FileFormat
    from reflectory.training.dataset_making import MadeRows
    from reflectory.training.rows import Prompter, Source

_RULE = "Rule (default: that of the run)"


def dataset(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the data set.")],
    runs: Annotated[list[Path] | None, typer.Argument(help="Run directories.")] = None,
    format: Annotated[
        str, typer.Option(help="sft, dpo, kto, feedback or prompts (for GRPO).")
    ] = "sft",
    style: Annotated[str, typer.Option(help="chat (messages) or plain (texts).")] = "chat",
    file_format: Annotated[
        str, typer.Option(help="jsonl, parquet, or datasets (a folder for load_from_disk).")
    ] = "jsonl",
    candidates: Annotated[
        list[Path] | None, typer.Option(help="JSON Lines of further answers; may be repeated.")
    ] = None,
    manual: Annotated[
        list[Path] | None,
        typer.Option(help="Rows of your own: JSON Lines, Parquet, CSV; may be repeated."),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(help="Most rows of a source: manual=0.3 (self, distilled, manual)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which rows stay where a share is limited.")] = 0,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(help="Questions that no row may hold; those of the run are added."),
    ] = None,
    minimum_grade: Annotated[
        float | None, typer.Option(help="Least G of a response.", rich_help_panel=_RULE)
    ] = None,
    minimum_score: Annotated[
        float | None, typer.Option(help="Least score of an answer.", rich_help_panel=_RULE)
    ] = None,
    minimum_margin: Annotated[
        float | None, typer.Option(help="Least distance of a pair.", rich_help_panel=_RULE)
    ] = None,
    undesirable_below: Annotated[
        float | None,
        typer.Option(
            help="kto: undesirable below this score; default: score less margin.",
            rich_help_panel=_RULE,
        ),
    ] = None,
    push: Annotated[
        str | None, typer.Option(help="Also push to the hub, as OWNER/NAME; needs a token.")
    ] = None,
    private: Annotated[bool, typer.Option(help="Where it is pushed, only for you.")] = False,
    json: options.JsonResult = False,
) -> None:
    """Turn what was learnt in one or more runs into rows that TRL reads.

    Example: reflectory dataset runs/first --format dpo --file-format parquet -o data/first
    """
    from reflectory.runs.directory import RunView
    from reflectory.training.curation import CurationTools
    from reflectory.training.dataset import write_dataset
    from reflectory.training.dataset_hub import push_dataset
    from reflectory.training.dataset_making import (
        format_named,
        licence_of,
        make_rows,
        read_candidates,
    )
    from reflectory.training.dataset_manual import read_manual
    from reflectory.training.merging import merge_rows

    wanted, limits = format_named(format), shares_of(share or [])
    views = [RunView.read(run) for run in runs or []]
    if not views and not manual:
        raise UserError(
            "there is nothing to make rows of", hint="name a run directory, or --manual FILE"
        )
    changes = {
        "minimum_grade": minimum_grade,
        "minimum_score": minimum_score,
        "minimum_margin": minimum_margin,
    }
    rule, prompter = rule_of(views, changes), prompter_of(views)
    trajectories = [t for view in views for t in view.trajectories]
    made = asyncio.run(
        make_rows(
            wanted,
            trajectories,
            rule,
            prompter,
            candidates=[c for file in candidates or [] for c in read_candidates(file)],
            rubrics={v.name: v.rubric for view in views for v in view.config.loop.levels},
            undesirable_below=undesirable_below,
            tools=CurationTools(evaluation_texts=texts_to_keep_out(views, held_out or [])),
        )
    )
    own = [
        read_manual(file, format=wanted, prompter=prompter if views else None)
        for file in manual or []
    ]
    rows = merge_rows(made.rows, *own, shares=limits, seed=seed)
    if not rows.rows:
        raise DatasetError(
            f"none of {len(trajectories)} trajectories gave a row of the format {wanted}\n"
            f"{_explained(made)}",
            hint="lower --minimum-grade, --minimum-score or --minimum-margin",
        )
    manifest = write_dataset(
        output,
        rows.rows,
        format=wanted,
        style=cast("Style", style),  # write_dataset refuses other words
        file_format=cast("FileFormat", file_format),
        rule=rule if made.counts is not None and views else None,
        counts=made.counts if views else None,
        derivation=made.derivation if views else None,
        seeds=[t.seed for t in trajectories],
        sources_licence=licence_of(trajectories),
    )
    address = push_dataset(output, push, private=private) if push else ""
    if json:
        print_json({**manifest.model_dump(mode="json"), "pushed": address})
        return
    sources = ", ".join(f"{number} {source}" for source, number in manifest.sources.items())
    out.print(
        f"{manifest.rows} rows ({sources}) from {manifest.trajectories} trajectories in {output}"
    )
    if views:
        out.print(_explained(made), markup=False)
    if address:
        err.print(f"Pushed to {address}")


def shares_of(given: Sequence[str]) -> dict[Source, float]:
    """Return the limits that ``SOURCE=SHARE`` options set.

    Raises:
        UserError: One is written otherwise.
    """
    limits = {}
    for text in given:
        source, _, share = text.partition("=")
        try:
            limits[cast("Source", source.strip())] = float(share)
        except ValueError as error:
            raise UserError(
                f"--share {text}: that is no limit", hint="write it as manual=0.3"
            ) from error
    return limits


def rule_of(views: Sequence[RunView], changes: dict[str, float | None]) -> CurationConfig:
    """Return the rule of the first run with what the options change."""
    from reflectory.config import CurationConfig

    base = views[0].config.curation if views else CurationConfig()
    given = {name: value for name, value in changes.items() if value is not None}
    return CurationConfig(**{**base.model_dump(), **given})


def prompter_of(views: Sequence[RunView]) -> Prompter:
    """Return what makes the student's prompt in the runs, by default without any.

    Raises:
        DatasetError: The runs were made with different prompts.
    """
    from reflectory.agents import PromptSet, answer_segments

    texts = [PromptSet.for_loop(view.config.loop) for view in views]
    if any(prompts != texts[0] for prompts in texts):
        raise DatasetError(
            "the runs were made with different prompts",
            hint="make one data set per run: a row holds the prompt of its run",
        )
    return partial(answer_segments, texts[0] if texts else PromptSet.with_replacements())


def texts_to_keep_out(views: Sequence[RunView], files: Sequence[Path]) -> list[str]:
    """Return every question and answer that the student will be measured on."""
    from reflectory.evaluation.held_out import read_held_out

    named = [Path(name) for view in views for name in view.config.improvement.held_out]
    return [
        text
        for file in dict.fromkeys([*named, *files])
        for question in read_held_out(file)
        for text in (question.question, *question.references)
    ]


def explain(counts: CurationCounts) -> str:
    """Return one line per kind of candidate: how many became rows, and why the others did not."""
    tallies = dict(counts.kinds)
    for step in counts.steps:
        named = {f"{step.name}, rows": step.rows, f"{step.name}, pairs": step.pairs}
        tallies |= {name: tally for name, tally in named.items() if tally.refused}
    return "\n".join(_line(kind, tally) for kind, tally in tallies.items())


def _explained(made: MadeRows) -> str:
    if made.derivation is not None:
        return _line("candidates", made.derivation.tally)
    return explain(made.counts) if made.counts is not None else ""


def _line(kind: str, tally: Tally) -> str:
    reasons = ", ".join(f"{number} {reason}" for reason, number in tally.refused.items())
    refused = f"; refused: {reasons}" if reasons else ""
    return f"  {kind}: {tally.accepted} of {tally.seen} accepted{refused}"
