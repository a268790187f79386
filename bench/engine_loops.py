"""Whole reflective loops in the engine's bench, each contender in a process of its own."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from engine_calls import fill, make_text
from engine_contenders import load_peer, peak_memory, peer_dtype

from reflectory import Document, LoopConfig, ReflectiveLoop
from reflectory.agents import PromptSet
from reflectory.agents.graders import likelihood
from reflectory.background import BACKGROUND
from reflectory.models.defaults import ensure_language_model
from reflectory.models.device import choose_device
from reflectory.models.engine.rendering import render
from reflectory.models.local import LocalModel, RoleStatistics
from reflectory.models.protocol import (
    Capability,
    Completion,
    Request,
    SamplingParameters,
    ScoreRequest,
    Scores,
    Segment,
    TokenScores,
    Usage,
)
from reflectory.models.torch_thread import in_torch_thread, run_in_torch_thread


class SequentialModel:
    """The baseline of whole loops: one call at a time by transformers, no cache of prefixes."""

    context_window = None
    capabilities = frozenset({Capability.SCORE, Capability.PREFILL, Capability.SEED})

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        self._model = load_peer(folder, dtype, device)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._ends = {self._tokenizer.eos_token_id}
        self._statistics = RoleStatistics()
        self.fingerprint = f"{folder.name}@sequential/{str(dtype).removeprefix('torch.')}"

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt, after all calls that came before."""
        return await in_torch_thread(lambda: self._complete(request))

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the likelihoods, by one pass over everything per continuation."""
        return await in_torch_thread(lambda: self._score(request))

    def count_tokens(self, text: str) -> int:
        """Return how many tokens ``text`` has."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def stats(self) -> dict[str, RoleStatistics]:
        """Return what was written, all roles together."""
        return {"all": self._statistics}

    async def aclose(self) -> None:
        """Do nothing: the process ends soon."""

    @torch.inference_mode()
    def _complete(self, request: Request) -> Completion:
        sampling = request.sampling
        prompt = render(self._tokenizer, request.segments, request.prefill).token_ids
        begin = len(prompt)

        def stopped(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
            text = self._tokenizer.decode(ids[0, begin:])
            return torch.tensor([any(s in text for s in sampling.stop)], device=ids.device)

        draws = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        # As in the engine: what the prompt says may be said again.
        penalty = transformers.RepetitionPenaltyLogitsProcessor(
            sampling.repetition_penalty, prompt_ignore_length=begin
        )
        torch.manual_seed(request.seed)
        ids = torch.tensor([prompt], device=self._model.device)
        written = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sampling.max_tokens,
            pad_token_id=0,
            do_sample=sampling.temperature > 0,
            logits_processor=transformers.LogitsProcessorList([penalty]),
            stopping_criteria=transformers.StoppingCriteriaList([stopped]),
            **(draws if sampling.temperature > 0 else {}),
        )[0, begin:].tolist()
        if written and written[-1] in self._ends:
            written.pop()
        return self._completion(request, begin, written)

    def _completion(self, request: Request, prompt: int, written: Sequence[int]) -> Completion:
        text = self._tokenizer.decode(written, skip_special_tokens=True)
        cuts = [text.find(stop) for stop in request.sampling.stop if stop in text]
        old = self._statistics
        self._statistics = RoleStatistics(
            calls=old.calls + 1, completion_tokens=old.completion_tokens + len(written)
        )
        usage = Usage(prompt_tokens=prompt, completion_tokens=len(written))
        finish = "length" if len(written) == request.sampling.max_tokens else "stop"
        cut = min(cuts, default=len(text))
        return Completion(text=request.prefill + text[:cut], finish=finish, usage=usage)

    @torch.inference_mode()
    def _score(self, request: ScoreRequest) -> Scores:
        prompt = render(self._tokenizer, request.segments, close_thinking=True).token_ids
        found = []
        for text in request.continuations:
            targets = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*prompt, *targets[:-1]]], device=self._model.device)
            logits = self._model(input_ids=ids, logits_to_keep=len(targets)).logits[0].float()
            index = torch.tensor(targets, device=logits.device)[:, None]
            logprobs = logits.log_softmax(-1).gather(1, index)[:, 0]
            found.append(TokenScores(logprobs=tuple(logprobs.tolist())))
        return Scores(continuations=tuple(found))


