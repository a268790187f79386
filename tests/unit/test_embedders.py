"""Embedders that need no model, and the parts of those that do."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from reflectory.errors import BackendError, ModelError
from reflectory.models.embedders import (
    BATCH_TEXTS,
    LangChainEmbedder,
    SentenceTransformerEmbedder,
    _batches_of_equal_length,
    resolve_embedder,
    unit,
)
from reflectory.models.protocol import Embedder
from reflectory.testing.embedder import HashingEmbedder

TEXTS = st.lists(st.text(max_size=40), max_size=8)


def embed(embedder, texts):
    return asyncio.run(embedder.embed(texts))


@settings(deadline=None)
@given(TEXTS)
def test_hashing_keeps_the_contract(texts):
    embedder = HashingEmbedder(64)
    vectors = embed(embedder, texts)
    assert vectors.shape == (len(texts), 64) and vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(lengths, 1.0, atol=1e-6) | (lengths == 0.0))
    for row, text in enumerate(texts):
        assert np.array_equal(embed(embedder, [text])[0], vectors[row])


def test_hashing_puts_similar_texts_near():
    near, far, case = embed(
        HashingEmbedder(),
        ["the crater is old", "bread needs flour and water", "THE crater, is OLD."],
    )
    question = embed(HashingEmbedder(), ["how old is the crater"])[0]
    assert question @ near > 0.7 > 0.2 > question @ far
    assert np.array_equal(near, case)
    assert not embed(HashingEmbedder(), ["", " ,.!"]).any()


def test_hashing_is_the_same_in_another_process():
    code = (
        "import asyncio; from reflectory.testing.embedder import HashingEmbedder; "
        "print(asyncio.run(HashingEmbedder(8).embed(['one two two'])).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == embed(HashingEmbedder(8), ["one two two"]).tobytes().hex()
    with pytest.raises(ValueError, match="at least 1"):
        HashingEmbedder(0)


class Words:
    """A model that counts words as tokens and reads at most six of them."""

    max_seq_length = 6

    @staticmethod
    def tokenizer(texts, truncation, max_length):
        ids = [text.split() for text in texts]
        return {"input_ids": [row[:max_length] if truncation else row for row in ids]}


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=120))
def test_batches_hold_equal_lengths_only_and_every_text_once(lengths):
    texts = ["w " * n for n in lengths]
    batches = list(_batches_of_equal_length(texts, Words()))
    assert sorted(row for batch in batches for row in batch) == [
        row for row, n in enumerate(lengths) if n > 0
    ]
    for batch in batches:
        assert 1 <= len(batch) <= BATCH_TEXTS
        assert len({min(lengths[row], 6) for row in batch}) == 1


def test_unit_leaves_zeros_alone():
    vectors = unit(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    assert vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_langchain_embeddings_are_normalised_and_blank_texts_are_zeros():
    embedder = LangChainEmbedder(DeterministicFakeEmbedding(size=12))
    vectors = embed(embedder, ["one", "", "two"])
    assert vectors.shape == (3, 12) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0, 0.0, 1.0], abs=1e-6)
    assert np.allclose(embed(embedder, ["two"])[0], vectors[2], atol=1e-6)
    assert isinstance(embedder, Embedder)


def test_langchain_dimension_is_known_without_texts():
    embedder = LangChainEmbedder(DeterministicFakeEmbedding(size=12))
    assert embed(embedder, [""]).shape == (1, 12)
    assert LangChainEmbedder(DeterministicFakeEmbedding(size=5)).dimension == 5


class Broken(Embeddings):
    def __init__(self, answer):
        self.answer = answer
        self.api_key = "sk-very-secret-key"

    def embed_documents(self, texts):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def embed_query(self, text):
        raise self.answer


def test_langchain_failures_are_told_without_keys():
    broken = LangChainEmbedder(Broken(ConnectionError("lost sk-very-secret-key")))
    with pytest.raises(BackendError) as caught:
        embed(broken, ["text"])
    assert caught.value.retryable and "secret" not in str(caught.value)
    with pytest.raises(BackendError):
        _ = broken.dimension
    with pytest.raises(ModelError, match="0 vectors for 1 texts"):
        embed(LangChainEmbedder(Broken([])), ["text"])
    assert "secret" not in broken.fingerprint


def test_langchain_fingerprint_follows_the_settings():
    a, b = (LangChainEmbedder(DeterministicFakeEmbedding(size=n)).fingerprint for n in (4, 5))
    assert a != b
    assert a == LangChainEmbedder(DeterministicFakeEmbedding(size=4)).fingerprint
    assert LangChainEmbedder(DeterministicFakeEmbedding(size=4), name="x").fingerprint.endswith("x")


def test_what_can_be_an_embedder():
    hashing = HashingEmbedder()
    assert resolve_embedder(hashing) is hashing
    assert isinstance(resolve_embedder(DeterministicFakeEmbedding(size=3)), LangChainEmbedder)
    for wrong in ("remote", "local:", "openai:text-embedding-3-small", "", 7, None):
        with pytest.raises(ModelError, match="no embedder") as caught:
            resolve_embedder(wrong)
        assert "local:PATH_OR_HUB_ID" in caught.value.hint


def test_absent_and_empty_folders_are_refused_before_anything_is_loaded(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="REFLECTORY_FORBID_MODELS"):
        resolve_embedder("local")
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")
    for wrong in (tmp_path, tmp_path / "absent", "no-slash-and-no-folder"):
        with pytest.raises(ModelError, match="no embedder in"):
            SentenceTransformerEmbedder(wrong, device="cpu")


def test_fingerprint_depends_on_what_decides_a_vector(monkeypatch, tmp_path):
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")

    def fingerprint(**changes):
        files = {
            "config.json": "{}",
            "modules.json": "[]",
            "model.safetensors": "weights",
            "config_sentence_transformers.json": '{"__version__": "5"}',
        }
        for name, text in {**files, **changes}.items():
            (tmp_path / name).write_text(text)
        return SentenceTransformerEmbedder(tmp_path, device="cpu").fingerprint

    base = fingerprint()
    assert base.startswith(f"{tmp_path.name}@") and base.endswith("/float32")
    assert str(tmp_path.parent) not in base
    assert fingerprint(**{"config_sentence_transformers.json": '{"__version__": "6"}'}) == base
    prompts = '{"prompts": {"query": "q: "}, "default_prompt_name": "query"}'
    assert fingerprint(**{"config_sentence_transformers.json": prompts}) != base
    assert fingerprint(**{"model.safetensors": "other"}) != base
