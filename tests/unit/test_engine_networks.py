"""Which network runs which architecture."""

import pytest
import torch
from engines import MODEL, TOKENIZER, ask, request

from reflectory.models.engine.generic import GenericNetwork
from reflectory.models.engine.llama import LlamaNetwork
from reflectory.models.engine.rendering import render
from reflectory.models.engine.trial import network_for
from reflectory.models.local import LocalModel


def test_the_network_is_found_by_trial() -> None:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        MistralConfig,
        MistralForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    assert isinstance(network_for(Qwen3ForCausalLM(Qwen3Config(**sizes)).eval()), LlamaNetwork)
    assert isinstance(network_for(Phi3ForCausalLM(Phi3Config(**sizes)).eval()), GenericNetwork)
    sliding = MistralForCausalLM(MistralConfig(**sizes, sliding_window=16)).eval()
    assert network_for(sliding) is None
    old = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4)).eval()
    network = network_for(old)
    assert network is None or isinstance(network, GenericNetwork)


@pytest.mark.parametrize("window", [None, 12])
def test_a_sliding_window_is_generated_as_transformers_does(window: int | None) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=2,
    )
    model = MistralForCausalLM(config).eval()
    local = LocalModel(model, TOKENIZER, fingerprint="m@0/float32", batch_invariant=False)
    assert local._engine.packed is (window is None)
    calls = [request(f"Why {i}?") for i in range(3)]
    said = ask(local, *calls)
    for call, answer in zip(calls, said, strict=True):
        ids = torch.tensor([render(TOKENIZER, call.segments).token_ids])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
        text = TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert answer.text == text


def test_positions_that_depend_on_the_longest_prompt_are_not_packed() -> None:
    from transformers import LlamaForCausalLM

    config = type(MODEL.config)(
        **{
            **MODEL.config.to_dict(),
            "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        }
    )
    assert network_for(LlamaForCausalLM(config).eval()) is None
