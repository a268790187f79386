"""Compiled loops in bfloat16 against torch's operations, and against float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engines import team
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine import fused
from reflectory.models.engine.fused_bfloat16 import FusedBfloat16, compiled_bfloat16
from reflectory.models.engine.layout import Piece, Seat
from reflectory.models.engine.llama import LlamaNetwork, llama_network
from reflectory.models.engine.network import Network
from reflectory.models.engine.passes import Pass
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import PrefixTree
from reflectory.models.engine.trial import network_for
from reflectory.testing.tiny import tiny_model

kernels: Any = fused.load_kernels()
compiled = pytest.mark.skipif(kernels is None, reason="numba is not installed")
ROUNDED = 2.0**-8
"""Most that rounding to bfloat16 changes, as a share."""


def drawn(seed: int, *size: int) -> torch.Tensor:
    """Return rows of very different sizes."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=rng) * 4 ** torch.randn(size[0], 1, generator=rng)


def halved(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.bfloat16)


def empty(*size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.bfloat16)


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(found.float(), wanted.float(), rtol=ROUNDED, atol=1e-6)


def tiny() -> Any:
    return tiny_model(0)[0].to(torch.bfloat16)


@compiled
@pytest.mark.parametrize("threads", [1, 2])
@given(rows=st.integers(1, 40), width=st.sampled_from([8, 24, 67]), added=st.booleans())
@settings(max_examples=8, deadline=None)
def test_adding_and_normalising(threads: int, rows: int, width: int, added: bool) -> None:
    x, y, weight = drawn(0, rows, width), halved(drawn(1, rows, width)), drawn(2, 1, width)[0]
    x[0] = y[0] = 0  # a row without a length of its own
    wanted = x + y.float() if added else x.clone()
    normed = torch.nn.functional.rms_norm(wanted, (width,), weight, 1e-5)
    out = empty(rows, width)
    with team(threads):
        kernels.norm_halves(x, y if added else None, weight, out, torch.tensor([1e-5]))
    assert torch.equal(x, wanted)
    assert near(out, normed)


@compiled
def test_rounding_is_that_of_torch() -> None:
    """To the nearest, and to the even one of two that are as near."""
    bits = torch.arange(0x3F80_0000, 0x3F84_0000, 0x800, dtype=torch.int32)
    weight = torch.cat((bits, bits | -(2**31))).view(torch.float32)
    x, out = torch.ones(2, len(weight)), empty(2, len(weight))
    kernels.norm_halves(x, None, weight, out, torch.tensor([0.0]))  # ones are normal already
    assert torch.equal(out, halved(weight).expand(2, -1))


@compiled
@given(rows=st.integers(1, 20), width=st.sampled_from([8, 40, 65]))
@settings(max_examples=8, deadline=None)
def test_gating(rows: int, width: int) -> None:
    both = halved(drawn(0, rows, 2 * width))
    out = empty(rows, width)
    kernels.gate_halves(both, out)
    gate, up = both.float().split(width, dim=1)
    assert near(out, torch.nn.functional.silu(gate) * up)


@compiled
@pytest.mark.parametrize("count", [1, 18])
def test_turning_is_that_of_the_plain_network(count: int) -> None:
    network = llama_network(tiny_model(0)[0])
    shape = network.shape
    every = shape.heads + 2 * shape.kv_heads
    y = halved(drawn(0, count * every, shape.width)).view(count, every, shape.width)
    angles = network.angles(torch.zeros(count, 8), torch.arange(count) * 7)
    wanted = network._rotated(network.layers[0], y.float(), *angles)
    query = empty(count, shape.heads, shape.width)
    kv = empty(count, 2, shape.kv_heads, shape.width)
    kernels.turn_halves(y, *angles, query, kv)
    size = float(y.float().abs().max())
    assert torch.allclose(query.float(), wanted[0], rtol=ROUNDED, atol=1e-6 * size)
    assert torch.allclose(kv.float(), wanted[1], rtol=ROUNDED, atol=1e-6 * size)


