"""Compiled loops against the torch operations that they stand for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine import fused
from reflectory.models.engine.batch import Batch
from reflectory.models.engine.layout import Piece
from reflectory.models.engine.llama import LlamaNetwork, llama_network
from reflectory.models.engine.passes import Pass
from reflectory.models.engine.quantized import QuantizedParts, QuantizedProduct
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import PrefixTree
from reflectory.models.engine.trial import network_for
from reflectory.models.engine.work import CompletionRow, Counts, Job
from reflectory.models.protocol import SamplingParameters
from reflectory.testing.tiny import tiny_model

kernels: Any = fused.load_kernels()
compiled = pytest.mark.skipif(kernels is None, reason="numba is not installed")


def drawn(seed: int, *size: int) -> torch.Tensor:
    """Return rows of very different sizes."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=rng) * 4 ** torch.randn(size[0], 1, generator=rng)


def identity(size: int, **options: Any) -> QuantizedProduct:
    """Return a product whose sums are its digits, so that they can be compared."""
    return QuantizedProduct(torch.eye(size), **options)


@compiled
@pytest.mark.parametrize("threads", [1, 2])
@given(rows=st.integers(1, 40), width=st.sampled_from([8, 24, 67]), parts=st.integers(0, 2))
@settings(max_examples=6, deadline=None)
def test_adding_and_rounding(threads: int, rows: int, width: int, parts: int) -> None:
    x, bias = drawn(0, rows, width), drawn(1, 1, width)[0]
    y, scales = drawn(2, max(parts, 1) * rows, width), drawn(3, rows, 1).abs()
    x[0] = y[0] = y[-1] = bias[:] = 0  # A row of zeros has no scale of its own.
    wanted = x.clone()
    if parts:
        sums = y if parts == 1 else y[:rows] + y[rows:] * 0.5 / 127
        wanted += sums * scales + bias
    for epsilon in (None, 1e-5):
        given_x, out, found = x.clone(), torch.empty(rows, width, dtype=torch.uint8), scales.clone()
        product = identity(width, epsilon=epsilon)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            kernels.absorb(given_x, y if parts else None, found, bias, out, found, product.epsilon)
        finally:
            torch.set_num_threads(before)
        assert torch.allclose(given_x, wanted, rtol=1e-5, atol=1e-5)
        assert torch.allclose(
            product.multiply(out) * found, product(given_x.clone()), rtol=1e-4, atol=1e-4
        ), "the digits and scales are those of the product itself"


@compiled
@given(rows=st.integers(1, 20), width=st.sampled_from([8, 40, 65]))
@settings(max_examples=6, deadline=None)
def test_gating_in_two_digits(rows: int, width: int) -> None:
    both, bias = drawn(0, rows, 2 * width), drawn(1, 1, 2 * width)[0]
    scales = drawn(2, rows, 1).abs()
    full = both * scales + bias
    wanted = torch.nn.functional.silu(full[:, :width]) * full[:, width:]
    out, found = torch.empty(2 * rows, width, dtype=torch.uint8), torch.empty(rows, 1)
    kernels.gate(both, scales, bias, out, found)
    assert torch.allclose(both[:, :width], wanted, rtol=1e-4, atol=1e-5)
    assert torch.allclose(found[:, 0], wanted.abs().amax(-1), rtol=1e-4)
    first, second = (out.float() - 128).chunk(2)
    again = (first + second * 0.5 / 127) * found / 127
    # Two digits leave a hundredth of what one leaves.
    assert bool(((again - wanted).abs() <= found * 1e-4).all())


@compiled
def test_turning_is_that_of_the_plain_network() -> None:
    network = llama_network(tiny_model(0)[0])
    shape, count = network.shape, 18
    every = shape.heads + 2 * shape.kv_heads
    y, bias = drawn(0, count * every, shape.width), drawn(1, every, shape.width)
    y = y.view(count, every, shape.width)
    scales = drawn(2, count, 1).abs()
    cosine, sine = network.angles(torch.zeros(count, 8), torch.arange(count) * 7)
    wanted = network._rotated(network.layers[0], y * scales[:, None] + bias, cosine, sine)
    query = torch.empty(count, shape.heads, shape.width)
    kv = torch.empty(count, 2, shape.kv_heads, shape.width)
    kernels.turn(y, scales, bias.view(-1), cosine, sine, query, kv)
    assert torch.allclose(query, wanted[0], rtol=1e-4, atol=1e-4)
    assert torch.allclose(kv, wanted[1], rtol=1e-4, atol=1e-4)


def written(network: LlamaNetwork) -> tuple[list[list[int]], Counts]:
    """Return what three rows write greedily, two of them behind the same tokens."""
    counts = Counts()
    batch = Batch(network, PrefixTree(limit_bytes=2**30), [], None, counts)
    shared = list(range(20, 160))
    prompts = [(*shared, 7, 8, 9), (*shared, 11, 12), (30, 31, 32, 33)]
    rows = [
        CompletionRow(
            job=Job(None),  # type: ignore[arg-type]
            tokens=prompt,
            prefix_length=0,
            room=6,
            sampling=SamplingParameters(max_tokens=6),
        )
        for prompt in prompts
    ]
    with torch.inference_mode():
        batch.start(rows)
        while any(not row.finish for row in rows):
            batch.step()
            batch.sweep()
    return [row.generated for row in rows], counts


