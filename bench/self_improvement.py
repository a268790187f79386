"""Does a student get better by its own rounds? Against cutting, prompting and plain SFT.

    python bench/self_improvement.py DATA --work FOLDER --seeds 0 1 2 --json out.json

Trained on the documents of SciQ's rows 1 to 60 and HotpotQA's rows 1 to 25, without their
questions and answers; tested on SciQ's rows 61 to 100 and HotpotQA's rows 26 to 50, whose
documents are not among them. Everything that is finished stays in ``--work``, so the same
command goes on where it stopped; ``--seeds 0 --only`` makes one seed, for another process.
``--student`` and ``--teacher`` take other models (``local:PATH``), ``--device cuda`` a GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from improvement_arms import CANDIDATES, CURATION, LOOP, PRACTICE, TRAINING, Bench, slug
from provenance import provenance

from reflectory.evaluation.comparison import compare

METRICS = ("f1", "exact_match", "contains", "groundedness", "words")
ARMS = (
    "base",
    "base, cut",
    "base, two examples",
    "SFT, unfiltered samples",
    "SFT, agreeing samples",
    "rows of this project, SFT",
    "rows of this project, SFT then DPO",
    "two rounds",
)
OURS = ARMS[-3:]
"""What is compared with the others."""


def report(args: argparse.Namespace) -> dict[str, Any]:
    """Return the tables over all seeds that are finished."""

    def read(seed: int, name: str, kind: str) -> Any:
        file = args.work / f"{args.part}-{seed}" / f"{slug(name)}.{kind}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    found: dict[str, Any] = {"arms": {}, "comparisons": [], "rounds": {}}
    values: dict[tuple[str, str, str], np.ndarray[Any, Any]] = {}
    for name in ARMS:
        runs = [read(seed, name, "answers") for seed in args.seeds]
        if any(run is None for run in runs):
            continue
        table: dict[str, Any] = {}
        for part in ("sciq", "hotpotqa"):
            for metric in METRICS:
                rows = [[a[metric] for a in r["answers"] if a["set"] == part] for r in runs]
                values[name, part, metric] = np.array(rows, dtype=float)
                table[f"{part} {metric}"] = float(np.mean(rows))
        values[name, "general", "followed"] = np.array([r["general"] for r in runs])
        table["general followed"] = float(np.mean(values[name, "general", "followed"]))
        trained = [read(seed, name, "training") for seed in args.seeds]
        if all(trained):
            for fact in ("rows", "pairs", "tokens", "seconds", "words"):
                table[f"training {fact}"] = [t[fact] for t in trained]
        found["arms"][name] = table
    for name in [arm for arm in OURS if arm in found["arms"]]:
        for other in ("base", "base, cut", "base, two examples", "SFT, unfiltered samples"):
            if name == other or other not in found["arms"]:
                continue
            for part, metric in (
                ("sciq", "f1"),
                ("hotpotqa", "f1"),
                ("sciq", "contains"),
                ("hotpotqa", "contains"),
                ("general", "followed"),
            ):
                before, after = values[other, part, metric], values[name, part, metric]
                compared = compare(before, after, name=f"{part} {metric}", confidence=0.95)
                found["comparisons"].append(
                    {"arm": name, "against": other, **compared.model_dump(mode="json")}
                )
    for seed in args.seeds:
        for number in ("1", "2"):
            file = args.work / f"{args.part}-{seed}" / f"round-{number}.json"
            if file.exists():
                data = json.loads(file.read_text(encoding="utf-8"))
                data = {k: data[k] for k in ("counts", "practice", "seconds")}
                found["rounds"][f"seed {seed}, round {number}"] = data
    return found


def show(tables: dict[str, Any]) -> None:
    """Print the table and what was asked."""
    print(f"{'':36} {'SciQ F1':>8} {'EM':>6} {'has':>6} {'words':>6}", end="")
    print(f" {'Hotpot':>8} {'EM':>6} {'has':>6} {'words':>6} {'general':>8}")
    for name, table in tables["arms"].items():
        cells = [
            table[f"{part} {metric}"]
            for part in ("sciq", "hotpotqa")
            for metric in ("f1", "exact_match", "contains", "words")
        ]
        print(f"{name:36}", *(f"{c:7.3f}" for c in cells), f"{table['general followed']:8.3f}")
    for item in tables["comparisons"]:
        print(
            f"{item['arm']} against {item['against']}: {item['name']} {item['before']:.3f} -> "
            f"{item['after']:.3f}, {item['difference']:+.3f} [{item['low']:+.3f}, "
            f"{item['high']:+.3f}]"
        )


def main() -> None:
    """Run what is missing, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=("development", "reported"), default="reported")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", action="store_true", help="make the seeds, no tables")
    parser.add_argument("--tables", action="store_true", help="only tables of what is there")
    parser.add_argument("--student", default="local")
    parser.add_argument("--teacher", default="local")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.tables:
        for seed in args.seeds:
            asyncio.run(Bench(args, seed).run())
    if args.only:
        return
    tables = report(args)
    show(tables)
    if args.json:
        facts = provenance("torch", "transformers", "peft", "trl", "langgraph", device="cpu")
        settings = {
            "practice": PRACTICE,
            "candidates": CANDIDATES,
            "curation": CURATION,
            "training": TRAINING,
            "loop": LOOP,
        }
        dumped = {name: value.model_dump(mode="json") for name, value in settings.items()}
        options = {"part": args.part, "seeds": args.seeds}
        options |= {"student": args.student, "teacher": args.teacher}
        text = json.dumps(facts | options | {"settings": dumped} | tables, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
