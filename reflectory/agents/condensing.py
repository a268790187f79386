"""Short answers that lie in long ones: names, dates and phrases that the documents hold too.

A small model knows more than it can say shortly. Asked for a name it writes a sentence that
holds the name, so the stretches of what it said are answers of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from reflectory.agents.answer_types import AnswerType, expected_type, names_choices
from reflectory.agents.citations import content_words
from reflectory.retrieval.structure import RuleExtractor
from reflectory.types import Passage

BRIEF_WORDS = 5
"""An answer of at most so many words is a short one."""

_DECISIONS = frozenset({"yes", "no"})
_WORD = re.compile(r"\w+")
_EXTRACTOR = RuleExtractor()


def asks_shortly(question: str) -> bool:
    """Return whether a few words can answer a question."""
    return expected_type(question) is not AnswerType.EXPLANATION


def short_forms(
    question: str, texts: Iterable[str], passages: Sequence[Passage], *, most: int
) -> list[str]:
    """Return stretches of some texts that might answer a question, those in most texts first.

    A stretch is a name, a date, a number or a noun phrase of at most five words that the
    passages hold and that is not all in the question. A question for yes or no has these two
    instead; one that names what can be chosen has that, too.

    Args:
        question: What was asked.
        texts: What was said.
        passages: What the student saw.
        most: Most stretches to return.
    """
    wanted = expected_type(question)
    if wanted is AnswerType.YES_NO:
        return ["Yes", "No"][:most]
    held = _held(passages)
    asked = set(content_words(question))
    read = [question, *texts] if wanted is AnswerType.CHOICE else list(texts)
    found: dict[str, str] = {}
    times: Counter[str] = Counter()
    for extraction in _EXTRACTOR.extract(read):
        keys: set[str] = set()
        for mention in (*extraction.mentions, *extraction.phrases):
            words, key = content_words(mention.name), _words(mention.name)
            new = wanted is AnswerType.CHOICE or not set(words) <= asked
            if words and new and is_brief(mention.name) and f" {key} " in held:
                found.setdefault(key, mention.name)
                keys.add(key)
        times.update(keys)
    often = sorted(found, key=lambda key: -times[key])  # among equals the first that came
    return [found[key] for key in often[:most]]


def is_short_answer(question: str, text: str, passages: Sequence[Passage]) -> bool:
    """Return whether a text answers in a few words that the passages hold, one of them its own.

    "Energy" says nothing to "What type of energy moves molecules?", and whoever repeats the
    question says it too. Where it asks for yes or no, or names what can be chosen, it may be all
    that an answer says.

    Args:
        question: What was asked.
        text: What was said.
        passages: What the student saw.
    """
    if not (is_brief(text) and holds(passages, text)):
        return False
    if names_choices(question) or expected_type(question) is AnswerType.YES_NO:
        return True
    return not set(content_words(text)) <= set(content_words(question))


def is_brief(text: str) -> bool:
    """Return whether an answer has at most ``BRIEF_WORDS`` words."""
    return len(text.split()) <= BRIEF_WORDS


def holds(passages: Sequence[Passage], text: str) -> bool:
    """Return whether passages hold the words of an answer, in order, or it is yes or no.

    Args:
        passages: What the student saw, their titles included.
        text: Its answer.
    """
    words = _words(text)
    return words in _DECISIONS or (bool(words) and f" {words} " in _held(passages))


def _held(passages: Sequence[Passage]) -> str:
    return f" {_words(' '.join(f'{p.title} {p.text}' for p in passages))} "


def _words(text: str) -> str:
    """Return the words of a text in lower case, one blank between two."""
    return " ".join(_WORD.findall(text.lower()))
