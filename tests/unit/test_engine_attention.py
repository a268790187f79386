"""The compiled attention of a pass against softmax(q k / sqrt(d)) v, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engines import team
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine import fused
from reflectory.models.engine.fused_bfloat16 import compiled_bfloat16
from reflectory.models.engine.layout import Layout, Piece, Seat
from reflectory.models.engine.llama import LlamaNetwork, llama_network
from reflectory.models.engine.network import Network, Shape
from reflectory.models.engine.passes import Pass
from reflectory.models.engine.quantized import QuantizedParts
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import Node, PrefixTree

kernels: Any = fused.load_kernels()
pytestmark = pytest.mark.skipif(kernels is None, reason="numba is not installed")


def ways() -> list[str]:
    """Return how attention can be computed here."""
    if kernels is None:
        return ["float32"]
    from reflectory.models.engine.kernels.products import has_tiles

    return ["float32", "bfloat16", *(["tiles"] if has_tiles() else [])]


def shape_of(heads: int, groups: int, width: int, dtype: torch.dtype) -> Shape:
    cpu = torch.device("cpu")
    return Shape(2, heads * groups, heads, width, width**-0.5, dtype, cpu, heads * groups * width)


def loop_of(shape: Shape, way: str) -> Any:
    from reflectory.models.engine.kernels.attention import SharedAttention

    return SharedAttention(shape, tiles=way == "tiles")


def exact(query: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]) -> Any:
    """Return the attention of one token in double precision; queries (kv heads, groups, width)."""
    k, v = torch.cat(keys, dim=1).double(), torch.cat(values, dim=1).double()
    scores = query.double() @ k.transpose(1, 2) * query.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ways())
@given(
    # Per unit: its places, and per run of keys: how many, first and last place that see it.
    units=st.lists(
        st.tuples(
            st.integers(1, 12),
            st.lists(
                st.tuples(st.integers(1, 200), st.integers(0, 11), st.integers(1, 12)), max_size=3
            ),
        ),
        min_size=1,
        max_size=3,
    ),
    heads=st.integers(1, 3),
    groups=st.integers(1, 5),
    width=st.sampled_from([16, 48, 64, 128]),
    size=st.sampled_from([0.1, 1.0, 12.0]),
)
@settings(max_examples=25, deadline=None)
def test_any_runs_of_keys_are_looked_at(
    threads: int, way: str, units: list[Any], heads: int, groups: int, width: int, size: float
) -> None:
    dtype = torch.float32 if way == "float32" else torch.bfloat16
    way = "bfloat16" if way == "tiles" and width % 64 else way
    shape = shape_of(heads, groups, width, dtype)
    rng = torch.Generator().manual_seed(len(units))

    def drawn(*sizes: int) -> torch.Tensor:
        return (torch.randn(*sizes, generator=rng)).to(dtype)

    total = sum(places for places, _ in units)
    query = (drawn(total, heads * groups, width).float() * size).to(dtype)
    # What lies beyond a run must not matter, not even if it is no number.
    hole = torch.full((heads, 3, width), torch.nan, dtype=dtype)
    table: list[tuple[int, ...]] = []
    cut: list[tuple[int, ...]] = []
    seen: list[list[torch.Tensor]] = [[] for _ in range(total)]
    kept: list[torch.Tensor] = []
    at = 0
    for places, runs in units:
        first = len(table)
        # Everybody sees what is before it in the unit, as in a piece of a prompt.
        piece = drawn(places, 2, heads, width)
        kept.append(piece)
        step = 2 * heads * width
        here = piece.data_ptr()
        table.append((here, here + heads * width * dtype.itemsize, width, step, places, at,
                      at + places, 1, 0))  # fmt: skip
        for i in range(places):
            seen[at + i].append(piece[: i + 1].permute(1, 2, 0, 3))
        for count, begin, end in runs:
            kv = torch.cat((drawn(2, heads, count, width), hole.expand(2, -1, -1, -1)), dim=2)
            kept.append(kv)
            table.append((kv.data_ptr(), kv[1].data_ptr(), (count + 3) * width, width, count,
                          at + begin, at + end, 0, 0))  # fmt: skip
            for place in range(at + begin, min(at + end, at + places)):
                seen[place].append(kv[:, :, :count])
        cut.append((at, at + places, first, len(table)))
        at += places
    with team(threads):
        found = loop_of(shape, way)(query, np.array(cut), np.array(table))
    for place, runs in enumerate(seen):
        asked = query[place].view(heads, groups, width)
        wanted = exact(asked, [kv[0] for kv in runs], [kv[1] for kv in runs])
        got = found[place].view(heads, groups, width).double()
        error = float((got - wanted).abs().max())
        assert error < (2e-4 if way == "float32" else 2e-2 if way == "bfloat16" else 4e-2)


@pytest.mark.parametrize("way", ways())
def test_a_rows_new_token_is_written_and_seen(way: str) -> None:
    dtype = torch.float32 if way == "float32" else torch.bfloat16
    shape, heads, width = shape_of(2, 3, 64, dtype), 2, 64
    rng = torch.Generator().manual_seed(0)
    buffer = torch.randn(4, 90, 2, heads, width, generator=rng).to(dtype)
    new = torch.randn(3, 2, heads, width, generator=rng).to(dtype)
    query = torch.randn(3, heads * 3, width, generator=rng).to(dtype)
    wanted = buffer.clone()
    slots, lengths = [3, 0, 2], [1, 70, 64]
    side, size = heads * width, dtype.itemsize
    runs = []
    for row, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
        wanted[slot, length - 1] = new[row]
        at = buffer[slot].data_ptr()
        place = (row, row + 1, 0, new[row].data_ptr())
        runs.append((at, at + side * size, width, 2 * side, length, *place))
    found = loop_of(shape, way)(query, np.array([(0, 3, 0, 3)]), np.array(runs))
    assert torch.equal(buffer, wanted), "nothing else was written"
    for row, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
        own = wanted[slot, :length].permute(1, 2, 0, 3)
        right = exact(query[row].view(heads, 3, width), [own[0]], [own[1]])
        error = (found[row].view(heads, 3, width).double() - right).abs().max()
        assert float(error) < (1e-5 if way == "float32" else 2e-2)


def test_heads_that_do_not_fit_have_no_loop() -> None:
    assert kernels.shared_attention(shape_of(2, 2, 8, torch.float32)) is None or (
        kernels.attention.LANES == 8
    )
    assert kernels.shared_attention(shape_of(2, 2, 20, torch.float32)) is None
    assert kernels.shared_attention(shape_of(2, 2, 320, torch.float32)) is None
    assert kernels.shared_attention(shape_of(1, 400, 64, torch.float32)) is None
    assert kernels.shared_attention(shape_of(2, 2, 64, torch.float16)) is None


def test_units_hold_what_shares_its_furthest_node() -> None:
    tree = PrefixTree(limit_bytes=2**30)
    near, far = tree.insert([1, 2, 3, 4]), tree.insert([1, 2, 9])
    other = tree.insert([5, 6])
    layout = Layout([0, 1, 2, 3])
    layout.serve([(n.runs(), i, i + 1) for i, n in enumerate((near, far, other, other))])
    assert layout.neighbourhoods == [(0, 2), (2, 4)]
    layout.serve([([], 4, 9), ([], 9, 12)])
    assert layout.neighbourhoods == [(0, 2), (2, 4), (4, 12)]
    covered = [place for begin, end in layout.neighbourhoods for place in range(begin, end)]
    assert covered == list(range(12))


def network_of(way: str, width: int, groups: int) -> tuple[LlamaNetwork, Network]:
    """Return a small network with random weights: in operations of torch, and with loops."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(width)
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2 * groups,
        num_key_value_heads=2,
        head_dim=width,
        vocab_size=64,
    )
    model = LlamaForCausalLM(config).eval()
    if way == "int8":
        plain = llama_network(model, QuantizedParts(model))
        fast: Network | None = fused.compiled(plain)
    else:
        plain = llama_network(model.to(torch.bfloat16))
        fast = compiled_bfloat16(plain)
    assert fast is not None
    return plain, fast