def run_loops(model: Any, count: int, seed: str) -> dict[str, Any]:
    """Run some loops at once over generated documents and return what they took."""
    draw = random.Random(seed)
    texts = [make_text(model.count_tokens, draw, 300) for _ in range(6)]
    documents = [Document(id=f"{i}", title=f"Report {i}", text=t) for i, t in enumerate(texts)]
    wish = "Explain what is known about the {what} of {where} and the {who} in {year}."
    instructions = [fill(wish, draw) for _ in range(count)]
    # No rule stops a loop, so all of them have the same number of steps.
    config = LoopConfig(max_iterations=2, epsilon=1e-12, seed=0)
    # One calibration for all: a model that no package knows would be calibrated first.
    found = sorted((Path(likelihood.__file__).parent / "calibrations").glob("*.json"))
    calibration = likelihood.Calibration.load(found[0])
    grader = likelihood.LikelihoodGrader(model, PromptSet.for_loop(config), calibration)
    loop = ReflectiveLoop(documents, teacher=model, student=model, config=config, grader=grader)
    parts = BACKGROUND.run(loop.aopen())
    BACKGROUND.run(parts.embedder.embed(["It is loaded with its first text."]))
    before = written(model)
    began = time.perf_counter()
    done = list(loop.map(instructions, concurrency=count))
    seconds = time.perf_counter() - began
    loop.close()
    return {
        "loops": count,
        "tokens": written(model) - before,
        "seconds": seconds,
        "tokens_per_second": (written(model) - before) / seconds,
        "failed": sum(t.status != "done" for t in done),
        "iterations": [t.stop.iterations for t in done if t.stop is not None],
        "peak_bytes": peak_memory(),
    }


def written(model: Any) -> int:
    """Return the tokens that a model wrote until now, for all roles."""
    return sum(role.completion_tokens for role in model.stats().values())


def child(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one contender of the whole loops; this process does nothing else."""
    folder, dtype = ensure_language_model().path, spec["dtype"]
    device = choose_device(spec["device"])
    if spec["contender"] == "sequential":
        model: Any = SequentialModel(folder, peer_dtype(dtype, device), device)
    else:
        load = partial(LocalModel.load, folder, device=spec["device"], dtype=dtype)
        model = run_in_torch_thread(load)
    hello = Request(
        segments=(Segment(text="Say hello."),),
        role="bench.warm",
        sampling=SamplingParameters(max_tokens=4),
    )
    BACKGROUND.run(model.complete(hello))
    one = run_loops(model, 1, f"one {spec['seed']}")
    return {
        "contender": f"{spec['contender']} {dtype}",
        "fingerprint": model.fingerprint,
        "one": one,
        "many": run_loops(model, spec["loops"], f"many {spec['seed']}"),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure_loops(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run whole loops, each time in a new process, and return a row per contender."""
    asked = [("sequential", options.peer_dtype, options.baseline_loops)]
    asked += [("engine", dtype, options.many_loops) for dtype in options.dtypes]
    found: dict[str, list[dict[str, Any]]] = {}
    for repeat in range(options.repeats):
        for name, dtype, loops in asked:
            if name not in options.contenders:
                continue
            spec = {"contender": name, "dtype": dtype, "loops": loops, "seed": repeat}
            spec["device"] = options.device
            command = [sys.executable, sys.argv[0], "--child", json.dumps(spec)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            result = json.loads(said.splitlines()[-1])
            found.setdefault(result["contender"], []).append(result)
    return [loop_row(name, runs, options.many_loops) for name, runs in found.items()]


def loop_row(name: str, runs: Sequence[dict[str, Any]], many: int) -> dict[str, Any]:
    """Return medians of the runs; fewer loops one after the other stand for all of them."""
    row: dict[str, Any] = {"contender": name, "runs": list(runs), "many_loops": many}
    for size in ("one", "many"):
        parts = [run[size] for run in runs]
        scale = 1.0 if size == "one" else many / parts[0]["loops"]
        row[size] = {
            "tokens_per_second": spread([part["tokens_per_second"] for part in parts]),
            "seconds": spread([part["seconds"] * scale for part in parts]),
            "peak_bytes": spread([part["peak_bytes"] for part in parts]),
            "extrapolated": scale != 1.0,
        }
    return row


def print_loops(rows: Sequence[dict[str, Any]]) -> None:
    """Print whole loops."""
    print(f"\n{'whole loops':24} {'':10} tokens/s {'min':>8} {'max':>8}  seconds  peak MB")
    for row in rows:
        for size, label in (("one", "1 loop"), ("many", f"{row['many_loops']} loops")):
            part = row[size]
            rate, about = part["tokens_per_second"], "~" if part["extrapolated"] else " "
            print(
                f"{row['contender']:24} {label:10} {rate['median']:8.1f} {rate['min']:8.1f} "
                f"{rate['max']:8.1f} {about}{part['seconds']['median']:7.1f} "
                f"{part['peak_bytes']['median'] / 1e6:8.0f}"
            )
