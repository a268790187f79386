"""``reflectory export``: a student as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from reflectory.cli import options
from reflectory.cli.common import err, out, print_json, progress_bar


def export(
    adapter: Annotated[Path, typer.Argument(help="Folder that `reflectory train` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the result.")],
    base: options.BaseModel = "local",
    format: Annotated[str, typer.Option(help="merged, gguf, ollama, or adapter-gguf.")] = "merged",
    type: Annotated[
        str | None,
        typer.Option(help="f32, f16, bf16, or q8_0 (gguf and ollama); each format has a default."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the student.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the base, where its card does not say it.")
    ] = None,
    json: options.JsonResult = False,
) -> None:
    """Write base and adapter as one model: for transformers, llama.cpp or Ollama.

    Example: reflectory export adapters/first --base local -o students/first --format gguf
    """
    from reflectory.cli.train import base_folder
    from reflectory.training.export import ExportFormat, NumberFormat, export_student

    folder = base_folder(base)
    with progress_bar(quiet=json) as bar:
        bar.add_task(f"merging {adapter.name} and writing it as {format}", total=None)
        # export_student refuses other words itself, with the list of those it knows.
        manifest = export_student(
            folder,
            adapter,
            output,
            format=cast("ExportFormat", format),
            number_format=cast("NumberFormat | None", type),
            name=name,
            licence=licence,
        )
    if json:
        print_json({"output": str(output), **manifest.model_dump(mode="json")})
        return
    size = sum((output / file).stat().st_size for file in manifest.files)
    out.print(
        f"{manifest.name}: {manifest.parameters:,} parameters as {manifest.format} in "
        f"{manifest.number_format}, {size / 1e6:.0f} MB; licence of the base: {manifest.licence}"
    )
    for file in manifest.files:
        out.print(f"  {output / file}", highlight=False, soft_wrap=True)
    err.print(f"The student is in {output}")
