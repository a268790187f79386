"""Training beside TRL's own trainers: tokens per second and memory.

    python bench/training.py --json out.json
    python bench/training.py --objectives sft,dpo --dtypes auto --checkpointing off,on
    python bench/training.py --model tiny --length 8000 --rows 8 --pairs 6 --repeats 1

Two comparisons. *Matched*: the same rows, adapter, number format, activation
checkpointing, rows of a forward pass and rows of a step for both, TRL's trainer used
as its documentation does; the losses of the steps must agree, or the two did not do
the same work. *Defaults*: each with its own, which says what ours save.

Every training runs in a process of its own, so that its peak of memory is its own, and
the contenders take turns in every repeat. Tokens are those of one pass over the rows (of
pairs, the prompt counted with either completion); seconds are those of the optimiser
steps, and of everything from reading the base to the saved adapter. TRL asks the
reference model of DPO before its first step, so there only the whole is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from provenance import provenance

from reflectory.models.device import choose_device

CASES = ("ours", "trl")


def cases_of(options: argparse.Namespace, model: Path) -> list[dict[str, Any]]:
    """Return what is compared: one entry for each pair of contenders."""
    cuda = choose_device(options.device).type == "cuda"
    shared = {
        "model": str(model),
        "batch": options.batch,
        "micro_batch": options.micro_batch or (options.batch if cuda else 1),
        "steps": options.steps,
        "length": options.length,
        "threads": options.threads,
        "device": options.device,
    }
    found = []
    for objective in options.objectives:
        rows = options.rows if objective == "sft" else options.pairs
        case = {**shared, "objective": objective, "rows": rows, "defaults": False}
        for dtype in options.dtypes:
            for checkpointing in options.checkpointing:
                found.append({**case, "dtype": dtype, "checkpointing": checkpointing})
        if not options.no_defaults:
            found.append({**case, "defaults": True, "dtype": "auto", "checkpointing": "auto"})
    return found


def turns(cases: Sequence[dict[str, Any]], repeats: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every training: contenders take turns, and who begins changes every repeat."""
    for repeat in range(repeats):
        for number, case in enumerate(cases):
            order = CASES if (repeat + number) % 2 == 0 else CASES[::-1]
            for contender in order:
                yield number, {**case, "contender": contender, "seed": repeat}


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Train once in a new process and return what it took."""
    with tempfile.TemporaryDirectory(prefix="bench-") as cache:
        environment = {**os.environ, "HF_DATASETS_CACHE": cache, "TOKENIZERS_PARALLELISM": "false"}
        if spec["threads"]:
            environment["OMP_NUM_THREADS"] = str(spec["threads"])
        command = [sys.executable, __file__, "--child", json.dumps(spec)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{spec} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"contender": spec["contender"], "seed": spec["seed"], **result}


def row_of(case: dict[str, Any], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of both contenders and their ratios."""
    row: dict[str, Any] = {name: value for name, value in case.items() if name != "model"}
    row["runs"] = list(runs)
    for name in CASES:
        mine = [r for r in runs if r["contender"] == name]
        row[name] = {
            "tokens_per_second": statistics.median(r["tokens"] / r["seconds"] for r in mine),
            "whole_tokens_per_second": statistics.median(
                r["tokens"] / r["whole_seconds"] for r in mine
            ),
            "peak_bytes": statistics.median(r["peak_bytes"] for r in mine),
            "held_before_bytes": statistics.median(r["held_before_bytes"] for r in mine),
            **{k: mine[0][k] for k in ("dtype", "checkpointing", "micro_batch", "batch", "steps")},
        }
        if "gpu_peak_bytes" in mine[0]:
            row[name]["gpu_peak_bytes"] = statistics.median(r["gpu_peak_bytes"] for r in mine)
    ours, trl = row["ours"], row["trl"]
    for measure in ("tokens_per_second", "whole_tokens_per_second", "peak_bytes"):
        row[f"{measure}_ratio"] = ours[measure] / trl[measure]
    row["largest_difference_of_losses"] = _difference(runs)
    return row


