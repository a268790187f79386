"""``reflectory train``: rows into a LoRA adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reflectory.cli.common import config_from, err, out, print_json, progress_bar


def train(
    dataset: Annotated[Path, typer.Argument(help="Folder that `reflectory dataset` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the adapter.")],
    base: Annotated[
        str, typer.Option(help="local (the default model), or a folder or hub id.")
    ] = "local",
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML configuration.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per optimiser step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initialisation and order.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps, cpu")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, bfloat16, float16, float32, int8")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train one LoRA adapter; the loss counts the completions only (Equation 6).

    Example: reflectory train data/first --base local -o adapters/first
    """
    from reflectory.training.dataset import read_dataset
    from reflectory.training.trainer import train_adapter

    settings = config_from(
        config,
        {
            "training.epochs": epochs,
            "training.max_steps": max_steps,
            "training.batch_size": batch_size,
            "training.learning_rate": learning_rate,
            "training.rank": rank,
            "training.seed": seed,
            "device": device,
            "dtype": dtype,
        },
    )
    rows = read_dataset(dataset).training_rows()
    with progress_bar(quiet=json) as bar:
        task = bar.add_task(f"training on {len(rows)} rows", total=None)

        def show(step: int, steps: int, loss: float, seconds: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"loss {loss:.3f}")

        report = train_adapter(
            rows,
            base_folder(base),
            output,
            settings.training,
            progress=show,
            device=settings.device,
            dtype=settings.dtype,
        )
    if json:
        print_json({"adapter": str(output), **report.manifest.model_dump(mode="json")})
        return
    out.print(
        f"{report.steps} steps on {len(rows)} rows in {report.seconds:.0f} s, "
        f"loss {report.losses[0]:.3f} -> {report.losses[-1]:.3f}; "
        f"{report.trainable_fraction:.2%} of the parameters were trained (Equation 8)"
    )
    err.print(f"The adapter is in {output}")


def base_folder(name: str) -> str | Path:
    """Return what :func:`~reflectory.training.trainer.train_adapter` takes for a base by name."""
    from reflectory.models.defaults import ensure_language_model
    from reflectory.models.progress import rich_progress

    if name != "local":
        return name.removeprefix("local:")
    with rich_progress() as progress:
        return ensure_language_model(progress).path
