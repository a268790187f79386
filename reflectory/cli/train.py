"""``reflectory train``: rows and pairs into an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import config_from, err, out, print_json, progress_bar
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.training.plan import TrainingPlan
    from reflectory.training.rows import PreferenceRow, TrainingRow


def train(
    datasets: Annotated[
        list[Path],
        typer.Argument(
            help="Folders that `reflectory dataset` wrote: rows (sft), pairs (dpo) or both."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the adapter.")
    ] = None,
    base: options.BaseModel = "local",
    parent: Annotated[
        Path | None, typer.Option(help="Adapter to start from: the student of the last round.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Model whose distributions are learnt where training.kl_weight > 0."),
    ] = None,
    config: options.ConfigFile = None,
    override: options.Overrides = None,
    objective: Annotated[
        str | None, typer.Option(help="sft, dpo or sft+dpo; by the data sets if not given.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="lora, qlora, dora, ia3, prefix, prompt, p-tuning or bitfit."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per optimiser step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initialisation and order.")] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what it takes in time and memory, and stop.")
    ] = False,
    json: options.JsonResult = False,
) -> None:
    """Train one adapter: on rows (Equation 6), on pairs (Equation 12), or both in turn.

    The same command goes on from the last checkpoint when it was interrupted. Several GPUs:
    accelerate launch -m reflectory.cli.main train ...

    Example: reflectory train data/first --base local -o adapters/first
    """
    from reflectory.training.processes import processes
    from reflectory.training.trainer import plan_adapter, train_adapter

    rows, pairs = read_datasets(datasets)
    if objective is None and config is None:
        objective = "+".join(name for name, some in (("sft", rows), ("dpo", pairs)) if some)
    settings = config_from(
        config,
        {
            "training.objective": objective or None,
            "training.method": method,
            "training.epochs": epochs,
            "training.max_steps": max_steps,
            "training.batch_size": batch_size,
            "training.learning_rate": learning_rate,
            "training.rank": rank,
            "training.seed": seed,
            "device": device,
            "dtype": dtype,
        },
        override,
    )
    model = base_folder(base)
    if plan:
        shown = plan_adapter(
            rows,
            model,
            settings.training,
            preferences=pairs,
            teacher=teacher,
            device=settings.device,
            dtype=settings.dtype,
        )
        if json:
            print_json(plan_data(shown))
        else:
            show_plan(shown)
        return
    if output is None:
        raise UserError(
            "there is no place for the adapter", hint="name a folder: reflectory train ... -o DIR"
        )
    main = processes().main
    with progress_bar(quiet=json or not main) as bar:
        task = bar.add_task(f"training on {len(rows) + len(pairs)} rows", total=None)

        def show(step: int, steps: int, loss: float, seconds: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"loss {loss:.3f}")

        report = train_adapter(
            rows,
            model,
            output,
            settings.training,
            preferences=pairs,
            parent=parent,
            teacher=teacher,
            progress=show,
            device=settings.device,
            dtype=settings.dtype,
        )
    leave_processes()
    if not main:
        return
    if json:
        facts = {name: getattr(report, name) for name in _MEASURED}
        manifest = report.manifest.model_dump(mode="json")
        print_json({"adapter": str(output), **manifest, **facts, "plan": plan_data(report.plan)})
        return
    out.print(
        f"{report.steps} steps on {len(rows) + len(pairs)} rows in {report.seconds:.0f} s, "
        f"loss {report.losses[0]:.3f} -> {report.losses[-1]:.3f}; "
        f"{report.trainable_fraction:.2%} of the parameters were trained (Equation 8)"
    )
    if report.plan.seconds is not None:
        err.print(
            f"Planned were {report.plan.seconds:.0f} s and {gib(report.plan.memory.total)}; the "
            f"process took {gib(report.peak_memory)} at its peak"
        )
    err.print(f"The adapter is in {output}")


_MEASURED = ("seconds", "tokens_per_second", "flops_per_second", "peak_memory", "resumed_from")


def read_datasets(
    folders: Sequence[Path],
) -> tuple[tuple[TrainingRow, ...], tuple[PreferenceRow, ...]]:
    """Return the rows and the pairs of data sets, in their order.

    Raises:
        DatasetError: One cannot be read, or holds rows of another format.
    """
    from reflectory.training.dataset import read_dataset

    rows: list[TrainingRow] = []
    pairs: list[PreferenceRow] = []
    for folder in folders:
        found = read_dataset(folder)
        if found.format == "dpo":
            pairs += found.preference_rows()
        else:
            rows += found.training_rows()
    return tuple(rows), tuple(pairs)


def plan_data(plan: TrainingPlan) -> dict[str, Any]:
    """Return a plan with its totals, as JSON types."""
    return {
        **plan.model_dump(mode="json"),
        "seconds": plan.seconds,
        "flops": plan.flops,
        "flops_6nd": plan.flops_6nd,
        "tokens": plan.tokens,
        "steps": plan.steps,
        "bytes": plan.memory.total,
    }


def show_plan(plan: TrainingPlan) -> None:
    """Print a plan for people."""
    for stage in plan.stages:
        again = ", activations computed again" if stage.checkpointing else ""
        out.print(
            f"{stage.objective}: {stage.rows} rows, {stage.steps} steps, {stage.tokens:,} tokens, "
            f"{stage.micro_batch} a forward pass{again}"
        )
    out.print(
        f"{plan.flops:.2e} operations (6 N D would be {plan.flops_6nd:.2e}: frozen weights need "
        "no gradients)"
    )
    if plan.seconds is not None:
        out.print(f"about {plan.seconds:.0f} s at the speed that was probed")
    memory = plan.memory
    parts = ", ".join(
        f"{name} {gib(size)}" for name, size in memory.model_dump().items() if size >= 2**20
    )
    free = "" if plan.available is None else f" of {gib(plan.available)} free"
    out.print(f"{gib(memory.total)} of memory{free}: {parts}")


def gib(size: float) -> str:
    """Return a number of bytes for people."""
    return f"{size / 2**30:.2f} GiB"


def leave_processes() -> None:
    """End the group that a launcher made, so that no process waits for another."""
    from reflectory.training.processes import processes

    if processes().count > 1:
        import gc

        from accelerate import PartialState

        PartialState().destroy_process_group()
        # The trainer's cycles still hold the group. Its threads must end before the interpreter
        # does: one that drops a tensor after that ends the process by SIGABRT.
        gc.collect()


def base_folder(name: str) -> str | Path:
    """Return what :func:`~reflectory.training.trainer.train_adapter` takes for a base by name."""
    from reflectory.models.defaults import ensure_language_model
    from reflectory.models.progress import rich_progress

    if name != "local":
        return name.removeprefix("local:")
    with rich_progress() as progress:
        return ensure_language_model(progress).path
