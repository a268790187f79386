"""Tokens per second of the local engine, beside its peers and the machine's limit.

    python bench/engine.py --json out.json
    python bench/engine.py --llama-bin FOLDER --gguf Q4_1.gguf,f16.gguf --loops

A concurrency of c is c calls at once: c / 4 loops, each with about 600 tokens of
documents of its own, and the four levels' tasks behind them. Every call writes 48
tokens, greedily. A figure is tokens written by seconds from the first call to the
last answer, reading the prompts included. Documents are new in every repeat, so no
cache of an earlier one helps, and the same for all contenders of a repeat, which
take turns. ``--loops`` adds whole reflective loops, each contender in a process of
its own, so that its peak of memory is its own.

The limit is a lower bound of the time: each token of the tree of prompts read once
at the speed of a measured matrix product, then 48 steps that each read all weights
at the measured bandwidth, or multiply, whichever is longer. Keys and values that a
step reads are left out of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from engine_calls import DOCUMENT_TOKENS, NEW_TOKENS, endless, make_calls, tree_of
from engine_contenders import Contender, Engine, Limit, Llama, Peer, Timing, load_peer, peer_dtype
from engine_loops import child, measure_loops, print_loops, spread
from provenance import provenance

from reflectory.models.defaults import ensure_language_model
from reflectory.models.device import choose_device


def make_contenders(options: argparse.Namespace, folder: Path, scratch: Path) -> list[Contender]:
    """Return what was asked for, and the limits of the engine's number formats."""
    device, wanted = choose_device(options.device), options.contenders
    contenders: list[Contender] = []
    if not options.concurrency:
        return contenders
    if {"sequential", "batch"} & set(wanted):
        model = load_peer(folder, peer_dtype(options.peer_dtype, device), device)
        peers = {"sequential": max(options.sequential_calls, 1), "batch": 0}
        contenders += [Peer(model, peers[name]) for name in wanted if name in peers]
    formats = {}  # not a set: in the order of the options
    if "engine" in wanted:
        never_ending = endless(folder, scratch)
        for dtype in options.dtypes:
            engine = Engine(never_ending, dtype, options.device, max(options.concurrency))
            contenders.append(engine)
            formats[engine.number_format.removesuffix("-loops")] = None
    if "llama" in wanted and options.llama_bin is not None:
        more = options.llama_arguments
        contenders += [Llama(options.llama_bin, file, more) for file in options.gguf]
    return contenders + [Limit(folder, device, name) for name in formats]


def measure_calls(
    contenders: Sequence[Contender], tokenizer: Any, concurrency: int, repeats: int
) -> list[dict[str, Any]]:
    """Let all contenders take turns at one concurrency and return a row for each."""
    sets = [make_calls(tokenizer, concurrency, f"{concurrency} {i}") for i in range(repeats)]
    warm = make_calls(tokenizer, 1, f"warm {concurrency}", tokens=40)
    longest = max(len(call.tokens) for calls in sets for call in calls)
    timings: dict[str, list[Timing]] = {contender.name: [] for contender in contenders}
    closing: dict[str, dict[str, Any]] = {}
    try:
        for contender in contenders:
            contender.open(concurrency, longest)
            contender.measure(warm)
        for calls in sets:
            for contender in contenders:
                timings[contender.name].append(contender.measure(calls))
    finally:
        for contender in contenders:
            closing[contender.name] = contender.close()
    nodes = [tree_of(call.tokens for call in calls)[0] for calls in sets]
    rows = [
        {"concurrency": concurrency, **summary(name, found, nodes), **closing[name]}
        for name, found in timings.items()
    ]
    limits = {row["contender"]: row["tokens_per_second"]["median"] for row in rows}
    for contender, row in zip(contenders, rows, strict=True):
        if isinstance(contender, Engine):
            row["number_format"] = contender.number_format
            # Compiled loops lie between the products, whose format is what limits.
            limit = limits[f"limit {contender.number_format.removesuffix('-loops')}"]
            row["share_of_limit"] = row["tokens_per_second"]["median"] / limit
    return rows


