"""What is known about a document besides its text: names, phrases, relations, sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pydantic import Field

from reflectory.types import Record


class Mention(Record):
    """A stretch of a text that names something.

    Attributes:
        name: The text from ``start`` to ``end``.
        start: Offset of its first character in the document's preprocessed text.
        end: Offset behind its last character.
        kind: ``name``, ``date``, ``number``, ``group`` (a nationality, a people),
            ``phrase``, or whatever an extractor knows.
    """

    name: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    kind: str = "name"


class Relation(Record):
    """Who did what, as one sentence says it.

    Attributes:
        subject: A name or noun phrase as in the text, without its article.
        verb: The words between, with auxiliaries and a preposition that belongs to
            them (``was directed by``, ``is``).
        object: A name or noun phrase as in the text, without its article.
        start: Offset of the sentence.
        end: Offset behind the sentence.
    """

    subject: str
    verb: str
    object: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)


class Section(Record):
    """A heading and what stands under it.

    Attributes:
        title: The heading without its marks.
        level: 1 for the highest.
        start: Offset of the heading.
        end: Offset of the next heading of this or a higher level, or of the end.
    """

    title: str
    level: int = Field(ge=1)
    start: int = Field(ge=0)
    end: int = Field(ge=0)


class Extraction(Record):
    """What an extractor found in one text, each in the order of the text.

    Attributes:
        mentions: Names, dates and the like; they do not overlap.
        phrases: Noun phrases (``kind="phrase"``), without their articles.
        relations: Who did what.
    """

    mentions: tuple[Mention, ...] = ()
    phrases: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()


@runtime_checkable
class Extractor(Protocol):
    """Finds names, phrases and relations; rules, spaCy, GLiNER or a language model.

    ``extract`` is synchronous and called in threads, by searches in several at once. It
    is deterministic, and what it finds in a text does not depend on the other texts of
    the call.
    """

    @property
    def fingerprint(self) -> str:
        """Names the extractor and its version; part of the identity of an index."""
        ...

    def extract(self, texts: Sequence[str]) -> list[Extraction]:
        """Return one extraction per text, in order."""
        ...


class DocumentStructure(Record):
    """What is known about one document.

    Attributes:
        document_id: Whose structure it is.
        subjects: Names that the document is about, the surest first: its title, the
            title without ``(...)``, the subject of its first sentence where that
            begins with a name, and aliases stated there.
        sections: Its sections in the order of the text.
        mentions: See :class:`Extraction`.
        phrases: See :class:`Extraction`.
        relations: See :class:`Extraction`.
    """

    document_id: str
    subjects: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    mentions: tuple[Mention, ...] = ()
    phrases: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()
