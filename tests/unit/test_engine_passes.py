"""Attention in parts, packed passes, rows, and products of integers."""

from pathlib import Path

import pytest
import torch
from engines import MODEL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.models.engine.attention import attend, merge
from reflectory.models.engine.generic import GenericNetwork
from reflectory.models.engine.layout import Piece, Seat
from reflectory.models.engine.llama import llama_network
from reflectory.models.engine.passes import Pass
from reflectory.models.engine.quantized import QuantizedParts, QuantizedProduct
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import PrefixTree
from reflectory.testing.tiny import tiny_model


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_attention_add_up(
    plain: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr("reflectory.models.engine.attention._FLASH", None)
        monkeypatch.setattr("reflectory.models.engine.attention._MOST_SCORES", 50)
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=rng).to(dtype) for n in (5, 40, 40))
    whole = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    first = attend(q, k[:, :, :13], v[:, :, :13], 8**-0.5)
    hidden = torch.zeros(2, 1, 1, 30)
    hidden[..., 27:] = -torch.inf
    more = torch.nn.functional.pad(k[:, :, 13:], (0, 0, 0, 3))
    second = attend(
        q, more, torch.nn.functional.pad(v[:, :, 13:], (0, 0, 0, 3)), 8**-0.5, bias=hidden.to(dtype)
    )
    joined, _ = merge(first, second)
    assert torch.allclose(joined.float(), whole, atol=1e-5 if dtype == torch.float32 else 0.03)


NETWORKS = {
    "llama": lambda: llama_network(tiny_model(0)[0]),
    "generic": lambda: GenericNetwork(tiny_model(0)[0]),
}


@pytest.mark.parametrize("kind", NETWORKS)
@given(
    prompts=st.lists(st.lists(st.integers(4, 9), min_size=2, max_size=14), min_size=1, max_size=5)
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_packed_pass_is_many_plain_ones(kind: str, prompts: list[list[int]]) -> None:
    """Prompts that share beginnings, read together and continued, against the model itself."""
    network = NETWORKS[kind]()
    tree, store = PrefixTree(limit_bytes=2**40), RowStore(network.shape)
    passes = Pass(network, store)
    with torch.inference_mode():
        nodes = [tree.insert(prompt) for prompt in prompts]
        unread = {id(n): n for node in nodes for n in node.ancestry() if n.kv is None}
        pieces = [
            Piece(n.tokens.tolist(), n.start, n.parent, n, keep=True) for n in unread.values()
        ]
        _, logits = passes.run((), (), pieces)
        passes.seat([Seat(store.add(4), node) for node in nodes])
        for more in range(2):
            places = [len(prompt) + more for prompt in prompts]
            written, _ = passes.run([5 + more] * len(prompts), places)
            for prompt, row in zip(prompts, written, strict=True):
                said = MODEL(torch.tensor([[*prompt, *range(5, 6 + more)]])).logits[0, -1]
                assert torch.allclose(row, said, atol=1e-4)
        for piece, found in zip(pieces, logits, strict=True):
            assert piece.node is not None
            before = [t for n in piece.node.ancestry() for t in n.tokens.tolist()]
            said = MODEL(torch.tensor([before])).logits[0, -len(piece.tokens) :]
            assert torch.allclose(found, said, atol=1e-4)


def test_a_slot_that_is_freed_takes_over_the_last_row() -> None:
    network = llama_network(MODEL)
    store = RowStore(network.shape)
    shape = (1, 2, network.shape.kv_heads, network.shape.width)
    for row in range(3):
        store.add(2 + row)
    for row in range(3):
        for layer in range(network.shape.layers):
            store.write(
                layer,
                store.places([row]) if layer == 0 else torch.tensor([row * 64]),
                torch.full(shape, float(row)),
            )
    assert store.remove(0) == 2
    keys, values = store.read(0)
    assert keys.shape[0] == 2
    assert keys[0, 0, 0, 0] == 2 and values[1, 0, 0, 0] == 1


def test_integers_multiply_the_same_in_any_company() -> None:
    rng = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(40, 24, generator=rng), torch.randn(40, generator=rng)
    x = torch.randn(70, 24, generator=rng) * torch.rand(70, 1, generator=rng)
    x[3] = 0
    wanted = x @ weight.T + bias
    errors = []
    for digits in (1, 2):
        product = QuantizedProduct(weight, bias, digits=digits)
        together = product(x)
        for count in (1, 2, 5, 33):
            assert torch.equal(product(x[:count].clone()), together[:count])
        errors.append(float((together - wanted).abs().mean()))
    assert errors[1] < errors[0] < 0.05 * float(wanted.std())
    normed = QuantizedProduct(weight, epsilon=1e-5)(x[:3])
    root = (x[:3].square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    assert torch.allclose(normed, x[:3] * root @ weight.T, atol=0.25)


def test_a_quantised_network_is_nearly_the_model(tiny_folders: tuple[Path, Path, Path]) -> None:
    from peft import PeftModel

    from reflectory.models.adapter_files import read_adapter
    from reflectory.models.engine.adapters import read_lora

    model, _ = tiny_model(0)
    network = llama_network(model, QuantizedParts(model))
    config = read_adapter(tiny_folders[1]).config
    low = read_lora(
        tiny_folders[1] / "adapter_model.safetensors", config, torch.float32, torch.device("cpu")
    )
    assert low is not None
    network.add_adapter("a", low)
    store = RowStore(network.shape)
    ids = list(range(10, 40))
    with torch.inference_mode():
        for adapter in ("", "a"):
            reference = tiny_model(0)[0]
            if adapter:
                reference = PeftModel.from_pretrained(reference, str(tiny_folders[1]))
            wanted = reference(torch.tensor([ids])).logits[0]
            _, (found,) = Pass(network, store).run(
                (), (), [Piece(ids, 0, None, keep=True, adapter=adapter)]
            )
            assert float((found - wanted).abs().mean()) < 0.05 * float(wanted.std())


def test_the_bias_of_a_head_counts() -> None:
    model, _ = tiny_model(0)
    torch.manual_seed(0)
    model.lm_head.bias = torch.nn.Parameter(torch.randn(300))
    for parts in (None, QuantizedParts(model)):
        network = llama_network(model, parts)
        with torch.inference_mode():
            wanted = model(torch.tensor([[5, 6, 7]])).logits[0]
            _, (found,) = Pass(network, RowStore(network.shape)).run(
                (), (), [Piece([5, 6, 7], 0, None, keep=True)]
            )
        assert float((found - wanted).abs().mean()) < 0.05 * float(wanted.std())
