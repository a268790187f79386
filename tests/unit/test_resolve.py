"""From names to models."""

import asyncio
import subprocess
import sys

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_openai import ChatOpenAI

from reflectory.errors import ModelError
from reflectory.models import resolve
from reflectory.models.langchain import LangChainModel
from reflectory.models.resolve import ModelPool, resolve_embedder, resolve_model
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")


def test_objects_are_taken_as_they_are():
    scripted = ScriptedModel(lambda request: "yes")
    assert resolve_model(scripted) is scripted
    wrapped = resolve_model(FakeListChatModel(responses=["a"]))
    assert isinstance(wrapped, LangChainModel)
    hashing = HashingEmbedder()
    assert resolve_embedder(hashing) is hashing


@pytest.mark.parametrize("wrong", ["", "remote", "local:", ":x", "openai:", 7, None, object()])
def test_anything_else_is_refused_with_what_is_accepted(wrong):
    with pytest.raises(ModelError, match="is no model") as caught:
        resolve_model(wrong)
    assert "local:PATH_OR_HUB_ID" in caught.value.hint and "PROVIDER:MODEL" in caught.value.hint


def test_real_models_are_forbidden_in_tests():
    for spec in ("local", "local:someone/model", "openai:gpt-4.1-mini"):
        with pytest.raises(ModelError, match="REFLECTORY_FORBID_MODELS"):
            resolve_model(spec)
    with pytest.raises(ModelError, match="REFLECTORY_FORBID_MODELS"):
        resolve_model("openai:gpt-4.1-mini", adapter="adapters/first")


def test_provider_becomes_its_chat_model(allowed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    model = resolve_model("openai:some-model")
    assert isinstance(model, LangChainModel) and "some-model" in model.fingerprint
    assert isinstance(model._chat_model, ChatOpenAI)
    assert "sk-not" not in model.fingerprint


def test_missing_key_and_unknown_provider_say_what_to_do(allowed, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="openai:some-model cannot be used") as caught:
        resolve_model("openai:some-model")
    assert "environment variable" in caught.value.hint
    with pytest.raises(ModelError, match="frobnicate"):
        resolve_model("frobnicate:model")


def test_missing_packages_are_named(allowed, monkeypatch):
    with pytest.raises(ModelError, match="langchain-cohere"):
        resolve_model("cohere:command")
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    with pytest.raises(ModelError, match="package langchain") as caught:
        resolve_model("openai:some-model")
    assert "reflectory[providers]" in caught.value.hint


def test_adapters_are_refused_where_nobody_can_load_them(tmp_path):
    chat_model = FakeListChatModel(responses=["a"])
    for spec in ("ollama:llama3.2", "openai:", ScriptedModel(lambda request: "yes"), chat_model):
        with pytest.raises(ModelError, match="takes no adapter folder") as caught:
            resolve_model(spec, adapter=tmp_path)
        assert "OPENAI_BASE_URL" in caught.value.hint


def test_absent_local_folder_is_named(allowed, tmp_path):
    with pytest.raises(ModelError, match="absent"):
        resolve_model(f"local:{tmp_path / 'absent'}")


def test_pool_loads_one_model_for_names_of_one_folder(monkeypatch, tmp_path):
    loaded = []

    def load(spec, **options):
        loaded.append((spec, options["adapter"]))
        return ScriptedModel(lambda request: "yes", name=spec)

    monkeypatch.setattr(resolve, "resolve_model", load)
    (tmp_path / "model").mkdir()
    pool = ModelPool(device="cpu", dtype="float32")
    first = pool.get(f"local:{tmp_path}/model")
    assert pool.get(f"local:{tmp_path}/model/../model") is first
    assert pool.get(f"local:{tmp_path}/model", adapter=tmp_path) is not first
    assert pool.get("openai:x") is pool.get("openai:x") is not pool.get("openai:y")
    assert len(loaded) == 4


def test_pool_shares_one_engine_among_base_and_adapters(allowed, tmp_path):
    from peft import LoraConfig, get_peft_model

    from reflectory.testing.tiny import save_tiny_model, tiny_model

    base = save_tiny_model(tmp_path / "base")
    model, _ = tiny_model(0)
    model.config._name_or_path = str(base)
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(
        tmp_path / "adapter"
    )
    pool = ModelPool(device="cpu", dtype="float32")
    adapted = pool.get(f"local:{base}", adapter=tmp_path / "adapter")
    plain = pool.get(f"local:{base}")
    assert adapted is pool.get(f"local:{base}", adapter=str(tmp_path / "adapter"))
    assert adapted._engine is plain._engine and adapted.fingerprint != plain.fingerprint
    asyncio.run(pool.aclose())


def test_pool_closes_what_it_loaded_and_nothing_else(monkeypatch):
    closed = []

    class Noting(ScriptedModel):
        async def aclose(self):
            closed.append(self.fingerprint)

    monkeypatch.setattr(
        resolve,
        "resolve_model",
        lambda spec, **_: Noting(lambda r: "x", name=spec) if isinstance(spec, str) else spec,
    )
    pool = ModelPool()
    own = Noting(lambda request: "x", name="own")
    assert pool.get(own) is own
    pool.get("a:b")
    asyncio.run(pool.aclose())
    asyncio.run(pool.aclose())
    assert len(closed) == 1 and "a:b" in closed[0]


def test_importing_is_light():
    heavy = ("torch", "transformers", "sentence_transformers", "langchain_core", "huggingface_hub")
    code = (
        "import sys, reflectory.models.resolve, reflectory.models.defaults, "
        f"reflectory.models.device; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
