"""Does reflection help? The loop against contenders of the same budget, on two question files.

    python bench/proof.py --hotpotqa FILE --sciq FILE --part reported --runs DIR --json out.json

SciQ's paragraphs are one pool; every HotpotQA row brings its own ten documents. The rows
before the reported ones are for developing. Interrupted, the same command goes on. The JSON
holds figures only; answers, trajectories and pages stay in the folder of the runs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from provenance import provenance
from rich.console import Console

from reflectory import RunConfig
from reflectory.evaluation.records import EvaluationReport
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
    "best_of_n_condensed",
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
            "concurrency": 16,
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
    console = Console()
    found: dict[str, Any] = {**provenance(), "part": options.part, "loop": LOOP}
    for name in ("sciq", "hotpotqa"):
        file = getattr(options, name)
        if file is None:
            continue
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


if __name__ == "__main__":
    main()