@compiled
def test_the_network_of_compiled_loops_is_the_plain_one() -> None:
    plain = llama_network(tiny_model(0)[0], QuantizedParts(tiny_model(0)[0]))
    fast = fused.compiled(plain)
    assert fast is not None
    ids = list(range(10, 70))
    with torch.inference_mode():
        for size in (1, 5, 60):
            (wanted,), (found,) = (
                Pass(network, RowStore(network.shape)).run(
                    (), (), [Piece(ids[:size], 0, None, keep=True)]
                )[1]
                for network in (plain, fast)
            )
            assert float((found - wanted).abs().mean()) < 0.01 * float(wanted.std())
    assert written(fast)[0] == written(plain)[0]


@compiled
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_what_others_set_in_the_process_changes_nothing(
    default: torch.dtype,
) -> None:
    """transformers changes the default format while it loads a model in another thread."""
    plain = llama_network(tiny_model(0)[0], QuantizedParts(tiny_model(0)[0]))
    fast = fused.compiled(plain)
    assert fast is not None
    wanted = written(plain)[0]
    torch.set_default_dtype(default)
    try:
        found = written(fast)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == wanted


@compiled
def test_layers_of_other_sizes_stay_plain() -> None:
    """Addresses go to the kernels, so a size that does not fit must be seen before."""
    plain = llama_network(tiny_model(0)[0], QuantizedParts(tiny_model(0)[0]))
    turn = plain.angles
    plain.angles = lambda x, at: tuple(part[..., : part.shape[-1] // 2] for part in turn(x, at))  # type: ignore[method-assign,assignment,misc,return-value]
    assert fused.compiled(plain) is None
    plain.angles = turn  # type: ignore[method-assign]
    plain.layers[-1].gate_up.sizes = (8, 8)
    assert fused.compiled(plain) is None


@compiled
def test_loops_that_fail_in_the_trial_leave_the_plain_network(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such address")

    monkeypatch.setattr(fused.FusedLlama, "forward", fail)
    network = network_for(tiny_model(0)[0], quantized=True)
    assert type(network) is LlamaNetwork
    assert "torch's operations serve" in caplog.text


@compiled
def test_adapters_ride_on_the_compiled_network(tiny_folders: tuple[Path, Path, Path]) -> None:
    from reflectory.models.adapter_files import read_adapter
    from reflectory.models.engine.adapters import read_lora

    file = tiny_folders[1] / "adapter_model.safetensors"
    config = read_adapter(tiny_folders[1]).config
    low = read_lora(file, config, torch.float32, torch.device("cpu"))
    assert low is not None
    plain = llama_network(tiny_model(0)[0], QuantizedParts(tiny_model(0)[0]))
    fast = fused.compiled(plain)
    assert fast is not None
    fast.add_adapter("a", low)  # The layers are the same objects.
    pieces = [Piece(list(range(10, 40)), 0, None, keep=True, adapter=name) for name in ("", "a")]
    with torch.inference_mode():
        wanted, found = (
            Pass(network, RowStore(network.shape)).run((), (), pieces)[1]
            for network in (plain, fast)
        )
    assert not torch.allclose(wanted[0], wanted[1], atol=0.1 * float(wanted[0].std()))
    for right, got in zip(wanted, found, strict=True):
        assert float((got - right).abs().mean()) < 0.02 * float(right.std())


@compiled
def test_norms_of_queries_and_biases_are_kept() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
    }
    for kind, config in ((Qwen2ForCausalLM, Qwen2Config), (Qwen3ForCausalLM, Qwen3Config)):
        torch.manual_seed(0)
        model = kind(config(**sizes)).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith(("bias", "q_norm.weight", "k_norm.weight")):
                    weight.normal_(1.0, 0.3)
        network = network_for(model, quantized=True)
        assert isinstance(network, fused.FusedLlama)
        plain = llama_network(model, QuantizedParts(model))
        piece = Piece(list(range(60)), 0, None, keep=True)
        with torch.inference_mode():
            (wanted,), (found,) = (
                Pass(n, RowStore(n.shape)).run((), (), [piece])[1] for n in (plain, network)
            )
        assert float((found - wanted).abs().mean()) < 1e-3 * float(wanted.std())


def test_without_numba_the_plain_network_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: None)
    network = network_for(tiny_model(0)[0], quantized=True)
    assert type(network) is LlamaNetwork


def test_other_gates_and_float_weights_stay_plain() -> None:
    model = tiny_model(0)[0]
    assert fused.compiled(llama_network(model)) is None
    network = llama_network(model, QuantizedParts(model))
    network.activation = torch.nn.functional.gelu
    assert fused.compiled(network) is None


@compiled
@pytest.mark.parametrize("error", [ImportError("no such part"), LookupError("no type for this")])
def test_numba_that_does_not_work_is_told(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        """Finds the loops and cannot load them."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == "reflectory.models.engine.kernels":
                raise error

    monkeypatch.delattr("reflectory.models.engine.kernels")
    monkeypatch.delitem(sys.modules, "reflectory.models.engine.kernels")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert fused.load_kernels() is None
    assert str(error) in caplog.text
