"""Signals of an answer's quality that need no verdict: texts and likelihoods in, numbers out.

A small model cannot say how good an answer is, but the probability that it
gives the answer under the documents tells a good deal. One likelihood alone
can be fooled: an echo of the question is likely because it was just read, a
copied sentence because it stands there. So each answer is measured from
several sides, and a calibration on known cases decides what each is worth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from reflectory.agents.citations import content_words
from reflectory.models.protocol import TokenScores
from reflectory.types import Passage

_SPAN = re.compile(
    r"(?:[A-Z][\w'\u2019\-]*)(?:\s+(?:(?:of|the|and|de|von|van|la|du)\s+)?[A-Z][\w'\u2019\-]*)*|\d[\d,.]*\d|\d"
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'“(\[]?[A-Z0-9])")
MAX_RIVALS = 8


@dataclass(frozen=True)
class Likelihoods:
    """The log-likelihoods of one answer.

    Attributes:
        full: Given documents and question.
        without_question: Given the documents alone.
        without_documents: Given the question alone.
    """

    full: TokenScores
    without_question: TokenScores
    without_documents: TokenScores


def rivals_in(passages: Sequence[Passage], question: str, answer: str) -> list[str]:
    """Return names, dates and numbers of the passages that the answer might have been.

    What overlaps with question or answer is no rival. At most
    :data:`MAX_RIVALS`, spread evenly over the passages.
    """
    taken = set(content_words(question)) | set(content_words(answer))
    found: dict[str, None] = {}
    for passage in passages:
        for match in _SPAN.finditer(passage.text):
            span = match.group().strip().rstrip(".,")
            words = set(content_words(span))
            if len(span) > 1 and words and not words & taken:
                found[span] = None
    spans = list(found)
    if len(spans) <= MAX_RIVALS:
        return spans
    step = len(spans) / MAX_RIVALS
    return [spans[int(i * step)] for i in range(MAX_RIVALS)]


def supported_share(answer: str, passages: Sequence[Passage]) -> float:
    """Return the share of the answer's content words that the passages hold, in [0, 1]."""
    words = content_words(answer)
    if not words:
        return 1.0
    known = {w for p in passages for w in content_words(f"{p.title} {p.text}")}
    return sum(w in known for w in words) / len(words)


def echo_share(answer: str, question: str) -> float:
    """Return how much of the question an answer repeats while adding nothing, in [0, 1].

    1 means that the answer consists of the question. "A" as the answer to
    "Which is older, A or B?" repeats little of the question and is no echo.
    """
    said, asked = content_words(answer), content_words(question)
    if not said or not asked:
        return 0.0
    own = sum(w in set(asked) for w in said) / len(said)
    whole = sum(w in set(said) for w in set(asked)) / len(set(asked))
    return own * whole


def repeated_share(answer: str, question: str) -> float:
    """Return the share of the question that an answer repeats without a word of its own.

    In [0, 1]: 1 for an echo, 1/2 for the first half of the question, 1/3 for "A"
    as the answer to "Which is older, A or B?", and 0 for every answer that adds
    a word.
    """
    said, asked = set(content_words(answer)), set(content_words(question))
    return len(said) / len(asked) if asked and said <= asked else 0.0


def proximity(answer: str, question: str, passages: Sequence[Passage]) -> float:
    """Return how near to the question's words an answer stands in the passages, in [0, 1].

    The best sentence counts: the share of the answer's content words that it
    holds times the share of the question's that it or its passage's title
    holds. A closed answer such as "yes" has no place of its own and gets 0.
    """
    said, asked = set(content_words(answer)), set(content_words(question))
    asked -= said
    if not said or not asked:
        return 0.0
    best = 0.0
    for passage in passages:
        title = set(content_words(passage.title))
        for sentence in sentences_of(passage.text):
            have = set(content_words(sentence))
            answered = len(said & have) / len(said)
            best = max(best, answered * len(asked & (have | title)) / len(asked))
    return best


def signals(
    likelihoods: Likelihoods, question: str, answer: str, passages: Sequence[Passage]
) -> dict[str, float]:
    """Return the named numbers from which a score is made.

    Args:
        likelihoods: Of the answer, from several sides.
        question: What was asked.
        answer: What was answered.
        passages: What the student saw.

    Returns:
        ``fit`` (log-likelihood per token given everything), ``weakest`` (the
        least likely token), ``evidence`` (what the documents add to fit),
        ``relevance`` (what the question adds), ``support`` and ``echo`` (shares of
        words), ``repeated`` (share of the question in an answer that adds nothing),
        ``proximity`` (of the answer to the question's words in the passages),
        ``nearest`` (the same above the mean of the rivals), ``length`` (log of the
        number of tokens).
    """
    fit = likelihoods.full.mean
    near = proximity(answer, question, passages)
    others = [proximity(r, question, passages) for r in rivals_in(passages, question, answer)]
    return {
        "fit": fit,
        "weakest": min(likelihoods.full.logprobs),
        "evidence": fit - likelihoods.without_documents.mean,
        "relevance": fit - likelihoods.without_question.mean,
        "support": supported_share(answer, passages),
        "echo": echo_share(answer, question),
        "repeated": repeated_share(answer, question),
        "proximity": near,
        "nearest": near - sum(others) / len(others) if others else 0.0,
        "length": math.log(len(likelihoods.full.logprobs)),
    }


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a passage, by punctuation alone."""
    return [s.strip() for s in _SENTENCE.split(" ".join(text.split())) if s.strip()]


def closest_sentence(text: str, passages: Sequence[Passage]) -> tuple[int, str] | None:
    """Return the number of the passage and the sentence that share most words with a text.

    Returns:
        The passage's number from 1 and the sentence, or ``None`` when nothing is shared.
    """
    wanted = set(content_words(text))
    best: tuple[float, int, str] | None = None
    for number, passage in enumerate(passages, start=1):
        for sentence in sentences_of(passage.text):
            have = set(content_words(sentence))
            if not have:
                continue
            score = len(wanted & have) / math.sqrt(len(have))
            if score > 0 and (best is None or score > best[0]):
                best = (score, number, sentence)
    return None if best is None else (best[1], best[2])
