"""Adapters on servers: the documented ways of three of them, against a real client and sockets."""

import asyncio
import json
import os
import shutil

import numpy as np
import pytest
from langchain_openai import ChatOpenAI
from openai_server import hash_in, running_server
from safetensors.numpy import save_file

from reflectory.errors import BackendError, ModelError
from reflectory.models.adapter_files import read_adapter
from reflectory.models.protocol import Request, Segment
from reflectory.models.resolve import ModelPool, resolve_model

KEY = "sk-test-0123456789abcdef"
QUESTION = Request(segments=(Segment(text="Why?"),), role="student.answer")


def save_adapter(folder, seed=0, rank=4, **config):
    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(rank, 8)).astype("float32")
    save_file({"layer.lora_A.weight": weights}, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "target_modules": ["q", "k"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def first(tmp_path):
    return save_adapter(tmp_path / "first")


@pytest.fixture
def at(monkeypatch):
    """Return a function that lets ``openai:`` lead to a server."""
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return lambda server: monkeypatch.setenv("OPENAI_BASE_URL", server.url)


def ask(model):
    return asyncio.run(model.complete(QUESTION))


def test_vllm_loads_the_folder_and_serves_it_as_a_model(at, first):
    with running_server(kind="vLLM") as server:
        at(server)
        plain, adapted = (
            resolve_model("openai:served"),
            resolve_model("openai:served", adapter=first),
        )
        assert ask(plain).text == ask(adapted).text == "Hello."
        path, body, key = next(asked for asked in server.asked if asked[1])
        assert path == "/v1/load_lora_adapter" and key == f"Bearer {KEY}"
        assert body == {"lora_name": body["lora_name"], "lora_path": str(first)}
        assert hash_in(body["lora_name"]) == read_adapter(first).digest
        assert [sent["model"] for sent in server.seen] == ["served", body["lora_name"]]
        assert adapted.fingerprint == f"{plain.fingerprint}+adapter@{read_adapter(first).digest}"
        resolve_model("openai:served", adapter=first)  # it has it already
        assert len(server.adapters) == 1


def test_sglang_loads_the_folder_and_requests_name_it_in_the_body(at, first):
    with running_server(kind="SGLang") as server:
        at(server)
        for _ in range(2):  # the second time it has it already
            ask(resolve_model("openai:served", adapter=first))
        name = read_adapter(first).name
        assert [(sent["model"], sent["lora_path"]) for sent in server.seen] == [
            ("served", name)
        ] * 2
        assert ("/load_lora_adapter", f"Bearer {KEY}") in [(p, k) for p, _, k in server.asked]


def test_llama_cpp_chooses_the_file_that_has_the_hash_in_its_name(at, first):
    name = read_adapter(first).name
    with running_server(kind="llama.cpp", files=("a/other.gguf", f"b/{name}-f16.gguf")) as server:
        at(server)
        ask(resolve_model("openai:served", adapter=first))
        assert server.seen[0]["lora"] == [{"id": 1, "scale": 1.0}]


def test_llama_cpp_chooses_the_file_in_the_folder_unless_it_is_older(at, first):
    file = first / "adapter.gguf"
    file.touch()
    with running_server(kind="llama.cpp", files=(str(file),)) as server:
        at(server)
        ask(resolve_model("openai:served", adapter=first))
        assert server.seen[0]["lora"] == [{"id": 0, "scale": 1.0}]
        os.utime(file, (1, 1))  # as if the adapter had been trained again since
        with pytest.raises(ModelError, match="has 0 files"):
            resolve_model("openai:served", adapter=first)


@pytest.mark.parametrize("files", [(), ("first.gguf",), ("first/adapter.gguf",), ("x", "y")])
def test_llama_cpp_never_takes_a_file_for_its_name_alone(at, first, files):
    """Every round may call its folder ``adapter``; the name says nothing of the content."""
    with running_server(kind="llama.cpp", files=files) as server:
        at(server)
        with pytest.raises(ModelError, match="has 0 files") as caught:
            resolve_model("openai:served", adapter=first)
        assert f"--lora-scaled {read_adapter(first).name}.gguf:0" in caught.value.hint
        assert all(file in str(caught.value) for file in files)


def test_llama_cpp_must_not_put_its_adapters_on_the_base_model(at, first):
    """What --lora does, and --lora-init-without-apply too in the version that was tried."""
    files = (f"{read_adapter(first).name}.gguf",)
    with running_server(kind="llama.cpp", files=files, scale=1.0) as server:
        at(server)
        with pytest.raises(ModelError, match="base model's requests too") as caught:
            resolve_model("openai:served", adapter=first)
        assert "--lora-scaled FILE:0" in caught.value.hint


@pytest.mark.parametrize(("files", "scale"), [(("a.gguf", "b.gguf"), 0.0), (("a.gguf",), 1.0)])
def test_llama_cpp_is_told_its_scales_by_requests_without_adapter(at, files, scale):
    """A request that says nothing gets what the prompt cache holds of another adapter."""
    with running_server(kind="llama.cpp", files=files, scale=scale) as server:
        at(server)
        model = resolve_model("openai:served")
        ask(model)
        told = [{"id": i, "scale": scale} for i in range(len(files))]
        assert server.seen[0]["lora"] == told and "adapter" not in model.fingerprint


@pytest.mark.parametrize("kind", ["plain", "vLLM", "SGLang", "llama.cpp"])
def test_no_server_without_adapters_is_told_anything(at, kind):
    with running_server(kind=kind) as server:
        at(server)
        ask(resolve_model("openai:served"))
        assert not {"lora", "lora_path"} & set(server.seen[0])
    resolve_model("openai:served")  # a server that is away is left to the calls


@pytest.mark.parametrize("tag", ["", ":latest"])
def test_any_server_may_have_a_model_of_the_name(at, first, tag):
    name = read_adapter(first).name + tag
    with running_server(adapters={name: ""}) as server:
        at(server)
        ask(resolve_model("openai:served", adapter=first))
        assert server.seen[0]["model"] == name


def test_a_server_that_cannot_is_named_with_the_remedy(at, first):
    with running_server() as server:
        at(server)
        with pytest.raises(ModelError, match="no way to load") as caught:
            resolve_model("openai:served", adapter=first)
        assert server.url in str(caught.value) and str(first) in str(caught.value)
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in caught.value.hint
        assert read_adapter(first).name in caught.value.hint
        assert server.seen == []


def test_what_the_server_says_against_an_adapter_is_told(at, first, tmp_path):
    with running_server(kind="vLLM") as server:
        at(server)
        with pytest.raises(ModelError, match="max_lora_rank 16") as caught:
            resolve_model("openai:served", adapter=save_adapter(tmp_path / "wide", rank=32))
        assert "--max-lora-rank" in caught.value.hint
        server.load_as_vllm = lambda self, body: self.error(404, f"No adapter found, key {KEY}")
        with pytest.raises(ModelError, match="No adapter found") as caught:
            resolve_model("openai:served", adapter=first)
        assert "its own disk" in caught.value.hint and KEY not in str(caught.value)


def test_a_success_without_the_adapter_is_not_believed(at, first):
    """As from a gateway that answers every path."""
    with running_server(absent=lambda self: self.send(200, "<html>Welcome</html>")) as server:
        at(server)
        with pytest.raises(ModelError, match="Welcome"):
            resolve_model("openai:served", adapter=first)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, ModelError), (403, ModelError), (429, BackendError), (503, BackendError)],
)
def test_keys_and_failures_are_told_apart(at, first, status, kind):
    with running_server(absent=lambda self: self.error(status, f"no, {KEY}")) as server:
        at(server)
        with pytest.raises(kind, match=f"answered {status}") as caught:
            resolve_model("openai:served", adapter=first)
        assert KEY not in str(caught.value) and getattr(caught.value, "retryable", True)


