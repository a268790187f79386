"""Records of what is read: documents, passages, and why a passage was found."""

from __future__ import annotations

from pydantic import Field

from reflectory.types.record import Record


class Document(Record):
    """A source d_i, before it is cut into passages.

    Attributes:
        id: Unique among the documents of an index.
        title: Human-readable name; empty when the source has none.
        text: The whole text; passage offsets count its characters.
        source: Where it came from (file name, address), for people.
        pages: Character offset at which each page starts; empty when there are none.
        metadata: Whatever the reader knew besides (licence, author ...).
    """

    id: str
    title: str = ""
    text: str
    source: str = ""
    pages: tuple[int, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)


class Passage(Record):
    """A retrievable piece of a document, an element of S_i.

    Attributes:
        id: Unique among the passages of an index.
        document_id: The document it was cut from.
        title: Title of that document.
        text: The characters ``start`` to ``end`` of that document.
        start: Offset of the first character in the document's text.
        end: Offset behind the last character.
        source: Where the document came from.
        page: Page number, from 1, where the document has pages.
        licence: The document's licence, where it states one.
    """

    id: str
    document_id: str
    title: str = ""
    text: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    source: str = ""
    page: int | None = None
    licence: str = ""


class PathStep(Record):
    """One step of the way from a question to a passage.

    Attributes:
        kind: What was reached: ``question``, ``entity``, ``document`` or ``passage``.
        name: What it is called; a passage by its id.
        by: Along which edge: ``mention``, ``relation``, ``co-occurrence``,
            ``title``, ``part``, ``similarity``, or the layer that found it
            (``dense``, ``lexical``, ``graph``). Empty for the first step.
        detail: The words that say so, where there are some: a verb, a sentence.
    """

    kind: str
    name: str
    by: str = ""
    detail: str = ""


class ScoredPassage(Record):
    """A passage with the score of the retriever that found it (higher is better).

    Attributes:
        passage: The passage.
        score: Of all layers together.
        signals: What single layers said, by name, where the retriever has layers.
        path: Why it was chosen: from the question over entities and passages to this one.
    """

    passage: Passage
    score: float
    signals: dict[str, float] = Field(default_factory=dict)
    path: tuple[PathStep, ...] = ()
