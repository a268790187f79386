"""Who did what, by patterns over chunks (after ReVerb, Fader et al. 2011).

A verb group takes the noun phrase before it as its subject and what follows it as
its object; relative clauses, insertions between commas, lists and second verbs of
the same subject are followed. Pronouns are not resolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reflectory.retrieval.structure.chunks import DATE, NAME, Chunk, Item
from reflectory.retrieval.structure.lexicon import BE
from reflectory.retrieval.structure.records import Mention, Relation

_PLACE = 3
"""Prepositional phrases behind an object that are read."""

_NEGATIONS = frozenset({"not", "never"})
_INSERTION = 40
"""Chunks between brackets that are stepped over to the subject."""


def phrases_in(text: str, items: Sequence[Item], chunks: Sequence[Chunk]) -> Iterator[Mention]:
    """Yield the noun phrases of a sentence that are more than a name, without determiners."""
    for chunk in chunks:
        if chunk.kind == "n" and any(i.tag == "W" for i in items[chunk.first : chunk.last + 1]):
            first = _after_determiners(items, chunk)
            start, end = items[first].start, items[chunk.last].end
            yield Mention(name=text[start:end], start=start, end=end, kind="phrase")


def _after_determiners(items: Sequence[Item], chunk: Chunk) -> int:
    return next((n for n in range(chunk.first, chunk.last) if items[n].tag != "D"), chunk.last)


def relations_in(
    text: str, items: Sequence[Item], chunks: Sequence[Chunk], start: int, end: int
) -> list[Relation]:
    """Return the relations of the sentence ``text[start:end]``, each once, in its order."""
    reader = _Reader(text, items, chunks)
    found = dict.fromkeys(reader.triples())
    return [
        Relation(subject=subject, verb=verb, object=thing, start=start, end=end)
        for subject, verb, thing in found
    ]


class _Reader:
    """Reads the chunks of one sentence from left to right."""

    def __init__(self, text: str, items: Sequence[Item], chunks: Sequence[Chunk]) -> None:
        self.text, self.items = text, items
        self.chunks = _with_of(items, chunks)
        self.subjects: list[int] = []
        """Chunks that the verb before had as its subjects."""
        self.copula: tuple[int, list[int]] = (-1, [])
        """The chunk that a form of *be* said something with, and of what."""

    def triples(self) -> Iterator[tuple[str, str, str]]:
        """Yield subject, verb and object of every relation."""
        for at, chunk in enumerate(self.chunks):
            if chunk.kind != "v":
                continue
            subjects = self._subjects(at)
            participle = self._tags(chunk)[0] in "VG"
            if not (participle and self._kind(at - 1) == ","):
                self.subjects = subjects
            names = [name for n in subjects if (name := self._argument(n))]
            for verb, thing in self._objects(at, subjects):
                argument = self._argument(thing)
                for name in names:
                    if argument and argument != name:
                        yield name, verb, argument

    def _kind(self, at: int) -> str:
        return self.chunks[at].kind if 0 <= at < len(self.chunks) else ""

    def _tags(self, chunk: Chunk) -> str:
        return "".join(item.tag for item in self.items[chunk.first : chunk.last + 1])

    def _argument(self, at: int) -> str:
        """Return how a noun phrase is called: by the name at its end, else by itself."""
        chunk = self.chunks[at]
        inside = self.items[chunk.first : chunk.last + 1]
        base = next((n for n, item in enumerate(inside) if item.lower == "of"), len(inside))
        head = inside[base - 1]
        if head.tag == NAME:
            return self.text[head.start : head.end]
        if head.tag == DATE:
            return ""
        first = _after_determiners(self.items, chunk)
        return " ".join(self.text[self.items[first].start : inside[-1].end].split())

    # Subjects

    def _subjects(self, at: int) -> list[int]:
        before = self._back_over_adverbs(at - 1)
        kind = self._kind(before)
        if kind == "R":
            antecedent = before - 1 if self._kind(before - 1) != "," else before - 2
            if self.items[self.chunks[before].first].lower in {"where", "when", "whose"}:
                return []
            return [antecedent] if self._kind(antecedent) == "n" else []
        if kind == "n":
            return self._noun_before(at, before)
        if kind == ")":
            opening = self._opening(before)
            return [opening - 1] if self._kind(opening - 1) == "n" else []
        if kind == ",":
            return self._over_comma(at, before)
        if kind == "C":
            return self.subjects
        return []

    def _back_over_adverbs(self, at: int) -> int:
        while self._kind(at) == "B":
            at -= 1
        return at

    def _opening(self, closing: int) -> int:
        nearest = max(0, closing - _INSERTION)
        at = closing - 1
        while at >= nearest and self._kind(at) != "(":
            at -= 1
        return at if at >= nearest else -1

    def _noun_before(self, at: int, noun: int) -> list[int]:
        """Return the subjects that end with a noun phrase right before the verb."""
        participle = self._tags(self.chunks[at])[0] in "VG" and self.copula[0] >= 0
        if participle and noun >= self.copula[0]:
            # "X is a film directed by Y": the film is X.
            return self.copula[1]
        found = [noun]
        first = noun
        while True:
            if (self._kind(first - 1) == "C" and self._kind(first - 2) == "n") or (
                self._kind(first - 1) == "," and self._kind(first - 2) == "n" and len(found) > 1
            ):
                first -= 2
            else:
                break
            found.insert(0, first)
        if len(found) == 1:
            return [self._head(noun)]
        # "X wrote A and B directed C": A belongs to the verb before it.
        if self._kind(found[0] - 1) in {"v", "P"} and self.subjects:
            return [noun]
        return found

    def _head(self, noun: int) -> int:
        """Return the noun phrase that the prepositional phrases before a verb hang on."""
        while self._kind(noun - 1) == "P" and self._kind(noun - 2) == "n":
            noun -= 2
        return noun

    def _over_comma(self, at: int, comma: int) -> list[int]:
        """Return the subjects of a verb that stands behind a comma."""
        nearest = max(0, comma - _INSERTION)
        earlier = comma - 1
        while earlier > nearest and self._kind(earlier) != ",":
            earlier -= 1
        if self._kind(earlier) == "," and self._kind(earlier - 1) == "n":
            return [self._head(earlier - 1)]
        if self._tags(self.chunks[at])[0] in "VG":
            if self.subjects:
                return self.subjects
            if self._kind(comma - 1) == "n":
                return [self._head(comma - 1)]
        return self.subjects

    # Objects

    def _objects(self, at: int, subjects: list[int]) -> Iterator[tuple[str, int]]:
        chunk = self.chunks[at]
        verb = self._verb(chunk)
        inside = self.items[chunk.first : chunk.last + 1]
        copula = all(item.tag in "AB" for item in inside) and any(i.lower in BE for i in inside)
        after = at + 1
        while self._kind(after) == "B":
            after += 1
        if copula and self._is_adjective(after) and self._kind(after + 1) == "P":
            adjective = self.chunks[after]
            verb = f"{verb} {self._words(adjective.first, adjective.last)}"
            after += 1
        elif copula and self._kind(after) == "n":
            self.copula = (after, subjects)
        last = after - 1
        if self._kind(after) == "n" and not (copula and self._is_adjective(after)):
            for thing in self._list(after):
                yield verb, thing
                last = thing
        elif self._kind(after) == "n":
            last = after
        for _ in range(_PLACE):
            if self._kind(last + 1) != "P" or self._kind(last + 2) != "n":
                return
            preposition = self.items[self.chunks[last + 1].first].lower
            direct = last == after - 1
            things = self._list(last + 2)
            for thing in things:
                # What hangs on a noun in between is often said of the noun.
                if direct or preposition == "by" or self._is_name(thing):
                    yield f"{verb} {preposition}", thing
            last = things[-1]

    def _verb(self, chunk: Chunk) -> str:
        first = chunk.first
        while (
            first < chunk.last
            and self.items[first].tag == "B"
            and self.items[first].lower not in _NEGATIONS
        ):
            first += 1
        return self._words(first, chunk.last)

    def _words(self, first: int, last: int) -> str:
        return " ".join(self.text[self.items[first].start : self.items[last].end].split())

    def _is_adjective(self, at: int) -> bool:
        return self._kind(at) == "n" and self._tags(self.chunks[at]) == "W"

    def _is_name(self, at: int) -> bool:
        return self._tags(self.chunks[at]).endswith(NAME)

    def _list(self, first: int) -> list[int]:
        """Return the noun phrases of a list (A, B and C) that begins with one."""
        found = [first]
        at = first
        while True:
            step = at + 1
            if self._kind(step) == ",":
                step += 1
            if self._kind(step) == "C":
                step += 1
            if step == at + 1 or self._kind(step) != "n" or self._begins_clause(step):
                break
            found.append(step)
            at = step
        ended = self._kind(found[-1] - 1) == "C" or len(found) == 1
        # "A, B" without a conjunction is a name and what it is.
        return found if ended else found[:1]

    def _begins_clause(self, noun: int) -> bool:
        """Return whether a noun phrase has a verb of its own."""
        at = noun + 1
        while self._kind(at) in {"B", "P"} or (self._kind(at) == "n" and self._kind(at - 1) == "P"):
            at += 1
        return self._kind(at) == "v" and self._tags(self.chunks[at])[0] != "G"


def _with_of(items: Sequence[Item], chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return the chunks with noun phrases that *of* joins put together."""
    found: list[Chunk] = []
    at = 0
    while at < len(chunks):
        chunk = chunks[at]
        while (
            chunk.kind == "n"
            and at + 2 < len(chunks)
            and chunks[at + 1].kind == "P"
            and items[chunks[at + 1].first].lower == "of"
            and chunks[at + 2].kind == "n"
        ):
            chunk = Chunk("n", chunk.first, chunks[at + 2].last)
            at += 2
        found.append(chunk)
        at += 1
    return found
