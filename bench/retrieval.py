"""Does retrieval find the second document? Each layer, beside its peers.

    python bench/retrieval.py DATA --json out.json
    python bench/retrieval.py DATA --settings small --peers
    python bench/retrieval.py DATA --settings large

DATA is a folder with ``hotpotqa_dev50.jsonl`` (HotpotQA's distractor setting; the
documents of all rows are pooled) and ``2wiki_corpus.jsonl`` (passages of another data
set, mixed in as noise). Settings: ``small`` is the pooled documents alone, ``noisy``
with the other corpus, ``large`` adds documents recombined from real sentences up to
``--large`` passages. Small and noisy are also measured with the titles taken away.

Recall is that of the gold documents among the first 2, 4 and 8 distinct documents. The
second document of a bridge question is the gold one that plain dense retrieval ranks
lower. Gains are against plain dense retrieval, with paired bootstrap intervals over the
questions. Times are of the search alone; what embedding a question takes is given beside
them. Peers get the same passages and vectors: FAISS's flat index, bm25s as it comes, and
with ``--peers`` LangChain's ensemble of both (langchain-classic, langchain-community and
rank_bm25 have to be installed).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bm25s
import faiss
import numpy as np
from provenance import provenance
from retrieval_data import RANKS, Question, hotpotqa, measures, noise, recombined

from reflectory import Document
from reflectory.config import Layer
from reflectory.models.embedders import resolve_embedder
from reflectory.models.embedding_cache import CachedEmbedder
from reflectory.retrieval import PassageIndex, resolve_extractor
from reflectory.retrieval.index.joining import embedded_text
from reflectory.retrieval.search.layers import LayeredSearch

PASSAGE_TOKENS = 120
FOUND = 40
LAYERS: tuple[tuple[Layer, ...], ...] = (
    ("dense",),
    ("lexical",),
    ("dense", "lexical"),
    ("dense", "lexical", "rerank"),
    ("dense", "lexical", "graph"),
    ("dense", "lexical", "graph", "rerank"),
    ("dense", "lexical", "graph", "rerank", "spread"),
)

Search = Callable[[str, Any], list[str]]


def documents_of(index: PassageIndex, rows: Sequence[int]) -> list[str]:
    """Return the distinct documents of passages, in order."""
    return list(dict.fromkeys(index.passages[int(row)].document_id for row in rows))


def layered(index: PassageIndex, layers: Sequence[Layer]) -> Search:
    """Return the search with some layers."""
    search = LayeredSearch(index, layers, resolve_extractor("rules"))
    search.prepare()

    def run(text: str, vector: Any) -> list[str]:
        found = search.search(text, vector, per_document=2, limit=FOUND)
        return list(dict.fromkeys(scored.passage.document_id for scored in found))

    return run


def peers(index: PassageIndex, *, langchain: bool) -> dict[str, Search]:
    """Return the other retrievers over the same passages and vectors."""
    texts = [embedded_text(passage) for passage in index.passages]
    flat = faiss.IndexFlatIP(index.dimension)
    for block in index.vectors.blocks():
        flat.add(np.ascontiguousarray(block))
    bm25 = bm25s.BM25()
    bm25.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)

    def by_words(text: str, _: Any) -> list[str]:
        tokens = bm25s.tokenize([text], show_progress=False)
        rows, _ = bm25.retrieve(tokens, k=min(FOUND, len(texts)), show_progress=False)
        return documents_of(index, rows[0])

    found: dict[str, Search] = {
        "FAISS flat": lambda _, vector: documents_of(index, flat.search(vector[None], FOUND)[1][0]),
        "bm25s": by_words,
    }
    if langchain:
        found["LangChain ensemble"] = langchain_ensemble(index, texts, flat)
    return found


def langchain_ensemble(index: PassageIndex, texts: list[str], flat: Any) -> Search:
    """Return LangChain's hybrid: BM25 and FAISS by reciprocal ranks, half and half."""
    from langchain_classic.retrievers import EnsembleRetriever
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.retrievers import BM25Retriever
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.embeddings import Embeddings

    class Given(Embeddings):
        """The question's vector is known already: it must not be paid for again."""

        vector: Any = None

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise NotImplementedError

        def embed_query(self, text: str) -> list[float]:
            return [float(x) for x in self.vector]

    rows = {
        str(i): LangChainDocument(page_content=text, metadata={"row": i})
        for i, text in enumerate(texts)
    }
    given = Given()
    store = FAISS(given, flat, InMemoryDocstore(rows), {i: str(i) for i in range(len(texts))})
    words = BM25Retriever.from_documents(list(rows.values()), k=FOUND)
    ensemble = EnsembleRetriever(
        retrievers=[words, store.as_retriever(search_kwargs={"k": FOUND})], weights=[0.5, 0.5]
    )

    def run(text: str, vector: Any) -> list[str]:
        given.vector = vector
        return documents_of(index, [d.metadata["row"] for d in ensemble.invoke(text)])

    return run


