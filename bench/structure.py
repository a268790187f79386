"""Which extractor? Names and relations on gold sentences, recall of gold documents, time.

    python bench/structure.py --hotpotqa FILE --spacy PACKAGE --json out.json

Three comparisons of the rules with a spaCy pipeline (left out when none is named):

- precision and recall of names and of who did what, on the sentences of
  ``tests/unit/data/who_did_what.jsonl`` (the rules were corrected on those for
  development only), and how far the names of both agree on the documents of the rows;
- recall of gold documents when the extractor's entities carry a walk from the
  passages that dense and lexical search find first, titles given and removed;
- milliseconds of processor time for 100 words.

Rows are those of HotpotQA's distractor setting, their documents pooled. Without the
file only the sentences are compared. Run it with one thread for times that can be
compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reflectory.retrieval.passages import estimate_tokens, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.structure import (
    EntityLinks,
    Extraction,
    Extractor,
    NameFinder,
    link_entities,
    name_key,
    resolve_extractor,
    structure_of,
)
from reflectory.retrieval.structure.lexicon import ADVERBS, AUXILIARIES, PREPOSITIONS
from reflectory.types import Document, Passage

GOLD = Path(__file__).parent.parent / "tests/unit/data/who_did_what.jsonl"
WEAK = {"date", "number", "group"}
CUTS = (2, 4, 8)
_BESIDE = AUXILIARIES | PREPOSITIONS | ADVERBS


def names_of(extraction: Extraction) -> set[str]:
    """Return the keys of the names of a text; dates, numbers and nationalities do not count."""
    return {name_key(m.name) for m in extraction.mentions if m.kind not in WEAK} - {""}


def is_same(found: tuple[str, str, str], gold: Sequence[str]) -> bool:
    """Return whether a relation is the gold one.

    Subject and object agree when the words of one are words of the other ("film",
    "1994 American film"), and verbs when their last content word is the same.
    """
    ends = ((found[0], gold[0]), (found[2], gold[2]))
    for one, other in ends:
        first, second = set(name_key(one).split()), set(name_key(other).split())
        if not first or not (first <= second or second <= first):
            return False
    return verb_of(found[1]) == verb_of(gold[1])


def verb_of(words: str) -> str:
    """Return the last word of a verb group that is no auxiliary, preposition or adverb."""
    found = name_key(words).split()
    content = [word for word in found if word not in _BESIDE]
    return (content or found or [""])[-1]


def shares(right: int, found: int, gold: int) -> dict[str, float]:
    """Return precision, recall and F1."""
    precision, recall = right / max(1, found), right / max(1, gold)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {"precision": round(precision, 3), "recall": round(recall, 3), "f1": round(f1, 3)}


def on_sentences(extractor: Extractor, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how well an extractor finds the names and relations of gold sentences."""
    names, relations = [0, 0, 0], [0, 0, 0]
    for row, found in zip(rows, extractor.extract([r["text"] for r in rows]), strict=True):
        gold = {name_key(name) for name in row["names"]}
        keys = names_of(found)
        names = [
            a + b for a, b in zip(names, (len(gold & keys), len(keys), len(gold)), strict=True)
        ]
        left = [(r.subject, r.verb, r.object) for r in found.relations]
        relations[1] += len(left)
        relations[2] += len(row["relations"])
        for triple in row["relations"]:
            match = next((r for r in left if is_same(r, triple)), None)
            if match is not None:
                left.remove(match)
                relations[0] += 1
    return {"names": shares(*names), "relations": shares(*relations)}


class Pool:
    """The documents of all rows, cut into passages, with their dense and lexical scores."""

    def __init__(self, rows: Sequence[dict[str, Any]], *, titles: bool) -> None:
        texts = {d["title"]: d["text"] for row in rows for d in row["documents"]}
        self.ids = {title: f"d{number}" for number, title in enumerate(texts)}
        self.documents = [
            preprocess(Document(id=self.ids[title], title=title if titles else "", text=text))
            for title, text in texts.items()
        ]
        self.passages: list[Passage] = [
            passage
            for document in self.documents
            for passage in split_passages(document, max_tokens=120, count_tokens=estimate_tokens)
        ]
        place = {document.id: number for number, document in enumerate(self.documents)}
        self.owner = np.array([place[passage.document_id] for passage in self.passages])
        self.questions = [row["question"] for row in rows]
        self.gold = [{self.ids[title] for title in row["supporting_titles"]} for row in rows]
        self.fused = self._fused([f"{p.title}\n{p.text}".strip() for p in self.passages])

    def _fused(self, texts: list[str]) -> list[np.ndarray]:
        import bm25s

        from reflectory.models.embedders import resolve_embedder

        embedder = resolve_embedder("local")
        vectors = np.asarray(asyncio.run(embedder.embed(texts)))
        queries = np.asarray(asyncio.run(embedder.embed(self.questions)))
        lexical = bm25s.BM25()
        lexical.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        found = []
        for question, query in zip(self.questions, queries, strict=True):
            words = bm25s.tokenize([question], show_progress=False, return_ids=False)[0]
            found.append(
                0.7 * standard(vectors @ query) + 0.3 * standard(lexical.get_scores(words))
            )
        return found

    def recall(self, scores: Sequence[np.ndarray]) -> dict[str, float]:
        """Return the share of gold documents among the first k, for each cut."""
        found = dict.fromkeys(CUTS, 0.0)
        for gold, row in zip(self.gold, scores, strict=True):
            order = np.argsort(-row, kind="stable")
            ranked = list(dict.fromkeys(self.passages[at].document_id for at in order))
            for cut in CUTS:
                found[cut] += len(gold & set(ranked[:cut])) / len(gold) / len(self.gold)
        return {f"@{cut}": round(value, 3) for cut, value in found.items()}


