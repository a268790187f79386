"""Questions, documents and measures of the retrieval bench."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reflectory import Document

RANKS = (2, 4, 8)


@dataclass(frozen=True)
class Question:
    """A question with the documents that answer it.

    Attributes:
        text: The question.
        gold: Ids of those documents.
        bridge: Whether the second document is named only in the first one.
        answer: The reference, which no retriever sees.
    """

    text: str
    gold: frozenset[str]
    bridge: bool
    answer: str


def hotpotqa(path: Path, *, titles: bool = True) -> tuple[list[Question], list[Document]]:
    """Return the questions and the pooled documents of HotpotQA's rows, each title once."""
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    texts: dict[str, str] = {}
    for row in rows:
        for document in row["documents"]:
            texts.setdefault(document["title"], document["text"])
    ids = {title: f"hotpotqa-{number}" for number, title in enumerate(texts)}
    documents = [
        Document(id=ids[title], title=title if titles else "", text=text)
        for title, text in texts.items()
    ]
    questions = [
        Question(
            row["question"],
            frozenset(ids[title] for title in row["supporting_titles"]),
            row["type"] == "bridge",
            row["answer"],
        )
        for row in rows
    ]
    return questions, documents


def noise(path: Path, taken: Sequence[Document], *, titles: bool = True) -> list[Document]:
    """Return the passages of a corpus as documents, without those that are there already."""
    known = {document.text for document in taken}
    found = []
    for number, line in enumerate(path.open(encoding="utf-8")):
        row = json.loads(line)
        if row["text"] not in known:
            title = row["title"] if titles else ""
            found.append(Document(id=f"noise-{number}", title=title, text=row["text"]))
    return found


def recalls(ranked: Sequence[Sequence[str]], questions: Sequence[Question], k: int) -> list[float]:
    """Return the share of gold documents among the first k distinct ones, per question."""
    return [
        len(question.gold & set(found[:k])) / len(question.gold)
        for found, question in zip(ranked, questions, strict=True)
    ]


def seconds_of(
    dense: Sequence[Sequence[str]], questions: Sequence[Question]
) -> list[tuple[int, str]]:
    """Return the second document of each bridge question, as (question, document).

    That is the gold document that plain dense retrieval ranks lower.
    """

    def rank(found: Sequence[str], document: str) -> int:
        return found.index(document) if document in found else len(found)

    return [
        (number, max(sorted(question.gold), key=lambda d: rank(found, d)))
        for number, (found, question) in enumerate(zip(dense, questions, strict=True))
        if question.bridge
    ]


def measures(
    ranked: Sequence[Sequence[str]],
    dense: Sequence[Sequence[str]],
    questions: Sequence[Question],
) -> dict[str, Any]:
    """Return recall at each rank, its gain over plain dense retrieval, and the second document."""
    result: dict[str, Any] = {}
    for k in RANKS:
        mine, theirs = recalls(ranked, questions, k), recalls(dense, questions, k)
        result[f"recall@{k}"] = float(np.mean(mine))
        if k == 4:
            result["gain@4"] = float(np.mean(mine) - np.mean(theirs))
            result["gain@4_interval"] = interval(np.subtract(mine, theirs))
    seconds = seconds_of(dense, questions)
    for k in RANKS:
        found = [document in ranked[number][:k] for number, document in seconds]
        result[f"second@{k}"] = float(np.mean(found)) if found else None
    return result


def interval(values: Any, *, draws: int = 10_000, seed: int = 0) -> list[float]:
    """Return the paired bootstrap interval (95%) of a mean over questions."""
    rows = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(rows), (draws, len(rows)))
    return [float(bound) for bound in np.quantile(rows[drawn].mean(axis=1), [0.025, 0.975])]


def recombined(documents: Sequence[Document], count: int, seed: int) -> list[Document]:
    """Return so many documents of real sentences, drawn from other documents.

    Each keeps the title of one and is followed by sentences of others, so that names are
    shared as in a real corpus and no two documents are alike.
    """
    from reflectory.retrieval.sentences import sentences

    draw = random.Random(seed)
    pool = [d.text[a:b] for d in documents for a, b in sentences(d.text) if b - a > 20]
    titles = [d.title for d in documents if d.title]
    return [
        Document(
            id=f"recombined-{number}",
            title=draw.choice(titles),
            text=" ".join(draw.choices(pool, k=4)),
        )
        for number in range(count)
    ]