def summary(name: str, timings: Sequence[Timing], nodes: Sequence[int]) -> dict[str, Any]:
    """Return what the report says of one contender at one concurrency."""
    ratios = [t.prefilled / n for t, n in zip(timings, nodes, strict=True)]
    return {
        "contender": name,
        "tokens_per_second": spread([timing.rate for timing in timings]),
        "prefilled_per_tree_node": statistics.median(ratios),
        "tree_nodes": list(nodes),
        "timings": [asdict(timing) for timing in timings],
    }


def print_calls(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of one concurrency."""
    nodes = statistics.median(rows[0]["tree_nodes"])
    print(f"\n{rows[0]['concurrency']} at once, {nodes:.0f} tokens in the tree of prompts")
    print(f"{'':40} tokens/s {'min':>8} {'max':>8} prefilled/tree  of limit")
    for row in rows:
        rate = row["tokens_per_second"]
        share = f"{row['share_of_limit']:.0%}" if "share_of_limit" in row else ""
        print(
            f"{row['contender']:40} {rate['median']:8.1f} {rate['min']:8.1f} {rate['max']:8.1f} "
            f"{row['prefilled_per_tree_node']:14.2f} {share:>9}",
            flush=True,
        )


def about(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Return what the figures depend on."""
    loops = ["numba"] if importlib.util.find_spec("numba") else []  # used where it is there
    return {
        **provenance("torch", "transformers", *loops, device=options.device),
        "threads": torch.get_num_threads(),
        "model": model.model_dump(mode="json", exclude={"path", "files"}),
        "new_tokens": NEW_TOKENS,
        "document_tokens": DOCUMENT_TOKENS,
        "options": {
            k: v for k, v in vars(options).items() if k != "gguf" and isinstance(v, int | list)
        },
    }


def read_options() -> argparse.Namespace:
    """Return the command line's options."""

    def names(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    def numbers(text: str) -> list[int]:
        return [int(part) for part in names(text)]

    def paths(text: str) -> list[Path]:
        return [Path(part) for part in names(text)]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--concurrency", type=numbers, default=[1, 4, 8, 32, 64], help="'' for whole loops only")
    add("--repeats", type=int, default=3)
    add("--contenders", type=names, default=["sequential", "batch", "engine", "llama"])
    add("--dtypes", type=names, default=["auto", "float32"], help="of the engine, one row each")
    add(
        "--peer-dtype", default="auto", help="of transformers; auto is a native bfloat16 or float32"
    )
    add("--device", default="auto")
    add("--sequential-calls", type=int, default=4, help="really made; the rest is extrapolated")
    add("--llama-bin", type=Path, help="folder with llama-server; without it llama is left out")
    add("--gguf", type=paths, default=[], help="files of weights for llama-server")
    add("--llama-arguments", type=str.split, default=[], help="more for it, e.g. ' --no-repack'")
    add("--loops", action="store_true", help="whole loops as well")
    add("--many-loops", type=int, default=16)
    add("--baseline-loops", type=int, default=2, help="really run one by one, for --many-loops")
    add("--json", type=Path)
    add("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run what was asked for, print tables and write the report."""
    options = read_options()
    if options.child is not None:
        print(json.dumps(child(options.child)))
        return
    # A terminated process would leave its servers behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    model = ensure_language_model()
    report: dict[str, Any] = {**about(options, model), "calls": [], "loops": []}

    def keep() -> None:
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as scratch:
        contenders = make_contenders(options, model.path, Path(scratch))
        tokenizer = transformers.AutoTokenizer.from_pretrained(model.path)
        for concurrency in options.concurrency:
            rows = measure_calls(contenders, tokenizer, concurrency, options.repeats)
            print_calls(rows)
            report["calls"] += rows
            keep()  # Hours can lie behind it.
        for contender in contenders:
            contender.end()
    if options.loops:
        report["loops"] = measure_loops(options)
        print_loops(report["loops"])
        keep()


if __name__ == "__main__":
    main()
