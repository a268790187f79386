"""Does a better context make a better R_0? The default student, with and without layers.

    python bench/retrieval_answers.py DATA --json out.json

For every row of ``hotpotqa_dev50.jsonl`` the context is taken once from the row's own
ten documents and once from the pooled documents of all rows; by the dense layer alone,
and by all layers. The same student answers all of them, greedily, in at most 32 tokens.
``in context`` is the share of contexts that hold the reference answer at all, ``both``
that of contexts with a passage of each gold document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from provenance import provenance
from retrieval_data import hotpotqa, interval

from reflectory import Document, LoopConfig
from reflectory.agents import PromptSet, Student
from reflectory.config import RetrievalConfig
from reflectory.evaluation.metrics import aggregate, score_answer
from reflectory.models.embedders import resolve_embedder
from reflectory.models.embedding_cache import CachedEmbedder
from reflectory.models.resolve import ModelPool
from reflectory.retrieval import DocumentRetriever
from reflectory.retrieval import aggregate as aggregate_context

WAYS: dict[str, tuple[str, ...]] = {
    "dense": ("dense",),
    "all layers": ("dense", "lexical", "graph", "rerank", "spread"),
    "all but spread": ("dense", "lexical", "graph", "rerank"),
}
SAMPLING = {"response_tokens": 32}


async def contexts_of(retriever: DocumentRetriever, questions: list[str], model: Any) -> list[Any]:
    """Return C_0 for each question, as the loop makes it."""
    budget = RetrievalConfig(passages=4, context_tokens=600)
    found = []
    for question in questions:
        scored = await retriever.retrieve(
            question, per_document=budget.per_document, limit=2 * budget.passages
        )
        found.append(
            aggregate_context(
                scored,
                limit=budget.passages,
                token_budget=budget.context_tokens,
                count_tokens=model.count_tokens,
            )
        )
    return found


async def run(data: Path, dtype: str) -> list[dict[str, Any]]:
    """Measure all ways over both kinds of corpus."""
    rows = [json.loads(line) for line in (data / "hotpotqa_dev50.jsonl").open(encoding="utf-8")]
    _, pooled = hotpotqa(data / "hotpotqa_dev50.jsonl")
    titles = {document.id: document.title for document in pooled}
    embedder = resolve_embedder("local")
    cached = CachedEmbedder(embedder)
    pool = ModelPool(dtype=dtype)
    model = pool.get("local")
    config = LoopConfig(sampling=SAMPLING)
    student = Student(model, PromptSet.for_loop(config), config.sampling, seed=0)

    def retriever(documents: list[Document], layers: tuple[str, ...]) -> DocumentRetriever:
        return DocumentRetriever(
            documents,
            embedder,
            RetrievalConfig(layers=layers),
            count_tokens=model.count_tokens,
            passage_embedder=cached,
        )

    report, scores = [], {}
    for corpus in ("own ten", "pooled"):
        for name, layers in WAYS.items():
            begin = time.perf_counter()
            if corpus == "pooled":
                questions = [row["question"] for row in rows]
                contexts = await contexts_of(retriever(pooled, layers), questions, model)
            else:
                contexts = []
                for row in rows:
                    own = [
                        Document(id=str(i), title=d["title"], text=d["text"])
                        for i, d in enumerate(row["documents"])
                    ]
                    contexts += await contexts_of(retriever(own, layers), [row["question"]], model)
                titles |= {str(i): "" for i in range(10)}
            answers = await asyncio.gather(
                *(
                    student.respond(row["question"], c)
                    for row, c in zip(rows, contexts, strict=True)
                )
            )
            scored = [
                score_answer(answer.text, row["answer"])
                for answer, row in zip(answers, rows, strict=True)
            ]
            scores[corpus, name] = [s.f1 for s in scored]
            report.append(
                {
                    "corpus": corpus,
                    "layers": name,
                    "R_0": aggregate(iter(scored)).to_dict(),
                    "in_context": sum(
                        row["answer"].casefold() in " ".join(p.text for p in c).casefold()
                        for row, c in zip(rows, contexts, strict=True)
                    )
                    / len(rows),
                    "both": sum(
                        set(row["supporting_titles"]) <= {p.title for p in c}
                        for row, c in zip(rows, contexts, strict=True)
                    )
                    / len(rows),
                    "difference_to_dense": interval(
                        [
                            a - b
                            for a, b in zip(
                                scores[corpus, name], scores[corpus, "dense"], strict=True
                            )
                        ]
                    ),
                    "groundedness": [a.groundedness for a in answers],
                    "seconds": round(time.perf_counter() - begin, 1),
                }
            )
            last = report[-1]
            print(
                f"{corpus:8} {name:15} F1 {last['R_0']['f1']:.3f} "
                f"contains {last['R_0']['contains']:.2f} in context {last['in_context']:.2f} "
                f"both {last['both']:.2f} {last['seconds']} s",
                flush=True,
            )
    await pool.aclose()
    cached.close()
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {
        **provenance("torch", "transformers", "faiss-cpu"),
        "rows": asyncio.run(run(options.data, options.dtype)),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
