"""Does reflection help? The loop against contenders of the same budget, on two question files.

    python bench/proof.py --hotpotqa FILE --sciq FILE --part reported --runs DIR --json out.json

SciQ's paragraphs are one pool; every HotpotQA row brings its own ten documents. The rows
before the reported ones are for developing. Interrupted, the same command goes on. Two files
are worked on at the same time, each in a process of its own with half of the cores, which is
faster than all cores for one after the other; the last one goes on with all of them. In the end
the questions of both are compared as one set, beside the two by themselves. The JSON holds
figures only; answers, trajectories and pages stay in the folder of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from provenance import provenance
from rich.console import Console

from reflectory import RunConfig
from reflectory.evaluation.multiple import compare_contenders
from reflectory.evaluation.records import ContenderComparison, EvaluationReport
from reflectory.evaluator import Evaluator
from reflectory.report.evaluation_page import write_page
from reflectory.report.evaluation_table import evaluation_text

ROWS = {
    "reported": {"sciq": "61-100", "hotpotqa": "26-50"},
    "development": {"sciq": "1-60", "hotpotqa": "1-25"},
}
CONTENDERS = (
    "direct",
    "retrieve",
    "best_of_n",
    "best_of_n_apart",
    "self_consistency",
    "self_refine",
    "loop",
)
LOOP = {
    # Levels and acceptance are the defaults; T is 2 so that two cores are done in time.
    "max_iterations": 2,
    "retrieval": {"passages": 4, "context_tokens": 600},
    "sampling": {"question_tokens": 32, "answer_tokens": 32, "response_tokens": 32},
}


def config_of(file: Path, rows: str, contenders: tuple[str, ...], dtype: str) -> RunConfig:
    """Return the published configuration for one file."""
    return RunConfig.from_dict(
        {
            "dtype": dtype,
            "concurrency": 32,
            "loop": LOOP,
            "evaluation": {"sets": [str(file)], "rows": rows, "contenders": list(contenders)},
        }
    )


def figures(report: EvaluationReport, seconds: float) -> dict[str, Any]:
    """Return every number of a report and no text of a question or an answer."""
    data = report.model_dump(mode="json", exclude={"config", "environment"})
    for rows in data["tables"].values():
        for row in rows:
            row["answers"] = [
                {name: answer[name] for name in ("calls", "tokens", "values")}
                for answer in row["answers"]
            ]
    if data["judge"]:
        data["judge"].pop("cases", None)
    return {**data, "minutes": round(seconds / 60, 1)}


def main() -> None:
    """Run what was asked for, print the tables, write figures and pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hotpotqa", type=Path)
    parser.add_argument("--sciq", type=Path)
    parser.add_argument("--part", choices=sorted(ROWS), default="development")
    parser.add_argument("--rows", help="instead of the part's, such as 1-3")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = {name: file for name in ("sciq", "hotpotqa") if (file := getattr(options, name))}
    if len(files) > 1:
        together(files, options)
        return
    console = Console()
    found: dict[str, Any] = {**provenance(), "part": options.part, "loop": LOOP}
    for name, file in files.items():
        names = tuple(options.contenders.split(","))
        config = config_of(file, options.rows or ROWS[options.part][name], names, options.dtype)
        began = time.perf_counter()
        report = Evaluator(config).run(options.runs / name)
        seconds = time.perf_counter() - began
        console.print(evaluation_text(report))
        write_page(report, options.runs / name / "report.html")
        found[name] = figures(report, seconds)
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def together(files: dict[str, Path], options: argparse.Namespace) -> None:
    """Give each file a process with its share of the cores, and join what they found.

    The last one gets all cores: it is ended and goes on where it was.
    """
    options.runs.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    began = time.perf_counter()
    minutes: dict[str, float] = {}
    running = {name: start(name, files, options, max(1, cores // len(files))) for name in files}
    while running:
        time.sleep(1)
        for name, process in [*running.items()]:
            if (code := process.poll()) is None:
                continue
            if code:
                for other in running.values():
                    other.terminate()
                sys.exit(code)
            minutes[name] = round((time.perf_counter() - began) / 60, 1)
            del running[name]
            if len(running) == 1 and cores > 1:
                (last,) = running
                running[last].terminate()
                if running[last].wait():  # it may just have ended by itself
                    running[last] = start(last, files, options, cores)
            break
    found: dict[str, Any] = {}
    for name in files:
        found |= json.loads((options.runs / f"{name}.json").read_text(encoding="utf-8"))
        found[name]["minutes"] = minutes[name]
    found["pooled"] = [c.model_dump(mode="json") for c in pooled(options.runs, tuple(files))]
    found["minutes"] = max(minutes.values())
    used = os.times()
    found["processor_minutes"] = round((used.children_user + used.children_system) / 60, 1)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def start(
    name: str, files: dict[str, Path], options: argparse.Namespace, threads: int
) -> subprocess.Popen[bytes]:
    """Start the process for one file, or start it again."""
    command = [sys.executable, __file__, f"--{name}", str(files[name]), "--part", options.part]
    command += ["--contenders", options.contenders, "--runs", str(options.runs)]
    command += ["--dtype", options.dtype, "--json", str(options.runs / f"{name}.json")]
    command += ["--rows", options.rows] if options.rows else []
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)})


def pooled(runs: Path, names: tuple[str, ...]) -> list[ContenderComparison]:
    """Compare the loop with every contender over the questions of several sets, and print it."""
    reports = [
        EvaluationReport.model_validate_json((runs / name / "evaluation.json").read_text("utf-8"))
        for name in names
    ]
    first, *rest = reports
    found: list[ContenderComparison] = []
    for kind, rows in first.tables.items():
        joined = {row.contender: row for row in rows}
        for report in rest:
            for row in report.tables[kind]:
                had = joined[row.contender]
                answers = (*had.answers, *row.answers)
                joined[row.contender] = had.model_copy(update={"answers": answers})
        loop = joined.pop("loop")
        others = list(joined.values())
        found += compare_contenders(loop, others, ("f1", "exact_match"), kind)
    console = Console()
    console.print(f"\nThe loop against the others over {' and '.join(names)}")
    for one in found:
        console.print(
            f"  same {one.budget}, {one.contender}: {one.result}, corrected p {one.adjusted:.2g}"
        )
    return found


if __name__ == "__main__":
    main()
