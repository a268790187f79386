"""``reflectory demo``: the whole story on the embedded models and the packaged example."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import out, print_json
from reflectory.cli.dataset import explain
from reflectory.cli.progress import Display, showing
from reflectory.demo.watcher import DemoWatcher

if TYPE_CHECKING:
    from reflectory.config import LoopConfig
    from reflectory.demo.story import DemoResult
    from reflectory.types import Trajectory


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Run directory.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps, cpu")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16, float32, int8")] = "auto",
    json: options.JsonResult = False,
    quiet: options.Quiet = False,
) -> None:
    """Reflect, make a data set, train a LoRA adapter, and answer held-out questions again.

    Needs no key and no GPU. The default models (180 MB) are fetched once.

    Example: reflectory demo
    """
    from reflectory.background import BACKGROUND
    from reflectory.demo.story import demo_config, run_demo
    from reflectory.models.defaults import ensure_embedding_model, ensure_language_model
    from reflectory.models.progress import rich_progress, silent

    with nullcontext(silent) if quiet else rich_progress() as download:
        ensure_language_model(download)
        ensure_embedding_model(download)
    began = time.perf_counter()
    settings = demo_config(seed=seed, device=device, dtype=dtype)
    with showing(quiet=quiet, lines=json) as display:
        result = BACKGROUND.run(run_demo(output, settings, _Watcher(display)))
    seconds = time.perf_counter() - began
    if json:
        print_json(_as_json(result, seconds))
    elif not quiet:
        _show(result, seconds)


class _Watcher(DemoWatcher):
    """Tells a display of stages, loops and training steps."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def stage(self, text: str) -> None:
        self._display.stage(text)

    def loops(self, count: int, config: LoopConfig) -> None:
        self._display.activity.expect("loops", count, iterations=config.max_iterations)

    def loop_done(self, trajectory: Trajectory) -> None:
        self._display.activity.finished(trajectory)

    def training(self) -> Callable[[int, int, float, float], None]:
        return self._display.activity.trained


def _show(result: DemoResult, seconds: float) -> None:
    from reflectory.cli.demo_answers import AnswersView
    from reflectory.report.terminal import matrix_table, scores_table, trajectory_summary

    first = next((t for t in result.trajectories if t.status == "done"), None)
    if first is not None:
        out.rule("One loop of several: before and after reflection")
        out.print(trajectory_summary(first))
        out.print(matrix_table(first.alignment))
    out.rule("What became training data")
    out.print(explain(result.counts), markup=False)
    training = result.training
    out.rule("One LoRA round")
    out.print(
        f"{result.rows} rows, {training.steps} steps, loss {training.losses[0]:.3f} -> "
        f"{training.losses[-1]:.3f}, {training.trainable_fraction:.2%} of the parameters trained"
    )
    out.rule(f"{len(result.before.answers)} held-out questions, before and after")
    out.print(scores_table(_scores(result.before), _scores(result.after)))
    out.print(AnswersView(result.checked))
    out.print(
        f"acceptance rate {result.acceptance:.0%} of the trajectories, {seconds:.0f} s in all"
    )
    for name, path in _paths(result).items():
        out.print(f"  {name:13} {path}", markup=False, highlight=False, soft_wrap=True)
    said = f"`reflectory report {result.folder}` makes one page of all of it."
    out.print(said, markup=False, highlight=False, soft_wrap=True)


def _scores(held_out: Any) -> dict[str, float | None]:
    scores = held_out.scores
    return {
        "token F1": scores.f1,
        "exact match": scores.exact_match,
        "contains the answer": scores.contains,
        "words per answer": scores.words,
    }


def _paths(result: DemoResult) -> dict[str, str]:
    return {
        "run directory": str(result.folder),
        "matrix": str(result.matrix_png),
        "trajectories": str(result.folder / "trajectories.jsonl"),
        "data set": str(result.dataset),
        "adapter": str(result.adapter),
        "held-out": str(result.folder / "rounds" / "000" / "evaluation.json"),
    }


def _as_json(result: DemoResult, seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "trajectories": len(result.trajectories),
        "acceptance": result.acceptance,
        "rows": result.rows,
        "steps": result.training.steps,
        "before": result.before.scores.to_dict(),
        "after": result.after.scores.to_dict(),
        "paths": _paths(result),
    }