def test_a_server_that_is_not_there_is_a_retryable_failure(at, first):
    with running_server() as server:
        at(server)
    with pytest.raises(BackendError, match="cannot be reached") as caught:
        resolve_model("openai:served", adapter=first)
    assert caught.value.retryable


def test_keys_do_not_follow_redirects(at, first):
    with (
        running_server() as other,
        running_server(moved_to=other.url.removesuffix("/v1")) as server,
    ):
        at(server)
        with pytest.raises(ModelError, match="answered 302"):
            resolve_model("openai:served", adapter=first)
        assert server.asked and other.asked == []


@pytest.mark.parametrize(
    "address", [None, "https://api.openai.com/v1", "https://eu.api.openai.com"]
)
def test_openai_itself_is_never_asked(at, first, monkeypatch, address):
    """The fast tier forbids the network, so a request would be another failure."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    if address:
        monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ModelError, match="OpenAI's own service") as caught:
        resolve_model("openai:gpt", adapter=first)
    assert "OPENAI_BASE_URL" in caught.value.hint


def test_folders_without_safetensors_are_refused_before_any_request(at, first, tmp_path):
    with running_server(kind="vLLM") as server:
        at(server)
        (first / "adapter_model.safetensors").rename(first / "adapter_model.bin")
        with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
            resolve_model("openai:served", adapter=first)
        with pytest.raises(ModelError, match=r"adapter_config\.json is missing"):
            resolve_model("openai:served", adapter=tmp_path)
        for config in ("{}", "[]", "no JSON", '{"peft_type": "IA3"}'):
            (tmp_path / "adapter_config.json").write_text(config)
            (tmp_path / "adapter_model.safetensors").touch()
            with pytest.raises(ModelError, match="cannot be read"):
                resolve_model("openai:served", adapter=tmp_path)
        assert server.asked == []


def test_the_name_is_that_of_the_content(tmp_path):
    one = save_adapter(tmp_path / "000" / "adapter", base_model_name_or_path="/here")
    same = save_adapter(tmp_path / "001" / "adapter", base_model_name_or_path="/there")
    other = save_adapter(tmp_path / "002" / "adapter", seed=1)
    scaled = save_adapter(tmp_path / "003" / "adapter", lora_alpha=99)
    names = [read_adapter(folder).name for folder in (one, same, other, scaled)]
    assert names[0] == names[1] and len(set(names)) == 3
    odd = save_adapter(tmp_path / "my ädapter/..odd name")
    assert hash_in(read_adapter(odd).name) == read_adapter(odd).digest
    assert read_adapter(save_adapter(tmp_path / "p", rank_pattern={"q": 32})).rank == 32


def test_the_hash_is_that_of_a_local_model(tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model

    from reflectory.testing.tiny import save_tiny_model, tiny_model

    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")
    base, (model, _) = save_tiny_model(tmp_path / "base"), tiny_model()
    model.config._name_or_path = str(base)
    get_peft_model(model, LoraConfig(r=2)).save_pretrained(tmp_path / "adapter")
    local = resolve_model(
        f"local:{base}", device="cpu", dtype="float32", adapter=tmp_path / "adapter"
    )
    assert local.fingerprint.endswith(f"+adapter@{read_adapter(tmp_path / 'adapter').digest}")


def test_rounds_in_folders_of_one_name_are_two_models_to_pool_and_server(at, tmp_path):
    rounds = [save_adapter(tmp_path / f"00{n}" / "adapter", seed=n) for n in (0, 1)]
    with running_server(kind="vLLM") as server:
        at(server)
        pool = ModelPool()
        models = [pool.get("openai:served", adapter=folder) for folder in rounds]
        assert pool.get("openai:served", adapter=rounds[0]) is models[0]
        for model in models:
            ask(model)
        assert len({model.fingerprint for model in models}) == 2
        assert len({sent["model"] for sent in server.seen}) == 2
        shutil.rmtree(rounds[0])  # what a server has loaded, it has
        assert ask(models[0]).text == "Hello."


def test_fields_of_the_users_own_stay(first):
    from reflectory.models.server_lora import serve_adapter

    with running_server(kind="SGLang") as server:
        chat = ChatOpenAI(model="served", base_url=server.url, api_key=KEY, extra_body={"top_k": 5})
        adapted = serve_adapter(chat, first).applied_to(chat)
        assert adapted.extra_body == {"top_k": 5, "lora_path": read_adapter(first).name}
        assert chat.extra_body == {"top_k": 5}


def test_a_model_outlives_the_event_loop_of_its_first_call(at):
    with running_server(protocol_version="HTTP/1.1") as server:  # it keeps connections
        at(server)
        for n in range(1, 4):
            assert ask(resolve_model("openai:served")).text == "Hello."
            assert len(server.seen) == n  # nothing was asked twice


def test_two_servers_are_two_models(at):
    with running_server() as one, running_server() as other:
        at(one)
        first = resolve_model("openai:served").fingerprint
        at(other)
        assert resolve_model("openai:served").fingerprint != first
        assert one.url not in first
