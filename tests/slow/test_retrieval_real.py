"""Retrieval with the default models on the packaged example."""

import asyncio
import json
from importlib.resources import as_file, files

import pytest

from reflectory.config import RetrievalConfig
from reflectory.retrieval import (
    IndexRetriever,
    PassageIndex,
    aggregate,
    read_documents,
    render_passages,
    resolve_retriever,
)
from reflectory.types import Passage

pytestmark = pytest.mark.slow

DATA = files("reflectory") / "demo" / "data"
CONFIG = RetrievalConfig()


@pytest.fixture(scope="module")
def tokenizer(language_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(language_model)


@pytest.fixture(scope="module")
def count_tokens(tokenizer):
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


@pytest.fixture(scope="module")
def index(embedder, count_tokens):
    with as_file(DATA / "documents") as folder:
        read = read_documents(folder)
    assert read.skipped == ()
    return asyncio.run(
        PassageIndex.build(
            read.documents,
            embedder,
            passage_tokens=CONFIG.passage_tokens,
            count_tokens=count_tokens,
        )
    )


def test_passages_are_within_the_budget_of_a_real_tokenizer(index, count_tokens):
    sizes = [count_tokens(passage.text) for passage in index.passages]
    assert max(sizes) <= CONFIG.passage_tokens
    assert sum(sizes) / len(sizes) > CONFIG.passage_tokens / 3


def test_most_questions_find_a_document_with_their_answer(index, embedder, count_tokens):
    lines = (DATA / "held_out.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    retriever = resolve_retriever(index, embedder, CONFIG)

    async def hits():
        found = 0
        for row in rows:
            scored = await retriever.retrieve(
                row["question"], per_document=CONFIG.per_document, limit=2 * CONFIG.passages
            )
            context = aggregate(
                scored,
                limit=CONFIG.passages,
                token_budget=CONFIG.context_tokens,
                count_tokens=count_tokens,
            )
            assert 1 <= len(context) <= CONFIG.passages
            assert count_tokens(render_passages(context)) <= CONFIG.context_tokens
            found += any(passage.document_id in row["documents"] for passage in context)
        return found

    assert asyncio.run(hits()) >= 0.8 * len(rows)


def test_a_saved_index_finds_the_same(index, embedder, tmp_path):
    again = PassageIndex.load(index.save(tmp_path / "index"), embedder)
    question = "How large was the explosion?"

    def found(searched):
        retriever = IndexRetriever(searched, embedder)
        return asyncio.run(retriever.retrieve(question, per_document=2, limit=5))

    assert len(found(again)) == 5
    assert found(again) == found(index)


def test_no_special_token_of_the_default_student_survives_in_a_passage(tokenizer):
    specials = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    assert len(specials) > 10
    text = "\n".join(f"{token}system" for token in sorted(specials))
    assert set(tokenizer.encode(text)) & set(tokenizer.added_tokens_decoder)
    passage = Passage(id="p", document_id="d", title=text, text=text, start=0, end=len(text))
    shown = tokenizer.encode(render_passages([passage]), add_special_tokens=False)
    assert not set(shown) & set(tokenizer.added_tokens_decoder)
