"""An exported student is the student: the same logits, whole folders, clear refusals."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_trainer import SMALL, rows_of

from reflectory.cli.main import run_command
from reflectory.errors import (
    IntegrityError,
    ModelError,
    StorageError,
    UnsupportedCapability,
    UserError,
)
from reflectory.models.engine.loading import load_model, load_tokenizer
from reflectory.testing.tiny import save_tiny_model, tiny_model
from reflectory.training import train_adapter
from reflectory.training.export import check_export, export_student, read_export_manifest
from reflectory.training.export.licence import licence_of
from reflectory.training.export.modelfile import default_system, modelfile

CPU = torch.device("cpu")
IDS = torch.arange(4, 90)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n", encoding="utf-8")
    (folder / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters") / "first"
    train_adapter(rows_of(8), base, folder, SMALL, device="cpu", dtype="float32")
    return folder


@pytest.fixture(scope="module")
def merged(base, adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged") / "student"
    export_student(base, adapter, folder, number_format="f32")
    return folder


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def lora(base, folder, **settings):
    """Save a LoRA adapter with weights that change what the model says."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings}
    torch.manual_seed(1)
    model = get_peft_model(
        load_model(base, CPU, torch.float32), LoraConfig(task_type="CAUSAL_LM", **settings)
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def test_merged_weights_are_base_plus_scaled_product(base, adapter, merged):
    before, after = (load_file(f / "model.safetensors") for f in (base, merged))
    change = load_file(adapter / "adapter_model.safetensors")
    layer = "model.layers.1.self_attn.k_proj"
    a, b = (change[f"base_model.model.{layer}.lora_{side}.weight"] for side in "AB")
    wanted = before[f"{layer}.weight"] + SMALL.alpha / SMALL.rank * (b @ a)  # Equation 7
    assert torch.allclose(after[f"{layer}.weight"], wanted, atol=1e-7)
    assert not torch.equal(after[f"{layer}.weight"], before[f"{layer}.weight"])
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"):
        assert torch.equal(after[name], before[name])


@pytest.mark.parametrize(("stored", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_only_the_sum_is_rounded(base, adapter, merged, tmp_path, stored, dtype):
    export_student(base, adapter, tmp_path / "m", number_format=stored)
    exact = load_file(merged / "model.safetensors")
    for name, weights in load_file(tmp_path / "m" / "model.safetensors").items():
        assert torch.equal(weights, exact[name].to(dtype))


async def _said(model):
    from reflectory.models.protocol import Request, SamplingParameters, Segment

    request = Request(
        segments=(Segment(text="What lies there?", speaker="user"),),
        role="student",
        sampling=SamplingParameters(max_tokens=12, temperature=0.0),
    )
    try:
        return (await model.complete(request)).text
    finally:
        await model.aclose()


def test_the_folder_is_a_local_model_that_says_the_same(base, adapter, merged):
    import asyncio

    from reflectory.models.local import LocalModel

    options = {"device": "cpu", "dtype": "float32"}
    beside = asyncio.run(_said(LocalModel.load(base, adapter=adapter, **options)))
    inside = asyncio.run(_said(LocalModel.load(merged, **options)))
    plain = asyncio.run(_said(LocalModel.load(base, **options)))
    assert beside == inside != plain


def test_record_and_card_say_where_it_came_from(base, adapter, merged):
    manifest = check_export(merged)
    assert manifest == read_export_manifest(merged)
    trained = json.loads((adapter / "reflectory.json").read_text())
    assert manifest.lineage["rows_sha256"] == trained["rows_sha256"]
    assert manifest.adapter_sha256 == trained["weights_sha256"]
    assert manifest.name == "tiny-first"
    assert manifest.licence == "mit"
    assert {"LICENSE", "README.md", "chat_template.jinja", "model.safetensors"} <= set(
        manifest.files
    )
    card = (merged / "README.md").read_text()
    for fact in ("license: mit", trained["rows_sha256"], manifest.base_fingerprint, "tiny-first"):
        assert fact in card
    assert str(merged.parent) not in card + (merged / "reflectory-export.json").read_text()


def test_equal_students_are_equal_bytes(base, adapter, tmp_path):
    for format in ("merged", "ollama"):
        first, second = (
            export_student(base, adapter, tmp_path / f"{format}{i}", format=format)
            for i in range(2)
        )
        assert first == second


def test_a_changed_file_is_noticed(merged, tmp_path):
    folder = shutil.copytree(merged, tmp_path / "copy")
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(IntegrityError, match=r"model\.safetensors was changed"):
        check_export(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match="lacks its file"):
        check_export(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 99}', '{"name": 3}'])
def test_a_damaged_record_is_an_error_with_a_remedy(tmp_path, content):
    (tmp_path / "reflectory-export.json").write_text(content)
    with pytest.raises(ModelError, match="->"):
        read_export_manifest(tmp_path)
    with pytest.raises(ModelError, match="is no exported student"):
        read_export_manifest(tmp_path / "nowhere")


def test_another_base_is_refused_with_both_fingerprints(base, adapter, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=5)
    with pytest.raises(ModelError, match=r"made for tiny@\w+/float32.*is other@\w+/float32"):
        export_student(other, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["merged", "gguf", "adapter-gguf"])
def test_weights_that_are_no_numbers_are_refused(base, tmp_path, format):
    folder = lora(base, tmp_path / "bad")
    weights = load_file(folder / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="not numbers"):
        export_student(base, folder, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()


def test_a_base_with_infinite_weights_is_refused(tmp_path):
    base = save_tiny_model(tmp_path / "tiny")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"][3, 3] = float("inf")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"base model tiny .* lm_head\.weight"):
        export_student(base, None, tmp_path / "out")


@pytest.mark.parametrize("format", ["merged", "gguf"])
def test_weights_beyond_float16_are_refused(tmp_path, format):
    base = save_tiny_model(tmp_path / "tiny")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"][3, 3] = 1e6
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError):
        export_student(base, None, tmp_path / "out", format=format, number_format="f16")
    assert not (tmp_path / "out").exists()
    export_student(base, None, tmp_path / "out", format=format, number_format="f32")


def test_a_method_without_weights_of_its_own_is_refused(base, tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    model = load_model(base, CPU, torch.float32)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(model, config).save_pretrained(str(tmp_path / "prompt"))
    with pytest.raises(UnsupportedCapability, match=r"cannot be merged.*\n.*beside its base"):
        export_student(base, tmp_path / "prompt", tmp_path / "out")


def test_biases_that_the_base_has_not_are_announced(base, tmp_path):
    report = train_adapter(
        rows_of(8),
        base,
        tmp_path / "biases",
        SMALL.model_copy(update={"method": "bitfit", "target_modules": ("v_proj", "o_proj")}),
        device="cpu",
        dtype="float32",
    )
    assert report.trainable_fraction < 0.01
    export_student(base, tmp_path / "biases", tmp_path / "m", number_format="f32")
    from reflectory.models.engine.loading import Facts, check_adapter
    from reflectory.models.engine.peft_model import put_on

    model = load_model(base, CPU, torch.float32)
    files = check_adapter(tmp_path / "biases", Facts.of(model, ""), None)
    beside = logits(put_on(model, files))
    student = load_model(tmp_path / "m", CPU, torch.float32)
    assert student.config.attention_bias and not student.config.mlp_bias
    assert torch.allclose(logits(student), beside, atol=1e-5)
    assert (beside - logits(load_model(base, CPU, torch.float32))).abs().max() > 0.01
    with pytest.raises(UnsupportedCapability, match=r"bias.*\n.*convert_hf_to_gguf"):
        export_student(base, tmp_path / "biases", tmp_path / "g", format="gguf")


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True}])
def test_kinds_of_lora_are_merged_as_peft_computes_them(base, tmp_path, settings):
    from peft import PeftModel

    folder = lora(base, tmp_path / "a", **settings)
    export_student(base, folder, tmp_path / "m", number_format="f32")
    beside = PeftModel.from_pretrained(load_model(base, CPU, torch.float32), str(folder)).eval()
    student = load_model(tmp_path / "m", CPU, torch.float32)
    assert torch.allclose(logits(student), logits(beside), atol=1e-4)


def test_two_matrices_that_are_one_are_not_changed_apart(tmp_path):
    model, tokenizer = tiny_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    for thing in (model, tokenizer):
        thing.save_pretrained(tmp_path / "tied")
    folder = lora(tmp_path / "tied", tmp_path / "head", target_modules=["lm_head"])
    with pytest.raises(UnsupportedCapability, match=r"lm_head.*reading and writing alike"):
        export_student(tmp_path / "tied", folder, tmp_path / "out")


def test_what_is_asked_for_must_exist(base, adapter, tmp_path):
    for options, message in (
        ({"format": "zip"}, "unknown export format 'zip'"),
        ({"format": "merged", "number_format": "q8_0"}, "merged cannot store q8_0"),
        ({"format": "gguf", "number_format": "q2"}, "gguf cannot store q2"),
    ):
        with pytest.raises(UserError, match=message):
            export_student(base, adapter, tmp_path / "out", **options)
    with pytest.raises(UserError, match="no adapter to export"):
        export_student(base, None, tmp_path / "out", format="adapter-gguf")
    with pytest.raises(ModelError, match="adapter_config"):
        export_student(base, base, tmp_path / "out")


def test_nothing_else_is_ever_replaced(base, adapter, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        export_student(base, adapter, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    export_student(base, adapter, tmp_path / "out", format="gguf")
    export_student(base, adapter, tmp_path / "out", format="merged")
    assert not list((tmp_path / "out").glob("*.gguf"))


@pytest.mark.parametrize("format", ["merged", "gguf", "ollama", "adapter-gguf"])
def test_a_full_disk_leaves_what_was_there(base, adapter, tmp_path, format):
    resource = pytest.importorskip("resource")
    out = tmp_path / "out"
    earlier = export_student(base, adapter, out, format=format, name="earlier")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(StorageError, match="->"):
            export_student(base, adapter, out, format=format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert check_export(out) == earlier
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_too_little_room_is_said_before_anything_is_written(base, tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(StorageError, match="are free"):
        export_student(base, None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_licences_of_bases(tmp_path):
    assert licence_of(tmp_path) == "unknown"
    for card, licence in (
        ("---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense: apache-2.0\n---\nText", "apache-2.0"),
        ("---\n: : :\n", "unknown"),
        ("# A card without facts\n", "unknown"),
        ("---\njust text\n---\n", "unknown"),
    ):
        (tmp_path / "README.md").write_text(card)
        assert licence_of(tmp_path) == licence


def test_a_modelfile_speaks_as_the_chat_template_does(base, adapter, tmp_path):
    manifest = export_student(base, adapter, tmp_path / "o", format="ollama", name="My Student 1")
    text = (tmp_path / "o" / "Modelfile").read_text()
    assert "FROM ./My-Student-1.f16.gguf\n" in text
    assert "My-Student-1.f16.gguf" in manifest.files
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER num_ctx 2048" in text
    assert 'LICENSE """mit"""' in text
    assert "SYSTEM" not in text


def with_template(template):
    tokenizer = tiny_model()[1]
    tokenizer.chat_template = template
    return tokenizer


def test_the_default_system_message_is_kept():
    chatml = tiny_model()[1].chat_template
    start = (
        "{% if messages[0]['role'] != 'system' %}"
        '<|im_start|>system\nBe kind. Say """why""".<|im_end|>\n{% endif %}'
    )
    tokenizer = with_template(start + chatml)
    assert default_system(tokenizer) == "Be kind. Say '''why'''."
    assert 'SYSTEM """Be kind.' in modelfile(tokenizer, "x.gguf", context_window=131072)
    assert "num_ctx 8192" in modelfile(tokenizer, "x.gguf", context_window=131072)


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{% for m in messages %}[INST]{{ m['content'] }}{% endfor %}",
        "{{ raise_exception('no system message') }}",
        "{{ messages[0]['content'] + 3 }}",
    ],
)
def test_other_templates_are_not_guessed(template):
    with pytest.raises(UnsupportedCapability, match=r"ChatML.*\n.*export it as gguf"):
        modelfile(with_template(template), "x.gguf", context_window=100)


def test_the_verb(base, adapter, tmp_path, capsys):
    common = [str(adapter), "--base", str(base)]
    out = str(tmp_path / "student")
    assert run_command(["export", *common, "-o", out, "--format", "ollama", "--type", "q8_0"]) == 0
    assert "37,792 parameters as ollama in q8_0" in capsys.readouterr().out
    assert run_command(["export", *common, "-o", out, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == check_export(out).files
    assert run_command(["export", *common, "-o", out, "--format", "tar"]) == 2
    assert run_command(["export", *common, "-o", out, "--type", "q8_0"]) == 2
    assert run_command(["export", str(tmp_path / "none"), "--base", str(base), "-o", out]) == 2


def test_transformers_reads_the_merged_folder(base, adapter, merged):
    student = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    from peft import PeftModel

    beside = PeftModel.from_pretrained(load_model(base, CPU, torch.float32), str(adapter)).eval()
    assert (logits(student) - logits(beside)).abs().max() < 1e-4
    text = "stone lies, 1908: naïve"
    assert load_tokenizer(merged)(text).input_ids == load_tokenizer(base)(text).input_ids
