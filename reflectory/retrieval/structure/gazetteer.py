"""Finding a hundred thousand known names in texts, and the names of a question."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from reflectory.retrieval.structure.keys import name_key, words_with_spans
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS
from reflectory.retrieval.structure.records import Extractor

_BEFORE_SENTENCE = frozenset(".!?:;•。！？")  # noqa: RUF001
_OPENERS = "\"'“‘«„([*_¿¡-–—>#"  # noqa: RUF001
_LOOK_BACK = 8
"""Characters to look back over spaces and quotes for the end of the sentence before."""


class Hit(NamedTuple):
    """A known name in a text.

    Attributes:
        key: Its key.
        start: Offset of its first character.
        end: Offset behind its last character.
        certain: False for a single word at the head of a sentence, where its
            capital says nothing.
    """

    key: str
    start: int
    end: int
    certain: bool


class Gazetteer:
    """A trie of the words of known names; the leftmost and longest match counts.

    A name of one word matches only where it is not written small: a document may
    be titled "It". A name of several words matches in any case unless a function
    word is among them ("it follows" is not the film).

    Args:
        keys: Keys of the names, as :func:`name_key` gives them.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._root: dict[str, Any] = {}
        self.seen_small: set[str] = set()
        """Keys of one word that :meth:`find` has seen written small in some text."""
        for key in keys:
            node = self._root
            for word in key.split():
                node = node.setdefault(word, {})
            if key:
                node[""] = key

    def find(self, text: str, *, small: bool = False) -> Iterator[Hit]:
        """Yield the known names of a text in order, not overlapping.

        Args:
            text: The text.
            small: Whether names of one word match in lower case too, for questions
                that are typed without capitals.
        """
        words, spans = words_with_spans(text)
        root = self._root
        count = len(words)
        done = 0
        for at in [place for place, word in enumerate(words) if word in root]:
            if at < done:
                continue
            node = root[words[at]]
            key, last, ahead = node.get(""), at, at + 1
            while ahead < count and (node := node.get(words[ahead])) is not None:
                if "" in node:
                    key, last = node[""], ahead
                ahead += 1
            if key is None:
                continue
            start, end = spans[at][0], spans[last][1]
            if last > at:
                if _is_written_as_name(text, spans[at : last + 1], words[at : last + 1]):
                    yield Hit(key, start, end, True)
                    done = last + 1
            elif small or not text[start:end].islower():
                capitals = text[start:end].isupper() and end - start > 1
                yield Hit(key, start, end, capitals or not _begins_sentence(text, start))
            else:
                self.seen_small.add(key)


def _is_written_as_name(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> bool:
    return (
        any(not text[start].islower() for start, _ in spans) and not text[spans[-1][0]].islower()
    ) or FUNCTION_WORDS.isdisjoint(words)


def _begins_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - _LOOK_BACK) : start].rstrip(" \t" + _OPENERS)
    return not before or before[-1] in _BEFORE_SENTENCE or before[-1] == "\n"


class NameFinder:
    """Finds the entities that a question names.

    Args:
        keys: Keys of all entities; an entity's id is its place.
        about_keys: Keys that documents are about; they are found in the question
            also where the extractor does not see a name.
        extractor: The extractor that the documents went through.
        aliases: Other keys of entities, as :attr:`EntityLinks.aliases` has them.
    """

    def __init__(
        self,
        keys: Sequence[str],
        about_keys: Collection[str],
        extractor: Extractor,
        aliases: Mapping[str, int] | None = None,
    ) -> None:
        self._ids = {key: number for number, key in enumerate(keys)}
        about = {self._ids[key] for key in about_keys if key in self._ids}
        for alias, number in (aliases or {}).items():
            self._ids.setdefault(alias, number)
        known = set(about_keys)
        known |= {key for key, number in self._ids.items() if number in about}
        self._gazetteer = Gazetteer(key for key in known if key in self._ids)
        self._extractor = extractor

    @cached_property
    def _every(self) -> Gazetteer:
        return Gazetteer(self._ids)

    def find(self, text: str) -> list[int]:
        """Return the ids of the entities that a text names, in its order."""
        found: list[tuple[int, int]] = []
        for mention in self._extractor.extract([text])[0].mentions:
            number = self._ids.get(name_key(mention.name))
            if number is not None:
                found.append((mention.start, number))
        if text.islower():  # typed without capitals: any known name may be meant
            found += [
                (hit.start, self._ids[hit.key])
                for hit in self._every.find(text, small=True)
                if hit.key not in FUNCTION_WORDS
            ]
        else:
            found += [
                (hit.start, self._ids[hit.key])
                for hit in self._gazetteer.find(text)
                if hit.certain or hit.key not in FUNCTION_WORDS
            ]
        return list(dict.fromkeys(number for _, number in sorted(found)))
