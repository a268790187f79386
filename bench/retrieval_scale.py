"""How the vector index does with many vectors: recall, time, disk and memory.

    python bench/retrieval_scale.py --vectors 1000000 --kind clustered --json out.json
    python bench/retrieval_scale.py --file vectors.npy --queries queries.npy

``clustered`` vectors lie around subtopics of topics of very different sizes, with a
spectrum that falls off, as embeddings of texts do; ``uniform`` ones are drawn from the
whole sphere, where nothing is near anything. The queries come from the same places but
are no rows, and no query was used to tune the index. ``--file`` takes real vectors.

Recall@10 is the share of the ten rows of an exact search (a product in double precision
over all rows) that are found. Queries are timed one by one, after one that is not
counted. Peak memory is that of the whole process while the index is built from a
memory-mapped file, mapped pages that are in memory included; what is the process's own
is given beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
import psutil
from numpy.lib.format import open_memmap
from provenance import provenance
from retrieval_vectors import BLOCK, Matrix, Source, exact, recall

from reflectory.retrieval.vectors import TARGET_RECALL, VectorIndex

T = TypeVar("T")

RANKS = (10, 64)


class Peak:
    """Samples the memory of this process, while it is entered, twenty times a second."""

    def __enter__(self) -> Peak:
        self._process, self._over = psutil.Process(), threading.Event()
        self.begun = self.own = self.all = 0
        self._sample()
        self.begun = self.own
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self._sample()

    def _sample(self) -> None:
        memory = self._process.memory_info()
        # Pages of mapped files are shared; the rest is what the process needs for itself.
        own = memory.rss - getattr(memory, "shared", 0)
        self.own, self.all = max(self.own, own), max(self.all, memory.rss)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return how many seconds some work took, and what it returned."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def milliseconds(index: VectorIndex, queries: Matrix, k: int) -> dict[str, float]:
    """Return the spread of the time of one query."""
    index.search(queries[-1], k)
    times = sorted(1e3 * timed(lambda query=query: index.search(query, k))[0] for query in queries)
    return {
        "median": statistics.median(times),
        "p95": times[min(len(times) - 1, int(0.95 * len(times)))],
        "max": times[-1],
    }


def write_rows(path: Path, source: Source, count: int, dimension: int) -> None:
    """Write drawn vectors to a file, block by block."""
    rows = open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimension))
    for start in range(0, count, BLOCK):
        rows[start : start + BLOCK] = source.draw(min(BLOCK, count - start))
    rows.flush()


def measure(
    rows: Matrix, queries: Matrix, more: Matrix, options: Any, folder: Path
) -> dict[str, Any]:
    """Build, save, load, search and extend an index, and return all figures."""
    with Peak() as peak:
        built, index = timed(
            lambda: VectorIndex.build(rows, seed=options.seed, target_recall=options.target_recall)
        )
    saved, _ = timed(lambda: index.save(folder))
    del index
    loaded, index = timed(lambda: VectorIndex.load(folder))
    verified, _ = timed(lambda: VectorIndex.load(folder, verify=True))
    added, extended = timed(lambda: index.extended(more))
    report: dict[str, Any] = {
        "description": index.description.model_dump(),
        "seconds": {
            "build": built,
            "save": saved,
            "load": loaded,
            "load_verified": verified,
            "add_one_percent": added,
        },
        "bytes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        "peak_memory_of_build": {"own": peak.own - peak.begun, "with_mapped": peak.all},
    }
    true = exact(rows, queries, max(RANKS))
    for k in RANKS:
        found = index.search(queries, k)[1]
        report[f"top_{k}"] = {
            "recall": recall(found, true[:, :k]),
            "milliseconds": milliseconds(index, queries, k),
            "milliseconds_after_adding": milliseconds(extended, queries, k)["median"],
        }
    batch, _ = timed(lambda: index.search(queries, 10))
    report["milliseconds_per_query_in_a_batch"] = 1e3 * batch / len(queries)
    if options.graph:
        report["seconds"]["graph_of_10_neighbours"] = timed(lambda: index.knn_graph(10))[0]
    report["peak_memory_of_process"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return report


def about(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        **provenance("faiss-cpu", "numpy"),
        "threads": {"faiss": faiss.omp_get_max_threads(), "cores": os.cpu_count()},
        "options": {k: v for k, v in vars(options).items() if not isinstance(v, Path)},
    }


def print_report(report: dict[str, Any]) -> None:
    """Print the figures for people."""
    is_ = report["description"]
    print(
        f"{is_['kind']}: {is_['size']} x {is_['dimension']}, {is_['parameters']}\n  {is_['note']}"
    )
    for k in RANKS:
        top = report[f"top_{k}"]
        time_of = top["milliseconds"]
        print(
            f"  top {k:3}: recall {top['recall']:.4f}, {time_of['median']:.2f} ms a query "
            f"(p95 {time_of['p95']:.2f}), {top['milliseconds_after_adding']:.2f} after adding 1%"
        )
    print(f"  in a batch {report['milliseconds_per_query_in_a_batch']:.2f} ms a query")
    print("  seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in report["seconds"].items()))
    for name in ("bytes", "peak_memory_of_build"):
        print(f"  {name}: " + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in report[name].items()))


def read_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--vectors", type=int, default=1_000_000)
    add("--dimension", type=int, default=384)
    add("--kind", choices=["clustered", "uniform"], default="clustered")
    add("--number-of-queries", type=int, default=500)
    add("--target-recall", type=float, default=TARGET_RECALL)
    add("--seed", type=int, default=0)
    add("--file", type=Path, help="real unit vectors, a .npy file, instead of drawn ones")
    add("--queries", type=Path, help="real queries for --file; else rows taken out of it")
    add("--graph", action="store_true", help="the graph of 10 neighbours as well (can take long)")
    add("--scratch", type=Path, help="folder with room for twice the vectors")
    add("--json", type=Path)
    return parser.parse_args()


def real(options: argparse.Namespace, path: Path) -> tuple[Matrix, Matrix]:
    """Write the rows of ``--file`` that are no queries, and return the queries and 1%."""
    given = np.load(options.file, mmap_mode="r", allow_pickle=False)
    order = np.random.default_rng(options.seed).permutation(len(given))
    if options.queries:
        queries = np.load(options.queries, allow_pickle=False)[: options.number_of_queries]
    else:
        queries, order = (
            given[order[: options.number_of_queries]],
            order[options.number_of_queries :],
        )
    np.save(path, given[np.sort(order[: options.vectors])])
    options.kind = "file"
    return np.asarray(queries), given[order[: max(1, len(order) // 100)]]


def main() -> None:
    """Make vectors, measure, print and write the report."""
    options = read_options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        path = Path(scratch) / "vectors.npy"
        if options.file:
            queries, more = real(options, path)
        else:
            source = Source(options.kind, options.vectors, options.dimension, options.seed)
            write_rows(path, source, options.vectors, options.dimension)
            queries = source.draw(options.number_of_queries)
            more = source.draw(max(1, options.vectors // 100))
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        report = {
            **about(options),
            **measure(rows, queries, more, options, Path(scratch) / "index"),
        }
    print_report(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
