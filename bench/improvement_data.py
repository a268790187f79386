"""Documents to train on, questions to test on, and what a student reads for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflectory import Document
from reflectory.config import RetrievalConfig
from reflectory.models.embedders import resolve_embedder
from reflectory.models.embedding_cache import CachedEmbedder
from reflectory.retrieval import DocumentRetriever
from reflectory.retrieval import aggregate as aggregate_context
from reflectory.types import Passage

PARTS: dict[str, dict[str, tuple[slice, slice]]] = {
    # rows whose documents are trained on, rows that are tested on
    "reported": {
        "sciq": (slice(0, 60), slice(60, 100)),
        "hotpotqa": (slice(0, 25), slice(25, 50)),
    },
    "development": {
        "sciq": (slice(0, 30), slice(30, 60)),
        "hotpotqa": (slice(0, 12), slice(12, 25)),
    },
}
CONTEXT = {"sciq": 3, "hotpotqa": 4}
"""Passages that a question is answered from; SciQ's paragraphs are one pool."""

BUDGET = RetrievalConfig(passages=4, context_tokens=600)


@dataclass(frozen=True)
class Question:
    """A question of the test, with its reference, which no model sees."""

    set: str
    text: str
    reference: str


def read_rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Return all rows of a set."""
    file = {"sciq": "sciq_100.jsonl", "hotpotqa": "hotpotqa_dev50.jsonl"}[name]
    return [json.loads(line) for line in (data / file).open(encoding="utf-8")]


def documents_of(name: str, rows: Sequence[dict[str, Any]]) -> list[Document]:
    """Return the documents of rows, each text once, without questions and answers."""
    found: dict[str, Document] = {}
    for row in rows:
        parts = row["documents"] if name == "hotpotqa" else [{"title": "", "text": row["document"]}]
        for part in parts:
            if part["text"].strip():
                key = f"{name}-{len(found)}"
                found.setdefault(
                    part["text"], Document(id=key, title=part["title"], text=part["text"])
                )
    return list(found.values())


class Corpus:
    """What the bench reads.

    Args:
        data: Folder of the two question files.
        part: ``reported`` or ``development``.
        count_tokens: The student's.
    """

    def __init__(self, data: Path, part: str, count_tokens: Callable[[str], int]) -> None:
        self._rows = {name: read_rows(data, name) for name in CONTEXT}
        self._split = PARTS[part]
        self._count = count_tokens
        self._embedder = resolve_embedder("local")
        trained = []
        for name, (train, test) in self._split.items():
            kept_out = {d.text for d in documents_of(name, self._rows[name][test])}
            own = documents_of(name, self._rows[name][train])
            trained += [d for d in own if d.text not in kept_out]
        self.documents = trained
        self.training = self._retriever(trained)

    @property
    def questions(self) -> list[Question]:
        """The test, set by set."""
        return [
            Question(name, row["question"], row["answer"])
            for name, (_, test) in self._split.items()
            for row in self._rows[name][test]
        ]

    def _retriever(self, documents: Sequence[Document]) -> DocumentRetriever:
        return DocumentRetriever(
            list(documents),
            self._embedder,
            BUDGET,
            count_tokens=self._count,
            passage_embedder=CachedEmbedder(self._embedder),
        )

    async def passages(self) -> list[Passage]:
        """Return the passages that may be trained on."""
        return list((await self.training.index()).passages)

    async def read_for_training(self, question: str) -> list[Passage]:
        """Return what a student reads for a practice question."""
        return await self._read(self.training, question, BUDGET.passages)

    async def contexts(self) -> list[list[Passage]]:
        """Return what every student reads for the questions of the test: the same for all."""
        pool = self._retriever(documents_of("sciq", self._rows["sciq"]))
        found = []
        for name, (_, test) in self._split.items():
            for row in self._rows[name][test]:
                own = pool if name == "sciq" else self._retriever(documents_of(name, [row]))
                found.append(await self._read(own, row["question"], CONTEXT[name]))
        return found

    async def _read(self, retriever: DocumentRetriever, question: str, limit: int) -> Any:
        scored = await retriever.retrieve(question, per_document=2, limit=2 * limit)
        return aggregate_context(
            scored, limit=limit, token_budget=BUDGET.context_tokens, count_tokens=self._count
        )
