"""Who takes part in the engine's bench, each behind the same door."""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from engine_calls import NEW_TOKENS, Call, tree_of
from llama_server import LlamaServer

from reflectory.background import BACKGROUND
from reflectory.models.device import has_native_bfloat16
from reflectory.models.local import LocalModel
from reflectory.models.protocol import (
    Completion,
)
from reflectory.models.torch_thread import run_in_torch_thread

PRODUCT = 2048
"""Rows and columns of the measured matrix product."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
"""Of one weight, by number format."""


@dataclass(frozen=True)
class Timing:
    """One measurement.

    Attributes:
        tokens: Tokens written.
        seconds: From the first call to the last answer.
        prefilled: Prompt tokens that were computed, padding included.
        calls: Calls that were made; fewer than the concurrency in a sample.
        details: What else is known.
    """

    tokens: int
    seconds: float
    prefilled: int
    calls: int
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class Contender:
    """Something that answers calls.

    Attributes:
        name: What the table calls it.
    """

    name: str

    def open(self, concurrency: int, longest: int) -> None:
        """Get ready for so many calls of at most ``longest`` prompt tokens."""

    def measure(self, calls: Sequence[Call]) -> Timing:
        """Answer all calls at once, or a sample of them one by one."""
        raise NotImplementedError

    def close(self) -> dict[str, Any]:
        """Give back what :meth:`open` took and return what is known of it."""
        return {}

    def end(self) -> None:
        """Give back everything."""


class Peer(Contender):
    """The model as transformers has it: calls one after the other, or as one padded batch.

    Args:
        model: The model, shared by the two contenders.
        sample: Calls that are really made, one after the other; 0 is one batch of all.
    """

    def __init__(self, model: Any, sample: int) -> None:
        self.name = "sequential" if sample else "batch"
        self._model, self._sample = model, sample

    def measure(self, calls: Sequence[Call]) -> Timing:
        """Answer the calls, or a sample of them."""
        prompts = [call.tokens for call in calls]
        batches = [[prompt] for prompt in prompts[: self._sample]] or [prompts]
        began = time.perf_counter()
        tokens = sum(run_in_torch_thread(partial(self._generate, b)) for b in batches)
        seconds = time.perf_counter() - began
        done = sum(map(len, batches))
        prefilled = sum(len(batch) * max(map(len, batch)) for batch in batches)
        details = {"extrapolated_seconds": seconds * len(calls) / done} if done < len(calls) else {}
        return Timing(tokens, seconds, prefilled * len(calls) // done, done, details)

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[tuple[int, ...]]) -> int:
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        written = self._model.generate(
            input_ids=ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            do_sample=False,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=0,
        ).tolist()
        return sum(len(row) - width for row in written)


class Engine(Contender):
    """This project's engine."""

    def __init__(self, folder: Path, dtype: str, device: str, max_batch: int) -> None:
        self.name = f"engine {dtype}"
        self._model: Any = run_in_torch_thread(
            partial(LocalModel.load, folder, device=device, dtype=dtype, max_batch=max_batch)
        )

    @property
    def number_format(self) -> str:
        """What ``auto`` became, as the fingerprint says it."""
        return str(self._model.fingerprint).rpartition("/")[2]

    def measure(self, calls: Sequence[Call]) -> Timing:
        """Answer all calls at once."""

        async def together() -> list[Completion]:
            return await asyncio.gather(*(self._model.complete(call.request) for call in calls))

        before = self._computed()
        began = time.perf_counter()
        answers = BACKGROUND.run(together())
        seconds = time.perf_counter() - began
        tokens = sum(answer.usage.completion_tokens for answer in answers)
        ended = sum(answer.finish != "length" for answer in answers)
        computed = self._computed() - before
        return Timing(tokens, seconds, computed, len(calls), {"ended_early": ended})

    def end(self) -> None:
        """Close the model."""
        BACKGROUND.run(self._model.aclose())

    def _computed(self) -> int:
        roles = self._model.stats().values()
        return sum(role.prompt_tokens - role.reused_tokens for role in roles)