def measure(
    searches: dict[str, Search], questions: Sequence[Question], vectors: Any, repeats: int
) -> list[dict[str, Any]]:
    """Run all searches in turns and return a row for each."""
    ranked: dict[str, list[list[str]]] = {name: [] for name in searches}
    times: dict[str, list[float]] = {name: [] for name in searches}
    for search in searches.values():
        search(questions[0].text, vectors[0])  # not counted: what is made at the first call
    for repeat in range(repeats):
        for question, vector in zip(questions, vectors, strict=True):
            for name, search in searches.items():
                begin = time.perf_counter()
                found = search(question.text, vector)
                times[name].append(time.perf_counter() - begin)
                if repeat == 0:
                    ranked[name].append(found)
    dense = ranked["dense"]
    return [
        {
            "retriever": name,
            **measures(ranked[name], dense, questions),
            "ms_median": 1e3 * statistics.median(times[name]),
            "ms_p95": 1e3 * float(np.quantile(times[name], 0.95)),
        }
        for name in searches
    ]


def build(documents: Sequence[Document], embedder: Any) -> tuple[PassageIndex, dict[str, Any]]:
    """Build the index and say what it took."""
    begin = time.perf_counter()
    index = asyncio.run(PassageIndex.build(documents, embedder, passage_tokens=PASSAGE_TOKENS))
    seconds = time.perf_counter() - begin
    facts = {
        "documents": len(index.documents),
        "passages": len(index),
        "entities": len(index.graph.keys) if index.graph is not None else 0,
        "seconds": seconds,
        "passages_per_second": len(index) / seconds,
        "passages_from_the_cache": getattr(embedder, "hits", 0),
        "vectors": index.vectors.description.model_dump(),
    }
    return index, facts


