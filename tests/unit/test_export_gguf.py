"""GGUF files read back by transformers: the same model, the same tokens."""

import copy
import json

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from test_export import CPU, logits, lora

from reflectory.errors import UnsupportedCapability
from reflectory.models.engine.loading import load_model, load_tokenizer
from reflectory.testing.tiny import save_tiny_model, tiny_tokenizer
from reflectory.training.export import export_student
from reflectory.training.export.gguf_layout import (
    FAMILIES,
    QUANTIZATIONS,
    reordered,
    rope_factors,
)
from reflectory.training.export.gguf_vocabulary import CUTS, cut_of

TEXT = "The stone isn't 3.7 km wide; 12345 men of 1908, naïve façade\n\n  你好 <|im_end|> x"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return lora(base, tmp_path_factory.mktemp("adapters") / "first", target_modules=linear)


@pytest.fixture(scope="module")
def merged(base, adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged") / "student"
    export_student(base, adapter, folder, number_format="f32")
    return load_model(folder, CPU, torch.float32)


def exported(base, adapter, folder, **options):
    manifest = export_student(base, adapter, folder, **{"format": "gguf", **options})
    return folder / next(name for name in manifest.files if name.endswith(".gguf"))


def read_back(file):
    return transformers.AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
    ).eval()


def facts_of(file):
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


@pytest.mark.parametrize("stored", ["f32", "f16", "bf16", "q8_0"])
def test_read_back_it_gives_the_same_logits(base, adapter, merged, tmp_path, stored):
    found = logits(read_back(exported(base, adapter, tmp_path / "g", number_format=stored)))
    rounded = copy.deepcopy(merged)
    for weights in rounded.parameters():
        if weights.dim() > 1:
            kind = QUANTIZATIONS[stored]
            packed = gguf.quants.quantize(weights.detach().numpy(), kind)
            weights.data = torch.from_numpy(gguf.quants.dequantize(packed, kind).copy())
    assert (logits(rounded) - found).abs().max() < 1e-4
    moved = (logits(merged) - logits(load_model(base, CPU, torch.float32))).abs().max()
    assert (logits(merged) - found).abs().max() < moved / 5
    if stored == "f32":
        assert torch.equal(logits(merged), found)


def test_matrices_are_stored_as_asked_and_vectors_in_float32(base, tmp_path):
    for stored, kind in (("f16", "F16"), ("bf16", "BF16"), ("q8_0", "Q8_0"), ("f32", "F32")):
        file = exported(base, None, tmp_path / stored, number_format=stored)
        kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(file).tensors}
        assert kinds.pop("output_norm.weight") == "F32"
        assert kinds["token_embd.weight"] == kinds["output.weight"] == kind
        assert {k for name, k in kinds.items() if "norm" not in name} == {kind}


def test_the_tokenizer_reads_back(base, tmp_path):
    file = exported(base, None, tmp_path / "g")
    own = load_tokenizer(base)
    read = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert read(TEXT).input_ids == own(TEXT).input_ids
    assert read.chat_template == own.chat_template
    assert (read.bos_token, read.eos_token) == (own.bos_token, own.eos_token)
    facts = facts_of(file)
    kinds = facts["tokenizer.ggml.token_type"]
    assert kinds[:5] == [3, 3, 3, 3, 1]  # control tokens, then bytes
    assert facts["tokenizer.ggml.pre"] == "gpt-2"
    assert facts["tokenizer.ggml.add_bos_token"] is False


def test_the_file_says_what_it_is(base, adapter, tmp_path):
    file = exported(base, adapter, tmp_path / "g", name="my student", licence="mit")
    facts = facts_of(file)
    assert facts["general.name"] == "my student"
    assert facts["general.license"] == "mit"
    assert facts["general.base_model.0.name"] == "tiny"
    assert facts["llama.attention.head_count_kv"] == 2
    assert facts["llama.context_length"] == 2048
    assert "general.license" not in facts_of(exported(base, adapter, tmp_path / "h"))


def saved(folder, config_class, model_class, **settings):
    """Save a small model of another architecture with the tiny tokenizer."""
    tokenizer = tiny_tokenizer(300)
    config = config_class(
        **{
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.3,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": False,
            **settings,
        }
    )
    torch.manual_seed(0)
    model = model_class(config)
    for name, weights in model.named_parameters():
        if name.endswith(".bias") or "norm" in name:  # ones and zeros would hide a mistake
            torch.nn.init.normal_(weights, mean=1.0, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Qwen2", {}),
        ("Qwen2", {"tie_word_embeddings": True}),
        ("Qwen3", {"head_dim": 128}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"vocab_size": 320}),
        ("Llama", {"num_key_value_heads": 4}),
    ],
)
def test_other_shapes_and_families(tmp_path, kind, settings):
    config = getattr(transformers, f"{kind}Config")
    model = getattr(transformers, f"{kind}ForCausalLM")
    base = saved(tmp_path / "base", config, model, **settings)
    file = exported(base, None, tmp_path / "g", number_format="f32")
    wanted = logits(load_model(base, CPU, torch.float32))
    assert torch.allclose(logits(read_back(file)), wanted, atol=1e-5)
    tensors = {t.name for t in gguf.GGUFReader(file).tensors}
    assert ("output.weight" in tensors) is not settings.get("tie_word_embeddings", False)


def test_rows_without_a_token_are_padding(tmp_path):
    base = saved(
        tmp_path / "b", transformers.LlamaConfig, transformers.LlamaForCausalLM, vocab_size=320
    )
    facts = facts_of(exported(base, None, tmp_path / "g"))
    assert facts["tokenizer.ggml.tokens"][-1] == "[PAD319]"
    assert facts["tokenizer.ggml.token_type"][-20:] == [5] * 20
    small = saved(
        tmp_path / "s", transformers.LlamaConfig, transformers.LlamaForCausalLM, vocab_size=290
    )
    with pytest.raises(UnsupportedCapability, match="has rows for 290"):
        export_student(small, None, tmp_path / "out", format="gguf")