def _difference(runs: Sequence[dict[str, Any]]) -> float | None:
    """Return how far the losses of the same step are apart; ``None`` for other steps."""
    worst = 0.0
    for seed in {r["seed"] for r in runs}:
        ours, trl = (
            next(r["losses"] for r in runs if r["seed"] == seed and r["contender"] == name)
            for name in CASES
        )
        if len(ours) != len(trl):
            return None
        worst = max(worst, *(abs(a - b) for a, b in zip(ours, trl, strict=True)))
    return worst


def print_row(row: dict[str, Any]) -> None:
    """Print one comparison."""
    kind = "defaults" if row["defaults"] else "matched"
    print(f"\n{row['objective']}, {kind}, {row['rows']} rows")
    print(f"{'':6} tokens/s   whole  peak MB  of it before  batch  checkpointing  format")
    for name in CASES:
        c = row[name]
        print(
            f"{name:6} {c['tokens_per_second']:8.1f} {c['whole_tokens_per_second']:7.1f} "
            f"{c['peak_bytes'] / 1e6:8.0f} {c['held_before_bytes'] / 1e6:13.0f}  "
            f"{c['micro_batch']:2} / {c['batch']:<2} {c['checkpointing']!s:>9}       {c['dtype']}"
        )
    apart = row["largest_difference_of_losses"]
    print(
        f"ratio  {row['tokens_per_second_ratio']:8.3f} {row['whole_tokens_per_second_ratio']:7.3f} "
        f"{row['peak_bytes_ratio']:8.3f}   losses differ by "
        + ("another number of steps" if apart is None else f"at most {apart:.4f}"),
        flush=True,
    )


def read_options() -> argparse.Namespace:
    """Return the command line's options."""

    def names(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--objectives", type=names, default=["sft", "dpo"])
    add("--dtypes", type=names, default=["auto"], help="of the matched comparison")
    add("--checkpointing", type=names, default=["off"], help="of the matched one: off, on")
    add("--no-defaults", action="store_true", help="leave the comparison of defaults out")
    add("--rows", type=int, default=60, help="of supervised training")
    add("--pairs", type=int, default=24, help="of preference training")
    add("--batch", type=int, default=4, help="rows of an optimiser step")
    add("--micro-batch", type=int, help="rows of a forward pass; 1 on a processor")
    add("--steps", type=int, help="optimiser steps; one pass over the rows without it")
    add("--length", type=int, default=1024, help="most tokens of a row")
    add("--repeats", type=int, default=3)
    add("--threads", type=int, default=2, help="0 leaves them to torch")
    add("--device", default="auto")
    add("--model", default="local", help="local, tiny, or a folder")
    add("--json", type=Path)
    add("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def base_model(name: str, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the base and what the report says of it."""
    if name == "tiny":
        from reflectory.testing.tiny import save_tiny_model

        return save_tiny_model(scratch / "tiny", context_window=8192), {"name": "tiny"}
    if name == "local":
        from reflectory.models.defaults import ensure_language_model

        model = ensure_language_model()
        return model.path, model.model_dump(mode="json", exclude={"path", "files"})
    return Path(name), {"name": Path(name).name}


def main() -> None:
    """Run what was asked for, print it and write the report."""
    options = read_options()
    if options.child is not None:
        from training_contenders import measure

        print(json.dumps(measure(options.child)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder, about = base_model(options.model, Path(scratch))
        report: dict[str, Any] = {
            **provenance("torch", "transformers", "trl", "peft", device=options.device),
            "threads": options.threads,
            "model": about,
            "comparisons": [],
        }
        cases = cases_of(options, folder)
        runs: list[list[dict[str, Any]]] = [[] for _ in cases]
        for number, spec in turns(cases, options.repeats):
            runs[number].append(run(spec))
            complete = [
                row_of(case, done[: len(done) - len(done) % 2])
                for case, done in zip(cases, runs, strict=True)
                if len(done) > 1
            ]
            report["comparisons"] = complete
            if options.json is not None:  # Hours can lie behind it.
                text = json.dumps(report, indent=2) + "\n"
                options.json.write_text(text, encoding="utf-8")
    for row in report["comparisons"]:
        print_row(row)


if __name__ == "__main__":
    main()