def add_one_percent(index: PassageIndex, embedder: Any) -> dict[str, Any]:
    """Add documents of the same kind, one for a hundred, and say what it took."""
    count = max(1, len(index.documents) // 100)
    documents = list(index.documents)
    titled = [d if d.title else d.model_copy(update={"title": d.id}) for d in documents]
    new = [
        document.model_copy(update={"id": f"new-{number}"})
        for number, document in enumerate(recombined(titled, count, seed=1))
    ]
    begin = time.perf_counter()
    extended = asyncio.run(index.extended(new, embedder))
    seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        extended.save(Path(folder) / "index")
        saving = time.perf_counter() - begin
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        begin = time.perf_counter()
        PassageIndex.load(Path(folder) / "index", embedder)
        loading = time.perf_counter() - begin
    return {
        "documents": count,
        "passages": len(extended) - len(index),
        "seconds": seconds,
        "save_seconds": saving,
        "load_seconds": loading,
        "bytes": size,
    }


class SentenceMeans:
    """For many passages: a passage's vector is the mean of those of its sentences.

    The sentences of recombined documents come from few real ones, so each is embedded once.
    """

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self.fingerprint = f"sentence means of {embedder.fingerprint}"
        self.dimension = embedder.dimension
        self._known: dict[str, Any] = {}

    async def embed(self, texts: Sequence[str]) -> Any:
        """Return one unit vector per text."""
        from reflectory.retrieval.sentences import sentences

        lines = [text.split("\n") for text in texts]  # the title is one
        parts = [[line[a:b] for line in many for a, b in sentences(line)] or many for many in lines]
        missing = list(dict.fromkeys(p for many in parts for p in many))
        missing = [p for p in missing if p not in self._known]
        if missing:
            vectors = await self._embedder.embed(missing)
            self._known.update(zip(missing, vectors, strict=True))
        means = np.stack([np.mean([self._known[p] for p in many], axis=0) for many in parts])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def settings_of(options: argparse.Namespace) -> list[tuple[str, list[Question], list[Document]]]:
    """Return what is measured: name, questions and documents."""
    rows = options.data / "hotpotqa_dev50.jsonl"
    corpus = options.data / "2wiki_corpus.jsonl"
    found = []
    for titles in (True, False):
        questions, documents = hotpotqa(rows, titles=titles)
        suffix = "" if titles else ", no titles"
        if "small" in options.settings:
            found.append((f"small{suffix}", questions, documents))
        if {"noisy", "large"} & set(options.settings):
            more = [*documents, *noise(corpus, documents, titles=titles)]
            if "noisy" in options.settings:
                found.append((f"noisy{suffix}", questions, more))
            if "large" in options.settings and titles:
                made = recombined(more, options.large, seed=0)
                found.append(("large", questions, [*more, *made]))
    return found


def print_rows(name: str, facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Print one setting."""
    print(
        f"\n{name}: {facts['passages']} passages, {facts['passages_per_second']:.0f} a second "
        f"({facts['passages_from_the_cache']} vectors from the cache), "
        f"peak {facts['peak_mb']:.0f} MB"
    )
    more = facts["one_percent_more"]
    print(
        f"built in {facts['seconds']:.1f} s; {more['documents']} documents more in "
        f"{more['seconds']:.2f} s, saved in {more['save_seconds']:.1f}, loaded in "
        f"{more['load_seconds']:.1f} s, {more['bytes'] / 1e6:.0f} MB"
    )
    heads = "".join(f"  R@{k:<3}" for k in RANKS) + "  gain@4 (95%)          second@4  ms    p95"
    print(f"{'':38}{heads}")
    for row in rows:
        low, high = row["gain@4_interval"]
        print(
            f"{row['retriever']:38}"
            + "".join(f"  {row[f'recall@{k}']:.2f} " for k in RANKS)
            + f"  {row['gain@4']:+.2f} [{low:+.2f}, {high:+.2f}]  {row['second@4']:8.2f}"
            + f"  {row['ms_median']:5.1f} {row['ms_p95']:5.1f}",
            flush=True,
        )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--settings", default="small,noisy", type=lambda text: text.split(","))
    parser.add_argument("--large", type=int, default=90_000, help="documents made for `large`")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="LangChain's ensemble as well")
    parser.add_argument("--no-cache", action="store_true", help="embed everything anew")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not (options.data / "hotpotqa_dev50.jsonl").is_file():
        print(f"skipped: {options.data} has no hotpotqa_dev50.jsonl")
        return
    embedder = resolve_embedder("local")
    report: dict[str, Any] = {
        **provenance("faiss-cpu", "bm25s", "numpy"),
        "embedder": embedder.fingerprint,
        "settings": [],
    }
    for name, questions, documents in settings_of(options):
        passages: Any = embedder if options.no_cache else CachedEmbedder(embedder)
        if name == "large":
            passages = SentenceMeans(passages)
        index, facts = build(documents, passages)
        begin = time.perf_counter()
        vectors = asyncio.run(embedder.embed([question.text for question in questions]))
        facts["ms_to_embed_a_question"] = 1e3 * (time.perf_counter() - begin) / len(questions)
        searches = {"+".join(layers): layered(index, layers) for layers in LAYERS}
        searches |= peers(index, langchain=options.peers)
        rows = measure(searches, questions, vectors, options.repeats)
        facts["one_percent_more"] = add_one_percent(index, passages)
        facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report["settings"].append({"name": name, **facts, "rows": rows})
        print_rows(name, facts, rows)
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