@pytest.mark.parametrize("way", ["int8", "bfloat16"])
@pytest.mark.parametrize("width", [16, 64])
@given(
    prompts=st.lists(st.lists(st.integers(4, 7), min_size=2, max_size=150), min_size=1, max_size=6),
    shared=st.integers(0, 150),
    groups=st.integers(1, 3),
)
@settings(max_examples=8, deadline=None)
def test_passes_with_and_without_loops_agree(
    way: str, width: int, prompts: list[list[int]], shared: int, groups: int
) -> None:
    """Prompts that share beginnings, read together and written on, over any tree."""
    prompts = [[*([9] * shared), *prompt] for prompt in prompts]
    found = []
    for network in network_of(way, width, groups):
        tree, store = PrefixTree(limit_bytes=2**40), RowStore(network.shape)
        passes = Pass(network, store)
        with torch.inference_mode():
            nodes = [tree.insert(prompt) for prompt in prompts]
            unread: dict[int, Node] = {
                id(n): n for node in nodes for n in node.ancestry() if n.kv is None
            }
            pieces = [
                Piece(n.tokens.tolist(), n.start, n.parent, n, keep=True) for n in unread.values()
            ]
            _, logits = passes.run((), (), pieces)
            passes.seat([Seat(store.add(4), node) for node in nodes])
            for more in range(3):
                places = [len(prompt) + more for prompt in prompts]
                # Beside what is written another prompt is read.
                beside = [Piece([30, 31, 32], len(prompts[0]), nodes[0], keep=True)]
                rows, read = passes.run([5 + more] * len(prompts), places, beside)
                logits = [*logits, rows, *read]
        found.append(torch.cat(logits))
    plain, fast = found
    # bfloat16 rounds at other places; integers are the same but for the attention.
    error = (fast - plain).square().mean().sqrt() / plain.std()
    assert float(error) < (0.06 if way == "bfloat16" else 0.02)
