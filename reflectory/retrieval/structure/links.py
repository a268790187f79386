"""Mentions of the same thing across documents."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from reflectory.errors import UserError
from reflectory.retrieval.structure.gazetteer import Gazetteer, Hit
from reflectory.retrieval.structure.joining import aliases_of, joined_keys, local_names
from reflectory.retrieval.structure.keys import bare_title, name_key
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS
from reflectory.retrieval.structure.records import DocumentStructure
from reflectory.types import Document, Record

_UNLINKED = frozenset({"number"})

Place = tuple[int, int, int]
"""Three numbers of one mention or relation; see :class:`EntityLinks`."""


class EntityLinks(Record):
    """The things that documents mention, each once, and where.

    Attributes:
        keys: Canonical keys, sorted; an entity's id is its place.
        names: How each is written: as the title of a document about it, else as most
            mentions write it.
        kinds: Kind of each (``name``, ``date``, ``group``, ...); dates and groups are
            shared by many documents that have nothing else in common.
        mentions: Per document: (entity, start, end), sorted by start.
        about: Per document: the entities it is about.
        relations: Per document: (subject entity, object entity, index into its
            structure's relations), where both ends are entities.
        aliases: Other keys that name an entity wherever they stand, sorted.
    """

    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    mentions: tuple[tuple[Place, ...], ...] = ()
    about: tuple[tuple[int, ...], ...] = ()
    relations: tuple[tuple[Place, ...], ...] = ()
    aliases: dict[str, int] = Field(default_factory=dict)


def link_entities(
    documents: Sequence[Document], structures: Sequence[DocumentStructure]
) -> EntityLinks:
    """Return the entities of all documents and their mentions.

    Names with the same key are one entity. Inside a document, a shorter form
    (a surname, an acronym that is stated) stands for the only fuller one there.
    Across documents, aliases that are stated join, unless they are stated of two
    different things.

    Args:
        documents: The documents, preprocessed.
        structures: Their structures, in the same order.

    Raises:
        UserError: The two do not belong together.
    """
    _check(documents, structures)
    titles = {name_key(document.title) for document in documents} - {""}
    local = [local_names(d, s, titles) for d, s in zip(documents, structures, strict=True)]
    canon = joined_keys(documents, structures, titles)
    hits = _subjects_found(documents, structures)
    tally = _Tally()
    rows = [
        _document_rows(document, structure, forms, canon, found, tally)
        for document, structure, forms, found in zip(
            documents, structures, local, hits, strict=True
        )
    ]
    keys = sorted(tally.surfaces)
    ids = {key: number for number, key in enumerate(keys)}
    return EntityLinks(
        keys=tuple(keys),
        names=tuple(tally.name(key) for key in keys),
        kinds=tuple(tally.kind(key) for key in keys),
        mentions=tuple(
            tuple((ids[key], start, end) for key, start, end in row.mentions) for row in rows
        ),
        about=tuple(tuple(sorted(ids[key] for key in row.about)) for row in rows),
        relations=tuple(
            tuple(
                (ids[subject], ids[thing], at)
                for subject, thing, at in row.relations
                if subject in ids and thing in ids
            )
            for row in rows
        ),
        aliases=aliases_of(local, canon, ids),
    )


def _check(documents: Sequence[Document], structures: Sequence[DocumentStructure]) -> None:
    if [d.id for d in documents] != [s.document_id for s in structures]:
        raise UserError(
            f"{len(documents)} documents and {len(structures)} structures do not belong together",
            hint="give the structure of every document, in the order of the documents",
        )


def _subjects_found(
    documents: Sequence[Document], structures: Sequence[DocumentStructure]
) -> list[list[Hit]]:
    """Return where each document names the subject of any."""
    keys = {name_key(name) for structure in structures for name in structure.subjects} - {""}
    gazetteer = Gazetteer(keys)
    hits = [list(gazetteer.find(document.text)) for document in documents]
    # A word that is written small somewhere is no name because a sentence begins with it.
    common = FUNCTION_WORDS | gazetteer.seen_small
    return [[hit for hit in row if hit.certain or hit.key not in common] for row in hits]


class _Row(NamedTuple):
    mentions: list[tuple[str, int, int]]
    about: set[str]
    relations: list[tuple[str, str, int]]


class _Tally:
    """How often each key is written how."""

    def __init__(self) -> None:
        self.surfaces: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.titles: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def name(self, key: str) -> str:
        """Return how a key is written: as a title, else most often, else first of equals."""
        own = Counter({s: n for s, n in self.surfaces[key].items() if name_key(s) == key})
        counts = self.titles.get(key) or own or self.surfaces[key]
        return min(counts, key=lambda surface: (-counts[surface], surface))

    def kind(self, key: str) -> str:
        """Return its most frequent kind."""
        counts = self.kinds[key]
        return min(counts, key=lambda kind: (-counts[kind], kind)) if counts else "name"


def _document_rows(
    document: Document,
    structure: DocumentStructure,
    forms: Mapping[str, str],
    canon: Mapping[str, str],
    hits: Sequence[Hit],
    tally: _Tally,
) -> _Row:
    def entity(key: str) -> str:
        key = forms.get(key, key)
        return canon.get(key, key)

    about: set[str] = set()
    for name in structure.subjects:
        if key := name_key(name):
            # A bare title that several documents share is a subject of all of them.
            for subject in {entity(key), canon.get(key, key)}:
                about.add(subject)
                tally.surfaces[subject][name] += 0
            if name == document.title:
                tally.titles[entity(key)][bare_title(name)] += 1
    mentions = []
    for mention in structure.mentions:
        key = name_key(mention.name)
        if key and mention.kind not in _UNLINKED:
            mentions.append((entity(key), mention.start, mention.end))
            tally.surfaces[entity(key)][mention.name] += 1
            tally.kinds[entity(key)][mention.kind] += 1
    for hit in _additional(hits, [entity(hit.key) for hit in hits], mentions):
        mentions.append((entity(hit.key), hit.start, hit.end))
        tally.surfaces[entity(hit.key)][document.text[hit.start : hit.end]] += 1
    mentions.sort(key=lambda mention: (mention[1], mention[2], mention[0]))
    relations = []
    for at, relation in enumerate(structure.relations):
        subject, thing = name_key(relation.subject), name_key(relation.object)
        if subject and thing and entity(subject) != entity(thing):
            relations.append((entity(subject), entity(thing), at))
    return _Row(mentions, about, relations)


def _additional(
    hits: Sequence[Hit], entities: Sequence[str], mentions: Sequence[tuple[str, int, int]]
) -> list[Hit]:
    """Return the hits that say something which the extractor's mentions do not.

    A single word inside a longer name is a part of that name ("Paris" in "Paris
    Hilton"); several words inside one were run together with their neighbours.
    """
    kept = []
    spans = sorted((start, end, key) for key, start, end in mentions)
    starts = [start for start, _, _ in spans]
    for hit, entity in zip(hits, entities, strict=True):
        at = max(0, bisect_right(starts, hit.start) - 1)
        around = [s for s in spans[at : at + 3] if s[0] < hit.end and s[1] > hit.start]
        same = any(key == entity for _, _, key in around)
        part = " " not in hit.key and any(
            start <= hit.start and hit.end <= end for start, end, _ in around
        )
        if not same and not part:
            kept.append(hit)
    return kept