def test_llama_3_slows_its_frequencies_down(tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    base = saved(
        tmp_path / "b",
        transformers.LlamaConfig,
        transformers.LlamaForCausalLM,
        head_dim=16,
        rope_parameters=rope,
    )
    file = exported(base, None, tmp_path / "g", number_format="f32")
    factors = next(t for t in gguf.GGUFReader(file).tensors if t.name == "rope_freqs.weight").data
    model = load_model(base, CPU, torch.float32)
    plain = 500000.0 ** (-np.arange(0, 16, 2) / 16)
    assert np.allclose(plain / factors, model.model.rotary_emb.inv_freq.numpy(), rtol=1e-5)
    assert factors.min() == 1.0  # the fastest ones stay
    assert factors.max() == pytest.approx(8.0)  # the slowest ones are eight times slower


def test_other_stretched_rotations_are_refused():
    config = transformers.LlamaConfig(
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    )
    with pytest.raises(UnsupportedCapability, match=r"type linear.*\n.*convert_hf_to_gguf"):
        rope_factors(config)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Gemma", {"head_dim": 8}, "this model is a gemma"),
        ("Llama", {"attention_bias": True}, r"self_attn\.\w_proj\.bias"),
        ("Qwen2", {"use_sliding_window": True}, "sliding window"),
    ],
)
def test_what_is_not_known_names_the_converter(tmp_path, kind, settings, message):
    config = getattr(transformers, f"{kind}Config")
    base = saved(tmp_path / "b", config, getattr(transformers, f"{kind}ForCausalLM"), **settings)
    with pytest.raises(UnsupportedCapability, match=rf"(?s){message}.*convert_hf_to_gguf\.py"):
        export_student(base, None, tmp_path / "out", format="gguf")
    assert not (tmp_path / "out").exists()


@given(
    heads=st.integers(1, 5),
    groups=st.integers(1, 3),
    half=st.integers(1, 8),
    seed=st.integers(0, 9),
)
def test_the_order_of_rows_is_the_reverse_of_transformers(heads, groups, half, seed):
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    config = transformers.LlamaConfig(
        num_attention_heads=heads * groups,
        num_key_value_heads=heads,
        hidden_size=heads * groups * 8,
    )
    reader = LlamaTensorProcessor(config=config.to_dict())
    generator = torch.Generator().manual_seed(seed)
    for layer, name, count in (
        ("q_proj", "blk.0.attn_q.weight", heads * groups),
        ("k_proj", "blk.0.attn_k.weight", heads),
        ("v_proj", "blk.0.attn_v.weight", heads),
    ):
        weights = torch.randn(count * 2 * half, 3, generator=generator)
        stored = reordered(
            weights, f"model.layers.0.self_attn.{layer}.weight", FAMILIES["llama"], config
        )
        back = reader.process(stored.numpy(), name).weights
        assert np.array_equal(back, weights.numpy())


@pytest.mark.parametrize("name", CUTS)
def test_the_cut_is_found_by_trial(name):
    from tokenizers import Tokenizer, models

    tokenizer = tiny_tokenizer(300)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["pre_tokenizer"] = CUTS[name]
    # Merges over every border at which the ways of cutting differ.
    pairs = [("1", "2"), ("12", "3"), ("123", "4"), ("1234", "5"), ("Ġ", "1"), (".", "Ċ")]
    pairs += [("Ġ", "b"), ("ĉ", "d"), ("'", "V"), ("'V", "E"), ("Ġ", "ĊĊ"), ("Ċ", "Ċ")]
    for pair in pairs:
        for token in (*pair, "".join(pair)):
            backend["model"]["vocab"].setdefault(token, len(backend["model"]["vocab"]))
        backend["model"]["merges"].append(list(pair))
    assert models
    tokenizer.backend_tokenizer  # noqa: B018 - made once, then replaced
    own = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), eos_token="<|im_end|>"
    )
    assert cut_of(own) == name


def test_other_kinds_of_vocabulary_are_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    )
    with pytest.raises(UnsupportedCapability, match=r"byte-level.*\n.*convert_hf_to_gguf"):
        cut_of(words)
    strange = tiny_tokenizer(300)
    strange.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("e", "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    with pytest.raises(UnsupportedCapability, match="none of the names known here"):
        cut_of(strange)


def test_an_adapter_alone_holds_the_same_change(base, adapter, merged, tmp_path):
    file = exported(base, adapter, tmp_path / "a", format="adapter-gguf")
    whole = exported(base, adapter, tmp_path / "w", number_format="f32")
    before = exported(base, None, tmp_path / "b", number_format="f32")
    change, after, start = (
        {t.name: np.array(t.data) for t in gguf.GGUFReader(f).tensors}
        for f in (file, whole, before)
    )
    scale = facts_of(file)["adapter.lora.alpha"] / 4
    layers = {name.rpartition(".")[0] for name in change}
    assert len(layers) == 14
    for layer in layers:
        moved = scale * change[f"{layer}.lora_b"] @ change[f"{layer}.lora_a"]
        assert np.allclose(after[layer] - start[layer], moved, atol=1e-5)
    assert facts_of(file)["general.type"] == "adapter"


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"rank_pattern": {"q_proj": 2}}],
)
def test_adapters_that_llama_cpp_cannot_add_are_refused(base, tmp_path, settings):
    folder = lora(base, tmp_path / "a", **settings)
    with pytest.raises(UnsupportedCapability, match="export the student as gguf"):
        export_student(base, folder, tmp_path / "out", format="adapter-gguf")
