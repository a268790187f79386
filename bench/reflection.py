"""F1 of R_0 and R_final on question files, with the default models.

    python bench/reflection.py --hotpotqa FILE --sciq FILE --rows 50 --json out.json

HotpotQA rows bring their own ten documents; the paragraphs of all SciQ rows are
one pool. No reference is seen before an answer is written. The full comparison
with baselines of the same budget is not in here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections import Counter
from pathlib import Path

import torch
import transformers

import reflectory
from reflectory import Document, LoopConfig, ReflectiveLoop
from reflectory.background import BACKGROUND
from reflectory.evaluation.metrics import aggregate, score_answer

CONFIG = LoopConfig(
    max_iterations=3,
    epsilon=0.05,
    retrieval={"passages": 4, "context_tokens": 600},
    sampling={"question_tokens": 32, "answer_tokens": 32, "response_tokens": 32},
)


def read(path: Path, rows: int) -> list[dict]:
    """Return the first rows of a JSON Lines file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:rows]]


async def run_sciq(path: Path, rows: int, concurrency: int, dtype: str) -> list[tuple]:
    """Return (answer, trajectory) pairs; every paragraph of the file is in the pool."""
    pool = [
        Document(id=f"{i:03d}", text=row["document"]) for i, row in enumerate(read(path, 10_000))
    ]
    chosen = read(path, rows)
    loop = ReflectiveLoop(pool, config=CONFIG, dtype=dtype)
    done = [t async for t in loop.amap([r["question"] for r in chosen], concurrency=concurrency)]
    by_question = {t.instruction: t for t in done}
    await loop.aclose()
    return [(r["answer"], by_question[r["question"].strip()]) for r in chosen]


async def run_hotpotqa(path: Path, rows: int, concurrency: int, dtype: str) -> list[tuple]:
    """Return (answer, trajectory) pairs; each row has documents of its own."""
    from reflectory.models.resolve import ModelPool

    pool, slots = ModelPool(dtype=dtype), asyncio.Semaphore(concurrency)
    model = pool.get("local")

    async def one(row: dict) -> tuple:
        documents = [
            Document(id=f"{i}", title=d["title"], text=d["text"])
            for i, d in enumerate(row["documents"])
        ]
        async with slots:
            loop = ReflectiveLoop(documents, teacher=model, student=model, config=CONFIG)
            return row["answer"], await loop.arun(row["question"])

    pairs = list(await asyncio.gather(*(one(row) for row in read(path, rows))))
    await pool.aclose()
    return pairs


def summary(pairs: list[tuple]) -> dict:
    """Return scores of R_0, the last and the best response by G, and how loops stopped."""
    done = [(answer, t) for answer, t in pairs if t.status == "done"]

    def scores(pick) -> dict:
        return aggregate(score_answer(pick(t), answer) for answer, t in done).to_dict()

    def best(t) -> str:
        graded = [(r.grade.score, i) for i, r in enumerate(t.responses) if r.grade is not None]
        return t.responses[max(graded)[1] if graded else -1].text

    cells = [c for _, t in done for c in t.examinations]
    return {
        "rows": len(pairs),
        "failed": len(pairs) - len(done),
        "R_0": scores(lambda t: t.responses[0].text),
        "R_last": scores(lambda t: t.responses[-1].text),
        "R_best_by_G": scores(best),
        "stopped": dict(Counter(f"{t.stop.rule} at {t.stop.iterations}" for _, t in done)),
        "flags": dict(Counter(str(f) for _, t in done for f in t.flags)),
        "failed_cells": sum(c.failure is not None for c in cells),
        "cells": len(cells),
    }


def main() -> None:
    """Run what was asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hotpotqa", type=Path)
    parser.add_argument("--sciq", type=Path)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict = {
        "reflectory": reflectory.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "config": CONFIG.model_dump(mode="json"),
    }
    for name, path, run in (
        ("hotpotqa", options.hotpotqa, run_hotpotqa),
        ("sciq", options.sciq, run_sciq),
    ):
        if path is None:
            continue
        began = time.perf_counter()
        pairs = BACKGROUND.run(run(path, options.rows, options.concurrency, options.dtype))
        found = {**summary(pairs), "seconds": round(time.perf_counter() - began, 1)}
        report[name] = found
        for which in ("R_0", "R_last", "R_best_by_G"):
            s = found[which]
            print(
                f"{name:9} {which:12} F1 {s['f1']:.3f}  EM {s['exact_match']:.3f}  "
                f"contains {s['contains']:.3f}  words {s['words']:.1f}"
            )
        print(
            {k: v for k, v in found.items() if not isinstance(v, dict) or k in {"stopped", "flags"}}
        )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
