"""Names by rule: runs of capitalised words, titles in quotes, and dates.

What a rule cannot know from one place it takes from the rest of the text: a word
at the head of a sentence is a name where it is one elsewhere, and none where it is
written small elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reflectory.retrieval.sentences import Span, words
from reflectory.retrieval.structure import german
from reflectory.retrieval.structure.lexicon import (
    ABBREVIATIONS,
    ADDRESS,
    AUXILIARIES,
    BEFORE_ADDRESS,
    COMPANY_FORMS,
    DAYS,
    FUNCTION_WORDS,
    GROUPS,
    INSTITUTIONS,
    MONTHS,
    NUMERALS,
    PARTICLES,
    ROLES,
    UNITS,
)
from reflectory.retrieval.structure.records import Mention
from reflectory.retrieval.structure.tokens import Token, quoted_titles
from reflectory.retrieval.structure.verbs import is_verb

_LONGEST = 12
"""Words of a name; a longer run of capitals is cut."""

_LINKS = words("of for on in and the")
_ORDINALS = NUMERALS | {"first"}
_NTH = ("st", "nd", "rd", "th")
_NO_NAMES = ROLES | BEFORE_ADDRESS | _LINKS
_JOINED_POSSESSIVE = words(
    "king queen people women men children veterans saint st world hitchhiker"
)
_ORDINARY_ENDINGS = (
    "ly ing tion tions ment ments ness ity ities ers ists ors ians ees ism isms ogy ics ance ence "
    "ances ences ship ful less ous ive able ible"
)
_ENDINGS = tuple(_ORDINARY_ENDINGS.split())
_PLURAL_VERBS = words("are were have do")


class Sentence(NamedTuple):
    """A sentence with its words; ``heading`` where it is one."""

    start: int
    end: int
    tokens: list[Token]
    heading: bool


class _Candidate(NamedTuple):
    """A run of words ``first`` to ``last`` of a sentence that may be a name."""

    sentence: int
    first: int
    last: int


def find_names(
    text: str, sentences: Sequence[Sentence], dates: Iterable[Span]
) -> tuple[Mention, ...]:
    """Return the names, nationalities and dates of a text in its order, not overlapping.

    Args:
        text: The text.
        sentences: Its sentences, in order.
        dates: Where its dates stand, in order.
    """
    quoted = [
        span
        for sentence in sentences
        if not sentence.heading
        for span in quoted_titles(text, sentence.start, sentence.end)
    ]
    blocked = _covered(quoted)
    # A date inside a title ("1984") is part of it.
    free = [span for span in dates if span[0] not in blocked]
    blocked |= _covered(free)
    mentions = [Mention(name=text[a:b], start=a, end=b, kind="date") for a, b in free]
    mentions += [Mention(name=text[a:b], start=a, end=b) for a, b in quoted]
    is_german = german.is_german(t.text for s in sentences for t in s.tokens)
    found = [c for n, s in enumerate(sentences) for c in _candidates(n, s, blocked, is_german)]
    for candidate in _decided(sentences, found):
        tokens = sentences[candidate.sentence].tokens
        start, end = tokens[candidate.first].start, tokens[candidate.last].end
        single = candidate.first == candidate.last
        kind = "group" if single and tokens[candidate.first].lower in GROUPS else "name"
        mentions.append(Mention(name=text[start:end], start=start, end=end, kind=kind))
    return tuple(sorted(mentions, key=lambda mention: mention.start))


def _covered(spans: Iterable[Span]) -> set[int]:
    return {at for start, end in spans for at in range(start, end)}


def _candidates(
    number: int, sentence: Sentence, blocked: set[int], is_german: bool
) -> Iterable[_Candidate]:
    """Yield the runs of capitalised words of a sentence."""
    tokens = sentence.tokens
    at = 0
    while at < len(tokens):
        token = tokens[at]
        written = token.capital or token.text[0].isdigit()
        small = is_german and german.is_function_word(token)
        if not written or small or token.start in blocked or not _may_begin(tokens, at):
            at += 1
            continue
        last = _end_of_run(tokens, at, blocked, is_german)
        first = _without_address(tokens, at, last)
        if first <= last and not _is_noise(tokens, first, last):
            single_german = is_german and first == last
            if not single_german or german.is_name(tokens, first):
                yield _Candidate(number, first, last)
        at = last + 1


def _may_begin(tokens: Sequence[Token], at: int) -> bool:
    token = tokens[at]
    if token.text[0].isdigit():  # 20th Century Fox, but no part numbers
        return at + 1 < len(tokens) and tokens[at + 1].capital and token.lower.endswith(_NTH)
    if token.lower not in FUNCTION_WORDS:
        return True
    if at == 0:
        return False
    if len(token.text) > 1 and token.text.isupper():
        return True  # WHO, IT, US
    # the First World War, the Second Republic
    return token.lower in _ORDINALS and at + 1 < len(tokens) and tokens[at + 1].capital


def _end_of_run(tokens: Sequence[Token], first: int, blocked: set[int], is_german: bool) -> int:
    """Return the last word of the run that begins with ``first``."""
    last = at = first
    head = {tokens[first].lower}
    while at + 1 < len(tokens) and at - first + 2 <= _LONGEST:
        token, before = tokens[at + 1], tokens[at]
        sainted = before.possessive and head & _JOINED_POSSESSIVE and token.gap[2:].isspace()
        if token.start in blocked or not (sainted or _joins(token, before, at == last)):
            break
        small = token.lower in FUNCTION_WORDS and not token.text.isupper()
        if token.capital and not small:
            last = at + 1
            head.add(token.lower)
        elif token.text.isdigit():
            amount = at + 2 < len(tokens) and tokens[at + 2].lower in NUMERALS
            if at != last or len(token.text) > 3 or amount:
                break
            last = at + 1
        elif not _links(token, before, head, is_german) or at + 1 - last > 3:
            break
        else:
            head.add(token.lower)
        at += 1
    return last


def _joins(token: Token, before: Token, is_last: bool) -> bool:
    """Return whether what stands between two words can stand inside a name."""
    if before.possessive:
        return False
    gap = token.gap.strip()
    if "\n\n" in token.gap:
        return False
    if not gap:
        return True
    if gap == ".":
        return len(before.text) == 1 or before.lower in ABBREVIATIONS
    if gap == "&":
        return is_last
    return gap == "," and token.lower in {"jr", "sr", "inc", "ltd", "llc"}


def _links(token: Token, before: Token, head: set[str], is_german: bool) -> bool:
    """Return whether a small word can go on with a name."""
    lower = token.lower
    if is_german:
        return lower in german.PARTICLES
    if lower == "the":
        return before.lower in _LINKS and before.lower != "the"
    if lower == "of":
        return before.lower not in ROLES
    if lower in PARTICLES:
        return True
    if lower in {"and", "or"}:  # the Department of Health and Human Services
        return bool(head & INSTITUTIONS and head & _LINKS)
    return lower in _LINKS and (before.lower in INSTITUTIONS or token.capital)


def _without_address(tokens: Sequence[Token], first: int, last: int) -> int:
    """Return where a name begins without a form of address and what stands before that."""
    at = first
    while at < last and tokens[at].lower in GROUPS | BEFORE_ADDRESS:
        at += 1
    if tokens[at].lower not in ADDRESS or tokens[at].text.isupper():
        return first
    while at < last and tokens[at].lower in ADDRESS and not tokens[at].text.isupper():
        at += 1
    following = tokens[at].lower
    if following in FUNCTION_WORDS or following in PARTICLES:
        return first  # "President of France", "Director General"
    return at


def _is_noise(tokens: Sequence[Token], first: int, last: int) -> bool:
    if all(t.lower in _NO_NAMES or t.text.isdigit() for t in tokens[first : last + 1]):
        return True  # "the Vice President", "Chief of Staff"
    if tokens[first].lower in _NO_NAMES and tokens[last].lower in _NO_NAMES:
        return True  # "Chief Operating Officer"
    if first < last:
        return False
    token = tokens[first]
    if len(token.text) == 1 or token.lower in MONTHS or token.lower in DAYS:
        return True
    return not token.text.isupper() and token.lower in ADDRESS | COMPANY_FORMS | UNITS


def _decided(sentences: Sequence[Sentence], found: Sequence[_Candidate]) -> list[_Candidate]:
    """Keep of the runs at the head of a sentence or in a heading what is a name elsewhere too."""
    small = {t.text for s in sentences for t in s.tokens if not t.capital}
    body = any(not s.heading for s in sentences)
    sure = [c for c in found if c.first > 0 and not (body and sentences[c.sentence].heading)]
    known = {t.lower for c in sure for t in sentences[c.sentence].tokens[c.first : c.last + 1]}
    whole = {_words(sentences, c) for c in sure}
    kept: list[_Candidate] = []
    for candidate in found:
        sentence = sentences[candidate.sentence]
        if body and sentence.heading:
            if _words(sentences, candidate) in whole:
                kept.append(candidate)
            continue
        if candidate.first > 0:
            kept.append(candidate)
            continue
        first, last = candidate.first, candidate.last
        word = sentence.tokens[first]
        if first < last:
            if word.lower not in known:
                candidate = _without_ordinary(sentences, candidate, small, whole)
            kept.append(candidate)
        elif word.lower in known or _begins_as_name(sentence.tokens, small):
            kept.append(candidate)
    return kept


def _without_ordinary(
    sentences: Sequence[Sentence],
    candidate: _Candidate,
    small: set[str],
    whole: set[tuple[str, ...]],
) -> _Candidate:
    """Return a run at the head of a sentence without a first word that is no part of the name."""
    tokens = sentences[candidate.sentence].tokens
    word, following = tokens[candidate.first].lower, tokens[candidate.first + 1].lower
    rest = candidate._replace(first=candidate.first + 1)
    if word in small and _words(sentences, rest) in whole:
        return rest
    if following == "of" and word.endswith(("s", *_ENDINGS)) and word not in INSTITUTIONS:
        after = candidate.first + 2  # "Shares of Nokia", "Members of the Senate"
        while after < candidate.last and not tokens[after].capital:
            after += 1
        return candidate._replace(first=after)
    return candidate


def _words(sentences: Sequence[Sentence], candidate: _Candidate) -> tuple[str, ...]:
    tokens = sentences[candidate.sentence].tokens[candidate.first : candidate.last + 1]
    return tuple(token.lower for token in tokens)


def _begins_as_name(tokens: Sequence[Token], small: set[str]) -> bool:
    """Return whether the single capitalised word at the head of a sentence looks like a name."""
    token = tokens[0]
    if token.possessive or not token.text[1:].islower():
        return True
    if token.lower in small or token.lower.endswith(_ENDINGS):
        return False
    if len(tokens) == 1:
        return False
    following = tokens[1]
    if following.gap.strip() in {",", "(", "["}:
        return True
    if following.gap.strip():
        return False
    if following.lower in _PLURAL_VERBS and token.lower.endswith("s"):
        return False
    return following.lower in AUXILIARIES or is_verb(following.lower)