def standard(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and deviation 1."""
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def entity_matrix(pool: Pool, links: EntityLinks) -> np.ndarray:
    """Return how strongly each passage is tied to each entity that several passages share."""
    weights = np.zeros((len(pool.passages), len(links.keys)), dtype=np.float32)
    for number, passage in enumerate(pool.passages):
        document = pool.owner[number]
        for entity, start, end in links.mentions[document]:
            if passage.start <= start and end <= passage.end:
                weights[number, entity] = min(weights[number, entity] + 1, 3)
        for entity in links.about[document]:
            weights[number, entity] += 2
    shared = (weights > 0).sum(axis=0)
    rarity = np.where(shared > 1, np.log(1 + len(pool.passages) / np.maximum(shared, 1)), 0)
    return np.asarray(np.log1p(weights) * rarity)


def walked(pool: Pool, extractor: Extractor, extractions: Sequence[Extraction]) -> list[np.ndarray]:
    """Return scores of a short random walk from the best passages over entities."""
    structures = [
        structure_of(document, found)
        for document, found in zip(pool.documents, extractions, strict=True)
    ]
    links = link_entities(pool.documents, structures)
    about = {links.keys[e] for row in links.about for e in row}
    finder = NameFinder(links.keys, about, extractor, links.aliases)
    ties = entity_matrix(pool, links)
    to_entity = ties / np.maximum(ties.sum(axis=1, keepdims=True), 1e-9)
    to_passage = ties.T / np.maximum(ties.sum(axis=0)[:, None], 1e-9)
    scores = []
    for question, fused in zip(pool.questions, pool.fused, strict=True):
        named = set(finder.find(question))
        is_named = np.array([bool(named & set(links.about[d])) for d in pool.owner])
        start = fused + is_named
        seed = np.zeros(len(start))
        best = np.argsort(-start, kind="stable")[:10]
        seed[best] = np.exp((start[best] - start[best[0]]) / 0.5)
        seed /= seed.sum()
        at = seed
        for _ in range(3):
            at = 0.5 * seed + 0.5 * (at @ to_entity @ to_passage)
        scores.append(standard(start) + 3 * standard(np.log(at + 1e-5)))
    return scores


def timed(extractor: Extractor, texts: list[str]) -> tuple[list[Extraction], float]:
    """Return extractions and the milliseconds of processor time per 100 words."""
    extractor.extract(texts[:2])  # what is loaded once does not count
    began = time.process_time()
    found = extractor.extract(texts)
    words = sum(len(text.split()) for text in texts)
    return found, (time.process_time() - began) * 1e5 / words


def agreement(one: Sequence[Extraction], other: Sequence[Extraction]) -> dict[str, float]:
    """Return precision and recall of the names of one extractor with those of another as gold."""
    pairs = [(names_of(a), names_of(b)) for a, b in zip(one, other, strict=True)]
    return shares(
        sum(len(a & b) for a, b in pairs),
        sum(len(a) for a, _ in pairs),
        sum(len(b) for _, b in pairs),
    )


def main() -> None:
    """Compare, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hotpotqa", type=Path, help="rows of HotpotQA as JSON Lines")
    parser.add_argument("--spacy", default="", help="package or folder of a spaCy pipeline")
    parser.add_argument("--json", type=Path, help="where to save the numbers")
    options = parser.parse_args()
    extractors = [resolve_extractor("rules")]
    if options.spacy:
        extractors.append(resolve_extractor(f"spacy:{options.spacy}"))
    else:
        print("no --spacy: only the rules are measured")
    gold = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]
    result: dict[str, Any] = {"python": platform.python_version(), "sentences": len(gold)}
    for extractor in extractors:
        result[extractor.fingerprint] = {
            split: on_sentences(extractor, [row for row in gold if row["split"] == split])
            for split in ("development", "held out")
        }
    if options.hotpotqa is None or not options.hotpotqa.exists():
        print(f"no rows of HotpotQA ({options.hotpotqa}): recall and time are left out")
    else:
        lines = options.hotpotqa.read_text(encoding="utf-8").splitlines()
        compare_on_rows([json.loads(line) for line in lines], extractors, result)
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def compare_on_rows(
    rows: Sequence[dict[str, Any]], extractors: Sequence[Extractor], result: dict[str, Any]
) -> None:
    """Add recall, agreement and time to the result."""
    found: list[list[Extraction]] = []
    for titles in (True, False):
        pool = Pool(rows, titles=titles)
        name = "titles" if titles else "no titles"
        result[f"search, {name}"] = pool.recall(pool.fused)
        for number, extractor in enumerate(extractors):
            if titles:
                extractions, cost = timed(extractor, [d.text for d in pool.documents])
                found.append(extractions)
                result[extractor.fingerprint]["ms per 100 words"] = round(cost, 2)
            scores = walked(pool, extractor, found[number])
            result[extractor.fingerprint][f"recall, {name}"] = pool.recall(scores)
    if len(found) > 1:
        result["names of the first, those of the second as gold"] = agreement(found[0], found[1])


if __name__ == "__main__":
    main()
