"""``reflectory index``: documents into a saved index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reflectory.cli.common import err, out, print_json


def index(
    documents: Annotated[list[str], typer.Argument(help="Files, folders, dataset:NAME.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the index.")],
    embedder: Annotated[str, typer.Option(help="local, local:PATH_OR_HUB_ID")] = "local",
    passage_tokens: Annotated[int, typer.Option(help="Most tokens of a passage.")] = 120,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read documents, cut them into passages, embed them and save the index.

    Example: reflectory index notes/ papers/ -o notes.index
    """
    from reflectory.background import BACKGROUND
    from reflectory.config import RetrievalConfig
    from reflectory.models.embedders import resolve_embedder
    from reflectory.retrieval import PassageIndex, read_documents

    budget = RetrievalConfig(passage_tokens=passage_tokens)
    read = read_documents(documents)
    with err.status(f"embedding {len(read.documents)} documents"):
        built = BACKGROUND.run(
            PassageIndex.build(
                read.documents, resolve_embedder(embedder), passage_tokens=budget.passage_tokens
            )
        )
    built.save(output)
    for skipped in read.skipped:
        err.print(f"skipped {skipped.path}: {skipped.reason}", markup=False)
    facts = {
        "index": str(output),
        "documents": len(built.documents),
        "passages": len(built.passages),
        "skipped": [{"path": str(s.path), "reason": s.reason} for s in read.skipped],
    }
    if json:
        print_json(facts)
    else:
        out.print(f"{facts['documents']} documents, {facts['passages']} passages in {output}")
