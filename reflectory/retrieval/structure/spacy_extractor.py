"""spaCy in the place of the rules: its entities, noun chunks and dependencies."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reflectory.errors import UserError
from reflectory.retrieval.structure.records import Extraction, Mention, Relation

_KINDS = {
    "DATE": "date",
    "NORP": "group",
    **dict.fromkeys(["CARDINAL", "ORDINAL", "PERCENT", "MONEY", "QUANTITY", "TIME"], "number"),
}
"""Kinds of OntoNotes' labels; every other label is a name."""

_SUBJECTS = frozenset({"nsubj", "nsubjpass", "nsubj:pass"})
_OBJECTS = frozenset({"dobj", "obj", "attr", "oprd", "dative", "iobj"})
_WITH_VERB = frozenset({"aux", "auxpass", "aux:pass", "neg", "prt", "cop"})
_DETERMINERS = frozenset({"DET", "PRON"})
_PIECE = 50_000
"""Characters that are parsed at once; spaCy's memory grows with them and it refuses a million."""


class SpacyExtractor:
    """Entities, noun chunks and relations of a spaCy pipeline.

    Args:
        pipeline: A loaded pipeline (``spacy.Language``) with a parser, an entity
            recogniser, or both; what has no component stays empty.

    Raises:
        UserError: The pipeline has neither.
    """

    def __init__(self, pipeline: Any) -> None:
        if not {"ner", "entity_ruler", "parser"} & set(pipeline.pipe_names):
            raise UserError(
                f"the spaCy pipeline {pipeline.meta.get('name')!r} finds neither names nor verbs",
                hint="give one with a parser and an entity recogniser, such as en_core_web_sm",
            )
        self._pipeline = pipeline

    @classmethod
    def load(cls, name: str) -> SpacyExtractor:
        """Return the extractor of a pipeline that is installed or lies in a folder.

        Args:
            name: Name of the pipeline's package, or a path.

        Raises:
            UserError: spaCy or the pipeline is not there.
        """
        if importlib.util.find_spec("spacy") is None:
            raise UserError(
                f"spacy:{name} needs spaCy, which is not installed",
                hint='pip install "reflectory[structure]", or use the extractor rules',
            )
        spacy: Any = importlib.import_module("spacy")
        try:
            is_package = name.isidentifier() and importlib.util.find_spec(name) is not None
            # Packages that spaCy does not know as its own are loaded the way its own are.
            if is_package and not Path(name).exists():
                return cls(importlib.import_module(name).load())
            return cls(spacy.load(name))
        except (OSError, ValueError, ImportError, AttributeError) as error:
            raise UserError(
                f"the spaCy pipeline {name!r} cannot be loaded: {error}".splitlines()[0],
                hint="install its package (python -m spacy download NAME) or give its folder",
            ) from error

    @property
    def fingerprint(self) -> str:
        """``spacy-``, the version of spaCy, and name and version of the pipeline."""
        spacy: Any = importlib.import_module("spacy")
        meta = self._pipeline.meta
        return f"spacy-{spacy.__version__}-{meta.get('name')}-{meta.get('version')}"

    def extract(self, texts: Sequence[str]) -> list[Extraction]:
        """Return names, phrases and relations of each text."""
        pieces = [
            (number, start, text[start:end])
            for number, text in enumerate(texts)
            for start, end in _pieces(text)
        ]
        parts: list[list[Extraction]] = [[] for _ in texts]
        parsed = self._pipeline.pipe((piece for _, _, piece in pieces), batch_size=32)
        for (number, start, _), doc in zip(pieces, parsed, strict=True):
            parts[number].append(read_doc(doc, start))
        return [_together(found) for found in parts]


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield stretches of a text that end at a paragraph, line or word where they can."""
    start = 0
    while start < len(text):
        end = min(len(text), start + _PIECE)
        if end < len(text):
            cuts = (text.rfind(mark, start + _PIECE // 2, end) for mark in ("\n\n", "\n", " "))
            end = next((cut + 1 for cut in cuts if cut > 0), end)
        yield start, end
        start = end


def _together(parts: Iterable[Extraction]) -> Extraction:
    parts = list(parts)
    return Extraction(
        mentions=tuple(m for part in parts for m in part.mentions),
        phrases=tuple(m for part in parts for m in part.phrases),
        relations=tuple(r for part in parts for r in part.relations),
    )


def read_doc(doc: Any, offset: int = 0) -> Extraction:
    """Return what a parsed ``spacy.tokens.Doc`` says.

    Args:
        doc: The parsed document.
        offset: Offset of its text in the whole text.
    """
    mentions = [_mention(span, offset, _KINDS.get(span.label_, "name")) for span in doc.ents]
    phrases: list[Mention] = []
    relations: dict[Relation, None] = {}
    if doc.has_annotation("DEP"):
        chunks = {chunk.root.i: chunk for chunk in doc.noun_chunks}
        for chunk in chunks.values():
            inner = _without_determiner(chunk)
            if inner.root.pos_ in {"NOUN", "ADJ", "NUM"} and inner.root.ent_type_ == "":
                phrases.append(_mention(inner, offset, "phrase"))
        for token in doc:
            if token.pos_ in {"VERB", "AUX"} and token.dep_ not in _WITH_VERB:
                for subject, verb, thing in _triples(token, chunks):
                    sentence = token.sent
                    relation = Relation(
                        subject=subject,
                        verb=verb,
                        object=thing,
                        start=offset + sentence.start_char,
                        end=offset + sentence.end_char,
                    )
                    relations[relation] = None
    return Extraction(mentions=tuple(mentions), phrases=tuple(phrases), relations=tuple(relations))


def _mention(span: Any, offset: int, kind: str) -> Mention:
    return Mention(
        name=span.text, start=offset + span.start_char, end=offset + span.end_char, kind=kind
    )


def _without_determiner(span: Any) -> Any:
    start = span.start
    while start + 1 < span.end and span.doc[start].pos_ in _DETERMINERS:
        start += 1
    return span.doc[start : span.end]


def _triples(verb: Any, chunks: dict[int, Any]) -> Iterator[tuple[str, str, str]]:
    subjects = [name for token in _subjects(verb) if (name := _argument(token, chunks))]
    if not subjects:
        return
    for words, token in _objects(verb, _verb_words(verb)):
        thing = _argument(token, chunks)
        for subject in subjects:
            if thing and thing != subject:
                yield subject, " ".join(word.text for word in words), thing


def _with_conjuncts(tokens: Iterable[Any]) -> list[Any]:
    return [t for token in tokens for t in (token, *token.conjuncts) if t.pos_ != "VERB"]


def _subjects(verb: Any) -> list[Any]:
    own = [child for child in verb.children if child.dep_ in _SUBJECTS]
    if own:
        if verb.dep_ == "relcl" and own[0].pos_ in _DETERMINERS and own[0].i > verb.head.i:
            return [verb.head]  # "the man who built it"
        return _with_conjuncts(own)
    if verb.dep_ in {"conj", "xcomp", "advcl"} and verb.head.i != verb.i:
        return _subjects(verb.head)
    if verb.dep_ in {"acl", "relcl"}:  # "a film directed by Y": what the film is said of
        noun = verb.head
        if noun.dep_ == "attr":
            return _subjects(noun.head) or [noun]
        return [noun]
    return []


def _verb_words(verb: Any) -> list[Any]:
    words = [child for child in verb.children if child.dep_ in _WITH_VERB] + [verb]
    if verb.dep_ == "xcomp" and verb.head.pos_ == "VERB":
        words += [verb.head]
    return sorted(words, key=lambda word: word.i)


def _objects(verb: Any, words: list[Any]) -> Iterator[tuple[list[Any], Any]]:
    for child in verb.children:
        if child.dep_ in _OBJECTS:
            for token in _with_conjuncts([child]):
                yield words, token
        elif child.dep_ in {"prep", "agent"}:
            inner = [c for c in child.children if c.dep_ in {"pobj", "obl"}]
            for token in _with_conjuncts(inner):
                yield [*words, child], token


def _argument(token: Any, chunks: dict[int, Any]) -> str:
    """Return how an argument is called: by its name, else by its noun phrase."""
    if token.pos_ == "PRON" or _KINDS.get(token.ent_type_) == "date":
        return ""
    if token.ent_type_ and token.ent_type_ not in _KINDS:
        entity = next(span for span in token.doc.ents if span.start <= token.i < span.end)
        return str(entity.text)
    chunk = chunks.get(token.i)
    return str(_without_determiner(chunk).text if chunk is not None else token.text)
