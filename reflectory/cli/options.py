"""Options that several verbs have: named and described in one place, so that they stay alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="Run directory.")]
ResumedRun = Annotated[
    Path | None, typer.Option("-o", "--output", help="Run directory; the same again resumes.")
]
ConfigFile = Annotated[Path | None, typer.Option("-c", "--config", help="YAML configuration.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="FIELD=VALUE",
        help="Any field of the YAML file, such as loop.seed=7; repeatable.",
    ),
]

Documents = Annotated[
    list[str] | None,
    typer.Option("--documents", "-d", help="File, folder or index; repeatable."),
]
Instructions = Annotated[
    list[str] | None, typer.Option("--instruction", "-i", help="What to ask; repeatable.")
]

ModelName = Annotated[str | None, typer.Option(help="local, local:PATH, PROVIDER:MODEL")]
BaseModel = Annotated[str, typer.Option(help="local (the default model), or a folder or hub id.")]
AdapterFolder = Annotated[str | None, typer.Option(help="Folder of an adapter.")]
Device = Annotated[str | None, typer.Option(help="auto, cuda, mps, cpu")]
Dtype = Annotated[str | None, typer.Option(help="auto, bfloat16, float16, float32, int8")]

MaxIterations = Annotated[int | None, typer.Option(help="T.")]
LoopsAtOnce = Annotated[int | None, typer.Option(help="Loops at the same time.")]

MaxCalls = Annotated[int | None, typer.Option("--max-calls", help="Most calls of models.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Most tokens, of all agents.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", help="Most US dollars.")]
MaxHours = Annotated[float | None, typer.Option("--max-hours", help="Most hours of this clock.")]
Prices = Annotated[Path | None, typer.Option("--prices", help="YAML file with your prices.")]

Names = Annotated[str | None, typer.Option(help="Names, with commas.")]
JsonResult = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
