"""``reflectory index``: documents into a saved index, and a look into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import err, out, print_json, progress_bar
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.models.protocol import Embedder
    from reflectory.retrieval import PassageIndex
    from reflectory.types import PathStep, ScoredPassage


def index(
    documents: Annotated[
        list[str], typer.Argument(help="Files, folders, dataset:NAME; or one saved index.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the index.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="Search the saved index.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Most passages for --query.")] = 8,
    stats: Annotated[bool, typer.Option("--stats", help="Describe the saved index.")] = False,
    graph: Annotated[
        Path | None,
        typer.Option(
            help="Write the knowledge graph: .graphml, .json; .png, .svg or .pdf draw it. "
            "With --query what surrounds the passages found."
        ),
    ] = None,
    embedder: Annotated[str, typer.Option(help="local, local:PATH_OR_HUB_ID")] = "local",
    passage_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a passage; 120 for a new index.")
    ] = None,
    extractor: Annotated[str, typer.Option(help="rules, or spacy:PACKAGE_OR_PATH")] = "rules",
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build anew what is at --output.")
    ] = False,
    json: options.JsonResult = False,
) -> None:
    """Build an index of documents, or extend the one at --output; search and describe one.

    Only what is new is embedded: a document that is in the index as it is costs nothing,
    one with a known id and another text takes the old one's place.

    Example: reflectory index notes/ papers/ -o notes.index

    Example: reflectory index notes.index --query "Who designed the probe?" --top 4
    """
    from reflectory.models.embedders import resolve_embedder
    from reflectory.models.embedding_cache import CachedEmbedder
    from reflectory.retrieval import PassageIndex

    if output is not None:
        if query is not None or stats or graph is not None:
            raise typer.BadParameter(
                "--query, --stats and --graph look into a saved index: give it in place of "
                "the documents, and leave --output out"
            )
        facts = _build(
            documents, output, resolve_embedder(embedder), passage_tokens, extractor, rebuild
        )
        for skipped in facts["skipped"]:
            err.print(f"skipped {skipped['path']}: {skipped['reason']}", markup=False)
        if json:
            print_json(facts)
        else:
            out.print(
                f"{facts['documents']} documents, {facts['passages']} passages in {output} "
                f"({facts['added']} added, {facts['replaced']} replaced)",
                markup=False,
            )
        return
    if rebuild:
        raise typer.BadParameter("--rebuild needs --output, where an index is built anew")
    if len(documents) != 1 or (query is None and not stats and graph is None):
        raise typer.BadParameter(
            "nothing to do: give --output for an index to build, or one saved index and "
            "--query, --stats or --graph"
        )
    model = resolve_embedder(embedder)
    # The cache knows how long its vectors are, which spares loading the model for --stats.
    loaded = PassageIndex.load(documents[0], CachedEmbedder(model))
    found = None if query is None else _search(loaded, model, extractor, query, top)
    _look(loaded, found, stats, graph, json=json)


def _build(
    documents: list[str],
    output: Path,
    embedder: Embedder,
    passage_tokens: int | None,
    extractor: str,
    rebuild: bool,
) -> dict[str, Any]:
    """Build or extend, and return what is to be told."""
    from reflectory.background import BACKGROUND
    from reflectory.config import RetrievalConfig
    from reflectory.models.embedding_cache import CachedEmbedder
    from reflectory.retrieval import PassageIndex, is_index, read_documents, resolve_extractor

    budget = (
        RetrievalConfig()
        if passage_tokens is None
        else RetrievalConfig(passage_tokens=passage_tokens)
    )
    reader = resolve_extractor(extractor)
    for name in documents:
        if is_index(name):
            raise UserError(
                f"{name} is a saved index and no documents",
                hint="give the documents themselves; an index at --output is extended",
            )
    read = read_documents(documents)
    remembering = CachedEmbedder(embedder)
    old = None if rebuild or not is_index(output) else PassageIndex.load(output, remembering)
    if old is not None and passage_tokens not in (None, old.passage_tokens):
        raise UserError(
            f"the index {output} was cut into passages of at most {old.passage_tokens} tokens, "
            f"not of {passage_tokens}",
            hint="leave --passage-tokens out, or build the index anew with --rebuild",
        )
    with progress_bar() as bar:
        task = bar.add_task("embedding passages", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if old is None:
            work = PassageIndex.build(
                read.documents,
                remembering,
                passage_tokens=budget.passage_tokens,
                extractor=reader,
                progress=progress,
            )
        else:
            work = old.extended(read.documents, remembering, extractor=reader, progress=progress)
        built = BACKGROUND.run(work)
        bar.update(task, description="writing the index")
        built.save(output)
    known = {document.id: document for document in old.documents} if old is not None else {}
    return {
        "index": str(output),
        "documents": len(built.documents),
        "passages": len(built.passages),
        "added": len(built.documents) - len(known),
        "replaced": sum(
            known.get(document.id, document) != document for document in built.documents
        ),
        "skipped": [{"path": str(s.path), "reason": s.reason} for s in read.skipped],
    }


def _search(
    loaded: PassageIndex, embedder: Embedder, extractor: str, query: str, top: int
) -> list[ScoredPassage]:
    from reflectory.background import BACKGROUND
    from reflectory.retrieval import IndexRetriever, resolve_extractor

    retriever = IndexRetriever(loaded, embedder, extractor=resolve_extractor(extractor))
    return BACKGROUND.run(retriever.retrieve(query, per_document=top, limit=top))


def _look(
    loaded: PassageIndex,
    found: list[ScoredPassage] | None,
    stats: bool,
    graph: Path | None,
    *,
    json: bool,
) -> None:
    report: dict[str, Any] = {}
    if stats:
        report["stats"] = _stats(loaded)
    if found is not None:
        report["passages"] = [_row(scored) for scored in found]
    if graph is not None:
        from reflectory.report.knowledge_graph import write_knowledge_graph

        write_knowledge_graph(loaded, graph, found)
        report["graph"] = str(graph)
    if json:
        print_json(report)
        return
    for name, value in report.get("stats", {}).items():
        out.print(f"{name:>12}  {value}", markup=False, highlight=False)
    titles = _titles(found or [], loaded)
    for number, scored in enumerate(found or [], start=1):
        passage = scored.passage
        out.print(f"[bold]{number}[/bold]  {scored.score:.3f}  ", end="")
        out.print(passage.title or passage.id, style="bold", markup=False, highlight=False)
        out.print(f"   {_told(scored.path, titles)}", style="dim", markup=False, highlight=False)
        out.print(f"   {passage.text}", markup=False, highlight=False)
    if graph is not None:
        out.print(f"the graph is in {graph}", markup=False, soft_wrap=True)


def _stats(loaded: PassageIndex) -> dict[str, Any]:
    graph = loaded.graph
    vectors = loaded.vectors.description
    facts: dict[str, Any] = {
        "documents": len(loaded.documents),
        "passages": len(loaded.passages),
        "characters": sum(len(passage.text) for passage in loaded.passages),
        "embedder": loaded.embedder_fingerprint,
        "dimension": loaded.dimension,
        "vectors": f"{vectors.kind}, measured recall {vectors.recall:.3f}: {vectors.note}",
        "fingerprint": loaded.fingerprint,
    }
    if graph is not None:
        facts |= {
            "extractor": loaded.extractor_fingerprint,
            "entities": len(graph.keys),
            "mentions": int(graph.mentions.sum()),
            "relations": len(graph.relations),
            "joined": int((graph.frequency > 1).sum()),
            "similar": int(graph.similarity.nnz) // 2,
        }
    return facts


def _row(scored: ScoredPassage) -> dict[str, Any]:
    passage = scored.passage
    return {
        "title": passage.title,
        "text": passage.text,
        "source": passage.source,
        "start": passage.start,
        "end": passage.end,
        "score": scored.score,
        "path": [step.model_dump() for step in scored.path],
        "id": passage.id,
        "document": passage.document_id,
        "page": passage.page,
        "licence": passage.licence,
        "signals": scored.signals,
    }


def _titles(found: list[ScoredPassage], loaded: PassageIndex) -> dict[str, str]:
    """Return the titles of the documents that paths lead over."""
    titles = {scored.passage.document_id: scored.passage.title for scored in found}
    steps = (step for scored in found for step in scored.path if step.kind == "passage")
    missing = {_document_of(step) for step in steps} - titles.keys()
    if missing:
        titles |= {d.id: d.title for d in loaded.documents if d.id in missing}
    return titles


def _document_of(step: PathStep) -> str:
    return step.name.rpartition("#")[0]


def _told(path: tuple[PathStep, ...], titles: dict[str, str]) -> str:
    """Return a path in one line; passages by the title of their document."""

    def name(step: PathStep) -> str:
        if step.kind == "passage":
            return titles.get(_document_of(step)) or step.name
        return step.name

    return "".join(f" --{step.by}--> {name(step)}" if step.by else name(step) for step in path)