class Llama(Contender):
    """llama.cpp's server with one file of weights, started anew for each concurrency."""

    def __init__(self, folder: Path, weights: Path, arguments: Sequence[str] = ()) -> None:
        self.name = f"llama.cpp {weights.stem}"
        self._folder, self._weights, self._arguments = folder, weights, arguments
        self._server: LlamaServer | None = None

    def open(self, concurrency: int, longest: int) -> None:
        """Start the server."""
        self._server = LlamaServer(
            self._folder,
            self._weights,
            slots=concurrency,
            slot_tokens=longest + NEW_TOKENS,
            threads=torch.get_num_threads(),
            arguments=self._arguments,
        )

    def measure(self, calls: Sequence[Call]) -> Timing:
        """Answer all calls at once."""
        assert self._server is not None
        began = time.perf_counter()
        answers = self._server.complete([call.tokens for call in calls], NEW_TOKENS)
        seconds = time.perf_counter() - began
        tokens = sum(answer["tokens_predicted"] for answer in answers)
        prefilled = sum(answer["timings"]["prompt_n"] for answer in answers)
        return Timing(tokens, seconds, prefilled, len(calls))

    def close(self) -> dict[str, Any]:
        """Stop the server and return what it took."""
        if self._server is None:  # another contender failed before this one was opened
            return {}
        peak = peak_memory(str(self._server.pid))
        arguments = self._server.arguments
        self._server.close()
        self._server = None
        return {"peak_bytes": peak, "arguments": arguments}


class Limit(Contender):
    """What this machine can do at most for the model in a number format."""

    def __init__(self, folder: Path, device: torch.device, number_format: str) -> None:
        self.name = f"limit {number_format}"
        config = transformers.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        head = model.get_output_embeddings().weight
        table = model.get_input_embeddings().weight
        counted = sum(p.numel() for p in model.parameters())
        # A table that is not the head as well is looked up and never multiplied.
        self._parameters = counted - (0 if head is table else table.numel())
        self._body = self._parameters - head.numel()
        text = config.get_text_config()
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self._pair = 4 * text.num_hidden_layers * text.num_attention_heads * size
        self._bytes = self._parameters * BYTES[number_format]
        self._format, self._device = number_format, device

    def measure(self, calls: Sequence[Call]) -> Timing:
        """Measure the machine, and return the least time for these calls."""
        rate, bandwidth = run_in_torch_thread(lambda: (self._product(), self._bandwidth()))
        nodes, pairs = tree_of(call.tokens for call in calls)
        reading = (2 * self._body * nodes + self._pair * pairs) / rate
        step = max(self._bytes / bandwidth, 2 * self._parameters * len(calls) / rate)
        details = {"operations_per_second": rate, "bytes_per_second": bandwidth}
        tokens = NEW_TOKENS * len(calls)
        return Timing(tokens, reading + NEW_TOKENS * step, nodes, len(calls), details)

    def _product(self) -> float:
        if self._format == "int8":
            return 2 * PRODUCT**3 / _median_seconds(_int8_product())
        matrix = torch.randn(PRODUCT, PRODUCT, device=self._device)
        matrix = matrix.to(getattr(torch, self._format))
        return 2 * PRODUCT**3 / _median_seconds(lambda: matrix @ matrix)

    def _bandwidth(self) -> float:
        # As large as the weights, because a large cache can hold a part of them.
        rows = torch.ones(self._bytes // 4096, 1024, device=self._device)
        vector = torch.ones(1024, device=self._device)
        return rows.numel() * 4 / _median_seconds(lambda: rows @ vector)


@torch.inference_mode()
def _median_seconds(run: Callable[[], torch.Tensor]) -> float:
    run()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        run().view(-1)[0].item()  # Reading a number waits for an accelerator.
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _int8_product() -> Callable[[], torch.Tensor]:
    weights = torch.randint(-127, 128, (PRODUCT, PRODUCT), dtype=torch.int8)
    # Unsigned around 128: oneDNN has a slow reference code only for signed ones without AMX.
    inputs = torch.randint(0, 256, (PRODUCT, PRODUCT), dtype=torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(weights, [PRODUCT, PRODUCT])
    scales, zeros = torch.ones(PRODUCT), torch.zeros(PRODUCT, dtype=torch.int64)
    output = (None, 1.0, 0, torch.float32, "none", [], "")
    call = torch.ops.onednn.qlinear_pointwise
    return lambda: call(inputs, 1.0, 128, packed, scales, zeros, *output)


def load_peer(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the transformers model as it is."""
    load = partial(transformers.AutoModelForCausalLM.from_pretrained, folder, dtype=dtype)
    return run_in_torch_thread(lambda: load().to(device).eval())


def peer_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number format of the peers; ``auto`` is bfloat16 where that is native."""
    if name == "auto":
        name = "bfloat16" if has_native_bfloat16(device) else "float32"
    return getattr(torch, name)


def peak_memory(process: str = "self") -> int:
    """Return the most bytes that a process ever held.

    Linux hands the peak of ``getrusage`` down to child processes, so there it is
    read from where every program has its own.
    """
    status = Path("/proc") / process / "status"
    if status.is_file():
        lines = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
        held = (int(words[1]) * 1024 for words in lines if words[0] == "VmHWM:")
        return next(held, 0)  # A process that has ended holds nothing.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