def read(network: Network, pieces: list[Piece]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return Pass(network, RowStore(network.shape)).run((), (), pieces)[1]


def written(network: Network, ids: list[int]) -> torch.Tensor:
    """Return the logits of two rows behind a shared beginning, token by token."""
    tree, store = PrefixTree(limit_bytes=2**30), RowStore(network.shape)
    passes, node = Pass(network, store), tree.insert(ids[:20])
    with torch.inference_mode():
        passes.run((), (), [Piece(ids[:20], 0, None, node)])
        passes.seat([Seat(store.add(8), node), Seat(store.add(8), node)])
        steps = [passes.run([ids[at], ids[at] + 1], [at, at])[0] for at in range(20, 26)]
    return torch.stack(steps)


@compiled
def test_the_network_is_as_near_to_float32_as_the_plain_one() -> None:
    exact, plain = llama_network(tiny_model(0)[0]), llama_network(tiny())
    fast = compiled_bfloat16(plain)
    assert fast is not None
    ids = list(range(10, 70))

    def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
        return float((found - wanted).square().mean().sqrt())

    for size in (1, 5, 60):
        piece = Piece(ids[:size], 0, None, keep=True)
        (wanted,), (slow,), (found,) = (read(n, [piece]) for n in (exact, plain, fast))
        assert off(found, wanted) < 1.2 * off(slow, wanted) + 1e-3 * float(wanted.std())
    wanted, slow, found = (written(n, ids) for n in (exact, plain, fast))
    assert off(found, wanted) < 1.2 * off(slow, wanted) + 1e-3 * float(wanted.std())


@compiled
def test_the_trial_takes_it_and_sees_when_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(network_for(tiny()), FusedBfloat16)

    def nothing(*_: object) -> None:
        """Leave what was in memory before."""

    monkeypatch.setattr(kernels, "turn_halves", nothing)
    assert type(network_for(tiny())) is LlamaNetwork
    assert "torch's operations serve" in caplog.text


@compiled
def test_adapters_ride_on_it(tiny_folders: tuple[Path, Path, Path]) -> None:
    from reflectory.models.adapter_files import read_adapter
    from reflectory.models.engine.adapters import read_lora

    file = tiny_folders[1] / "adapter_model.safetensors"
    config = read_adapter(tiny_folders[1]).config
    low = read_lora(file, config, torch.bfloat16, torch.device("cpu"))
    assert low is not None
    plain = llama_network(tiny())
    fast = compiled_bfloat16(plain)
    assert fast is not None
    fast.add_adapter("a", low)  # The layers are the same objects.
    pieces = [Piece(list(range(10, 40)), 0, None, keep=True, adapter=name) for name in ("", "a")]
    wanted, found = read(plain, pieces), read(fast, pieces)
    assert not torch.allclose(wanted[0], wanted[1], atol=0.1 * float(wanted[0].std()))
    for right, got in zip(wanted, found, strict=True):
        assert float((got - right).abs().mean()) < 0.05 * float(right.std())


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
        model = model.to(torch.bfloat16)
        network = network_for(model)
        assert isinstance(network, FusedBfloat16)
        piece = Piece(list(range(60)), 0, None, keep=True)
        (wanted,), (found,) = (read(n, [piece]) for n in (llama_network(model), network))
        assert float((found - wanted).abs().mean()) < 0.05 * float(wanted.std())


@compiled
def test_what_does_not_fit_stays_plain() -> None:
    """Addresses go to the kernels, so a size that does not fit must be seen before."""
    assert compiled_bfloat16(llama_network(tiny_model(0)[0])) is None  # float32
    network = llama_network(tiny())
    network.activation = torch.nn.functional.gelu
    assert compiled_bfloat16(network) is None
    network = llama_network(tiny())
    network.norm = None
    assert compiled_bfloat16(network) is None
    network = llama_network(tiny())
    network.layers[-1].gate_up.sizes = (8, 8)
    assert compiled_bfloat16(network) is None
    network = llama_network(tiny())
    turn = network.angles
    network.angles = lambda x, at: tuple(p[..., : p.shape[-1] // 2] for p in turn(x, at))  # type: ignore[method-assign,assignment,misc,return-value]
    assert compiled_bfloat16(network) is None


def test_without_numba_the_plain_network_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: None)
    assert type(network_for(tiny())) is LlamaNetwork


@compiled
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_what_others_set_in_the_process_changes_nothing(default: torch.dtype) -> None:
    """transformers changes the default format while it loads a model in another thread."""
    fast = compiled_bfloat16(llama_network(tiny()))
    assert fast is not None
    ids = list(range(10, 40))
    wanted = written(fast, ids)
    torch.set_default_dtype(default)
    try:
        found = written(fast, ids)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, wanted)
