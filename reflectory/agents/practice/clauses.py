"""One sentence with one stretch taken out: the question that asks for it.

Without its subject a sentence asks for the subject; turned round, it asks for what stands
behind the verb. Works on the chunks of the rules, so on English; sentences that are not
plain enough are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reflectory.agents.practice.lexicon import (
    DEGREE,
    DESCRIBING,
    EMPTY,
    INVERTING,
    NONE_OR_ALL,
    OWN,
    PLACE,
    POINTING,
    PROMISING,
    STANDS_FOR,
    THIRD,
    TIME,
    UNFINISHED,
)
from reflectory.agents.practice.verb_forms import auxiliary_of, is_bare, with_s
from reflectory.agents.practice.wording import MOST_WORDS, Gap, gap_of, is_nameable, question_of
from reflectory.retrieval.structure.chunks import Chunk, Item
from reflectory.retrieval.structure.lexicon import BE, GROUPS
from reflectory.retrieval.structure.parsing import ParsedSentence
from reflectory.retrieval.structure.verbs import BASES

_MOST_ANSWER_WORDS = 5


class SentenceReader:
    """Takes stretches out of one sentence."""

    def __init__(
        self, text: str, sentence: ParsedSentence, subject: str, nouns: frozenset[str]
    ) -> None:
        self.text = text
        self.items = sentence.items
        self.chunks = sentence.chunks
        self.end = sentence.end
        self.start = sentence.start
        self.subject = subject
        self.nouns = nouns
        self.stands_for = subject if is_nameable(subject, text) else ""

    def gaps(self) -> Iterator[Gap]:
        """Yield the subject, then what stands behind the verb."""
        first = self._first_of_clause()
        verb = self._verb(first)
        if verb is None or self._is_command(first) or self._is_reduced(verb):
            return
        subject = self._subject(first, verb)
        if subject is None:
            return
        if gap := self._asked_for_subject(first, verb):
            yield gap
        for at in range(verb + 1, min(len(self.chunks), verb + 1 + MOST_WORDS)):
            kind = self.chunks[at].kind
            if kind in {",", ";", "S", "R", "v", "("}:
                return  # another clause; its verb has a subject of its own
            if kind == "n" and (gap := self._asked_for_object(subject, verb, at)):
                yield gap

    # -- where things are

    def _first_of_clause(self) -> int:
        """Return the chunk that the main clause begins with: behind *In nature,* or *However,*."""
        if not self.chunks or self.chunks[0].kind in {"n", "O"}:
            return 0
        for at, chunk in enumerate(self.chunks[:6]):
            if chunk.kind == ",":
                return at + 1
            if chunk.kind == "v" and any(i.tag == "A" for i in self._items(chunk)):
                break
        return 0

    def _verb(self, first: int) -> int | None:
        """Return the chunk of the finite verb: only a plain noun phrase stands before it."""
        seen = False
        for at in range(first, len(self.chunks)):
            kind = self.chunks[at].kind
            if kind in {"n", "O"}:
                seen = True
            elif kind == "v":
                return at if seen and self._is_finite(self.chunks[at]) else None
            elif kind not in {"P", "C"} or not seen:
                return None
        return None

    def _is_finite(self, chunk: Chunk) -> bool:
        items = [i for i in self._items(chunk) if i.tag != "B"]
        return bool(items) and items[0].tag in {"A", "V"} and items[0].lower not in UNFINISHED

    def _is_command(self, first: int) -> bool:
        """Return whether it begins as *Suppose a rock*, or with a number as headings do."""
        items = self._items(self.chunks[first])
        if items[0].tag == "U":
            return True
        return items[0].lower in BASES and len(items) > 1 and items[1].tag == "D"

    def _is_reduced(self, verb: int) -> bool:
        """Return whether the verb only describes, as in *the energy required to melt it is*."""
        if any(item.tag == "A" for item in self._items(self.chunks[verb])):
            return False
        if self._main(verb) in DESCRIBING:
            return True
        for chunk in self.chunks[verb + 1 :]:
            if chunk.kind in {",", ";", "S", "R", "C"}:
                return False
            if chunk.kind == "v" and self._is_finite(chunk):
                return True
        return False

    def _subject(self, first: int, verb: int) -> str | None:
        """Return the words of the subject; ``None`` where they point to another sentence."""
        items = self.items[self.chunks[first].first : self.chunks[verb].first]
        head = items[0]
        whole = self._words(first, verb - 1)
        if len(items) > MOST_WORDS or items[-1].tag in {"C", "P"}:
            return None
        if head.lower in STANDS_FOR:
            single = verb == first + 1
            return self.stands_for or None if single and head.lower != "they" else None
        if head.lower in OWN and len(items) > 1:
            if not self.stands_for or head.lower == "their":
                return None
            return f"{self.stands_for}'s {whole[len(head.lower) :].lstrip()}"
        if head.tag == "O" or head.lower in POINTING or head.lower in NONE_OR_ALL:
            return None
        if verb == first + 1 and items[-1].lower in EMPTY and len(items) <= 2:
            return None  # "The same was seen"
        if self.stands_for and whole.casefold() in self.nouns:
            return self.stands_for  # "The film", of which the first sentence says that it is one
        return whole

    # -- questions

    def _asked_for_subject(self, first: int, verb: int) -> Gap | None:
        if verb != first + 1 or self.chunks[first].kind != "n":
            return None
        answer, kind = self._answer(first)
        if not answer or kind in {"date", "number"}:
            return None
        rest = self._verb_phrase(verb)
        if not rest:
            return None
        person = kind == "name" or self.items[self.chunks[first].last].tag == "N"
        words = ("Who", "What") if person or self._is_kept_capital(answer) else ("What",)
        questions = [question_of(f"{word} {rest}") for word in words]
        return self._gap(answer, kind, questions, f"that {rest}")

    def _verb_phrase(self, verb: int) -> str:
        """Return verb and rest; a bare form gets the ending that *what* asks for."""
        items = list(self._items(self.chunks[verb]))
        stop = self._stop(verb)
        if self._points_back(verb, stop):
            return ""
        rest = self.text[items[0].start : stop].strip(" ,;:.")
        at = next(n for n, i in enumerate(items) if i.tag != "B")
        word = items[at]
        if (word.tag == "V" and is_bare(word.lower)) or word.lower in {"do", "have"}:
            before = self.text[items[0].start : word.start]
            rest = before + with_s(word.lower) + rest[len(before) + len(word.lower) :]
        return rest

    def _points_back(self, verb: int, stop: int) -> bool:
        """Return whether *it* or *them* stands behind a verb before any noun it could mean."""
        for item in self.items[self.chunks[verb].last + 1 :]:
            if item.start >= stop or item.tag in {"N", "W"}:
                return False
            if item.lower in THIRD and item.tag == "O":
                return True
        return False

    def _asked_for_object(self, subject: str, verb: int, at: int) -> Gap | None:
        answer, kind = self._answer(at)
        if not answer:
            return None
        following = self.chunks[at + 1] if at + 1 < len(self.chunks) else None
        if self.chunks[at - 1].kind == "C":
            return None  # one of several
        if following is not None and following.kind in {"C", "n", "R", "v"}:
            return None
        if self._goes_on(at) or self._items(self.chunks[verb])[-1].lower in DEGREE:
            return None
        main = self._main(verb)
        if main in PROMISING:
            return None
        copula = main in BE
        if copula and kind == "phrase":
            if at > verb + 1 and self.chunks[verb + 1].kind == "n":
                return None  # inside of what the subject is
            if following is not None and following.kind == "P":
                return None  # half of what the subject is
        if following is not None and following.kind == "P" and self._lower(following) == "of":
            return None
        head = self._inverted(subject, verb)
        if head is None:
            return None
        auxiliary, lead = head
        start = self._items(self.chunks[at])[0].start
        between = self.text[self._items(self.chunks[verb])[-1].end : start].strip()
        after = self.text[self._items(self.chunks[at])[-1].end : self._stop(at)].strip(" ,;:.")
        if kind == "phrase" and self._is_adjective(verb, at):
            return None
        preposition = between.rpartition(" ")[2].lower()
        without = between[: len(between) - len(preposition)].strip()
        questions = []
        strands = self._can_strand(verb, at, preposition, after)
        for word, middle in self._ways(kind, preposition, between, without):
            if middle and middle == between and not strands:
                continue
            questions.append(
                question_of(" ".join(w for w in (word, auxiliary, lead, middle, after) if w))
            )
        said = self.text[self._items(self.chunks[verb])[0].start : start].strip()
        clause = "" if kind in {"date", "number"} else f"that {subject} {said} {after}".strip()
        return self._gap(answer, kind, questions, clause)

    def _can_strand(self, verb: int, at: int, preposition: str, after: str) -> bool:
        """Return whether a preposition can stay behind: not deep inside of a noun phrase."""
        inner = self.chunks[verb + 1 : at]
        nouns = sum(c.kind == "n" for c in inner)
        if [c.kind for c in inner[-2:]] == ["P", "P"]:
            return False  # "at about ten"
        return not (nouns > 1 or (nouns and preposition == "of" and after))

    def _goes_on(self, at: int) -> bool:
        """Return whether a second verb follows, as in *took the train in May and went home*."""
        for n in range(at + 1, len(self.chunks) - 1):
            kind = self.chunks[n].kind
            if kind in {",", ";", "S"}:
                return False
            if kind == "C" and self.chunks[n + 1].kind == "v":
                return True
        return False

    def _main(self, verb: int) -> str:
        """Return the last word of a verb group that is no adverb."""
        kept = [i.lower for i in self._items(self.chunks[verb]) if i.tag != "B"]
        return kept[-1] if kept else ""

    def _ways(
        self, kind: str, preposition: str, between: str, without: str
    ) -> Iterator[tuple[str, str]]:
        """Yield question words with what stands between the verb and the gap."""
        if kind == "date":
            if preposition in TIME:
                yield "When", without
            elif not between:
                yield "When", ""
        elif kind == "name":
            if preposition in PLACE:
                yield "Where", (between if preposition == "from" else without)
            yield "What", between
            if preposition not in PLACE:
                yield "Who", between
        elif kind == "phrase":
            yield "What", between
        elif kind == "number":
            return

    def _inverted(self, subject: str, verb: int) -> tuple[str, str] | None:
        """Return the auxiliary, and the subject with what is left of the verb group."""
        items = list(self._items(self.chunks[verb]))
        at = next(n for n, item in enumerate(items) if item.tag != "B")
        word = items[at]
        before = self.text[items[0].start : word.start].strip()
        rest = self.text[word.end : items[-1].end].strip()
        lowered = self._lowered(subject)
        if word.lower in INVERTING:
            if word.lower in {"has", "have", "had"} and not rest:
                form = auxiliary_of(word.lower)
                if word.lower == "have":
                    form = ("do", "have")
                if form is None:
                    return None
                return form[0], f"{lowered} {before} {form[1]}".replace("  ", " ")
            return word.lower, " ".join(w for w in (lowered, before, rest) if w)
        form = auxiliary_of(word.lower)
        if form is None:
            return None
        return form[0], " ".join(w for w in (lowered, before, form[1], rest) if w)

    # -- words

    def _answer(self, at: int) -> tuple[str, str]:
        """Return the words of a noun phrase without its article, and what they are."""
        items = self._items(self.chunks[at])
        while items and items[0].tag == "D":
            if items[0].lower in POINTING | OWN | NONE_OR_ALL:
                return "", ""
            items = items[1:]
        if not items or any(i.possessive for i in items[-1:]):
            return "", ""
        words = self.text[items[0].start : items[-1].end].split()
        text = " ".join(words)
        if not 1 <= len(words) <= _MOST_ANSWER_WORDS or len(text) < 3:
            return "", ""
        if items[0].tag == "Y" and len(items) == 1:
            return text, "date"
        if all(i.tag == "N" for i in items):
            return text, "name"
        if items[0].tag == "U":
            return (text, "number") if len(items) > 1 else ("", "")
        if words[-1].lower() in EMPTY or (len(words) == 1 and text.lower() in GROUPS):
            return "", ""
        return text, "phrase"

    def _is_adjective(self, verb: int, at: int) -> bool:
        """Return whether *is WORD* or *grew fairly WORD* says how and not what."""
        items = list(self._items(self.chunks[at]))
        if items[0].tag != "W" or len(items) > 1:
            return False
        adverb = self.items[self.chunks[at].first - 1].tag == "B"
        return adverb or (at == verb + 1 and self._main(verb) in BE)

    def _stop(self, at: int) -> int:
        """Return the offset where the clause of a chunk ends."""
        for chunk in self.chunks[at + 1 :]:
            if chunk.kind in {",", ";", "S"}:
                return self._items(chunk)[0].start
        return self.end

    def _gap(self, answer: str, kind: str, questions: list[str], clause: str) -> Gap | None:
        return gap_of(answer, kind, questions, clause, self.text[self.start : self.end])

    def _lowered(self, subject: str) -> str:
        """Return a subject as it is written inside a sentence."""
        first = subject.split(" ")[0]
        if first in {"The", "A", "An"}:
            return subject[:1].lower() + subject[1:]
        if self.stands_for and subject.startswith(self.stands_for):
            return subject
        is_name = (
            any(
                item.tag == "N" and self.text.startswith(subject, item.start) for item in self.items
            )
            or (len(first) > 1 and not first[1:].islower())
            or self._is_kept_capital(subject)
        )
        return subject if is_name else subject[:1].lower() + subject[1:]

    def _is_kept_capital(self, text: str) -> bool:
        """Return whether a single word is a name: the title has it, and only with a capital."""
        return (
            text[:1].isupper()
            and text in self.subject.split()
            and re.search(rf"\b{re.escape(text.lower())}\b", self.text) is None
        )

    def _items(self, chunk: Chunk) -> list[Item]:
        return self.items[chunk.first : chunk.last + 1]

    def _lower(self, chunk: Chunk) -> str:
        return self._items(chunk)[0].lower

    def _words(self, first: int, last: int) -> str:
        start = self._items(self.chunks[first])[0].start
        return " ".join(self.text[start : self._items(self.chunks[last])[-1].end].split())
