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
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

from reflectory.agents.answer_types import AnswerType, expected_type, type_fit
from reflectory.agents.citations import content_words
from reflectory.models.protocol import TokenScores
from reflectory.types import Passage

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'“(\[]?[A-Z0-9])")
_BRACKETS = re.compile(r"\([^()]*\)")
_TOLD = (-6.0, 12.0)
_PRIOR = (-4.0, 3.0)
"""Of ``prior``: past three nats it tells of words that an answer repeats from the question."""
_CHANNEL = (-6.0, 6.0)
_CLASS_SCALE = 0.5
"""What a nat of the difference counts: the mean over a few names adds noise of its own."""
_NO_CLASS = 0.6
"""``class`` of an answer of which it is not known; a little above even, as most answers fit."""


Channel = tuple[float, tuple[float, ...]]
"""Log-likelihoods of the question behind an answer, and behind other names of the documents."""


@dataclass(frozen=True)
class Likelihoods:
    """The log-likelihoods of one answer.

    Attributes:
        full: Given documents and question, in the very prompt that a student answers.
        without_question: Given the documents alone.
        without_documents: Given the question alone.
        unasked: Given neither.
        of_class: Given only the class of thing that was asked for (``award``), and given only
            that it is a name; ``None`` where the question names none or the answer is no name.
        others: The same two of names of the documents that the question does not say.
        apart: As ``full`` and ``without_question``, but given one passage alone, of each that was
            read alone.
        channel: Of the question, given only the answer and given only other names of the
            documents; ``None`` where that was not measured.
    """

    full: TokenScores
    without_question: TokenScores
    without_documents: TokenScores
    unasked: TokenScores
    of_class: tuple[TokenScores, TokenScores] | None = None
    others: tuple[tuple[TokenScores, TokenScores], ...] = ()
    apart: tuple[tuple[TokenScores, TokenScores], ...] = ()
    channel: Channel | None = None


def supported_share(answer: str, passages: Sequence[Passage]) -> float:
    """Return the share of the answer's content words that the passages hold, in [0, 1].

    Args:
        answer: What was answered.
        passages: What it may rest on.
    """
    words = content_words(answer)
    if not words:
        return 1.0
    known = {w for p in passages for w in content_words(f"{p.title} {p.text}")}
    return sum(w in known for w in words) / len(words)


def echo_share(answer: str, question: str) -> float:
    """Return how much of the question an answer repeats while adding nothing, in [0, 1].

    1 means that the answer consists of the question. "A" as the answer to
    "Which is older, A or B?" repeats little of the question and is no echo.

    Args:
        answer: What was answered.
        question: What was asked.
    """
    said, asked = content_words(answer), content_words(question)
    if not said or not asked:
        return 0.0
    own = sum(w in set(asked) for w in said) / len(said)
    whole = sum(w in set(said) for w in set(asked)) / len(set(asked))
    return own * whole


def repeated_share(answer: str, question: str, passages: Sequence[Passage]) -> float:
    """Return the share of the question that an answer repeats without a word of its own.

    In [0, 1]: 1 for an echo, 1/2 for the first half of the question, 1/3 for "A" as the
    answer to "Which is older, A or B?", and 0 for every answer that adds a word. Around the
    whole question only words count that the passages hold, or yes and no where they are
    asked for: "The question is: Who is older?" is an echo too.

    Args:
        answer: What was answered.
        question: What was asked.
        passages: Their words add nothing to a question that is repeated whole.
    """
    said, asked = set(content_words(answer)), set(content_words(question))
    own = said - asked
    if own and asked <= said:
        own &= {w for p in passages for w in content_words(f"{p.title} {p.text}")} | (
            {"yes", "no"} if expected_type(question) is AnswerType.YES_NO else set()
        )
    return len(said & asked) / len(asked) if asked and not own else 0.0


def proximity(answer: str, question: str, passages: Sequence[Passage]) -> float:
    """Return how near to the question's words an answer's own words stand, in [0, 1].

    Its own are the words that the question does not say; an answer that has none (one of
    those that the question names) is taken whole. The best sentence counts: the share of the
    own words that it holds times the share of the question's words that it or its passage's
    title holds, each weighed by how few sentences hold it (inverse document frequency: that
    an answer stands near "the" and "year" says little). Where a sentence of another passage
    names that title, its words count too: the answer to a question of two steps stands in
    one passage, and what the question says in another. A closed answer such as "yes" has no
    place of its own and gets 0.

    Args:
        answer: What was answered.
        question: What was asked.
        passages: Where the words are looked for; without any the result is 0.
    """
    said, asked = set(content_words(answer)), set(content_words(question))
    own = said - asked
    if not own:
        own, asked = said, asked - said
    if not own or not asked:
        return 0.0
    read = [
        (frozenset(content_words(_BRACKETS.sub("", p.title))), _words_of_sentences(p.text))
        for p in passages
    ]
    weights = _weights(asked, [words | title for title, found in read for words in found])
    # An exact sum, since words come from sets in another order in every process.
    everything = math.fsum(weights.values())
    best = 0.0
    for place, (title, sentences) in enumerate(read):
        linked = [
            words
            for other, (_, apart) in enumerate(read)
            for words in apart
            if title and other != place and title <= words
        ]
        for words in sentences:
            share = len(own & words) / len(own)
            if share:
                seen = [words | title | far for far in (frozenset(), *linked)]
                near = max(math.fsum(weights[word] for word in asked & held) for held in seen)
                best = max(best, share * near / everything)
    return min(best, 1.0)


@lru_cache(maxsize=4096)
def _words_of_sentences(text: str) -> tuple[frozenset[str], ...]:
    """Return the content words of each sentence; drafts are graded by the same passages."""
    return tuple(frozenset(content_words(sentence)) for sentence in sentences_of(text))


def _weights(words: Iterable[str], sentences: Sequence[Set[str]]) -> dict[str, float]:
    """Return for each word how few of the sentences hold it, above 0."""
    count = len(sentences)
    return {
        word: math.log((count + 1.5) / (0.5 + sum(word in held for held in sentences)))
        for word in words
    }


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
        ``fit`` (log-likelihood per token given documents and question), ``information``
        (what the question adds to the log-likelihood of the whole answer, in nats within
        [-6, 12]: the pointwise mutual information of the two under the documents, or under
        the one passage that makes most of it), ``prior``
        (what the question adds to that without documents, in nats within [-4, 3]), ``type``
        (whether its form is that of what was asked for), ``class`` (how much more the class
        of thing that was asked for speaks for it than for other names of the documents,
        without any document, in [0, 1]), ``kind`` (the two multiplied), ``support`` and
        ``echo`` (shares of words), ``repeated`` (share of the question in an answer that adds
        nothing) and ``proximity`` (of the answer to the question's words in the passages).
        And ``channel``, where it was measured: how much likelier the answer makes the question
        than other names do, without documents, in nats within [-6, 6] (a noisy channel, Min
        et al. 2022, arXiv:2108.04106).
    """
    form, of_class = type_fit(question, answer), _class_share(likelihoods)
    measured = {
        "fit": likelihoods.full.mean,
        "information": _information(likelihoods),
        "prior": _told(likelihoods.without_documents, likelihoods.unasked, _PRIOR),
        "type": form,
        "class": of_class,
        "kind": form * of_class,
        "support": supported_share(answer, passages),
        "echo": echo_share(answer, question),
        "repeated": repeated_share(answer, question, passages),
        "proximity": proximity(answer, question, passages),
    }
    if likelihoods.channel is not None:
        measured["channel"] = _beside_others(*likelihoods.channel)
    return measured


def _beside_others(own: float, others: Sequence[float]) -> float:
    # Infinities of both signs are no sum for fsum; a plain one makes them no number, which is 0.
    total = math.fsum(others) if all(map(math.isfinite, others)) else sum(others)
    return _bounded(own - total / len(others), _CHANNEL)


def _information(likelihoods: Likelihoods) -> float:
    """Return what the question adds where it adds most: to all passages, or to one alone.

    A small model that reads several passages at once is distracted by those that have
    nothing to do with the question.
    """
    together = _told(likelihoods.full, likelihoods.without_question)
    return max([together, *(_told(*pair) for pair in likelihoods.apart)])


def _told(by_more: TokenScores, by_less: TokenScores, bounds: tuple[float, float] = _TOLD) -> float:
    """Return what one prompt adds to the log-likelihood that another gives, in nats.

    An echo of a long question is told by it entirely: without bounds its number would be the
    only one that counts.
    """
    return _bounded(by_more.total - by_less.total, bounds)


def _bounded(told: float, bounds: tuple[float, float]) -> float:
    if math.isnan(told):  # impossible either way: infinity less infinity is no number
        return 0.0
    return min(max(told, bounds[0]), bounds[1])


def _class_share(likelihoods: Likelihoods) -> float:
    """Return the logistic of what the class adds to an answer more than to other names.

    "The name of the award is" makes every title a little likelier, whether of an award or
    not; what it adds to the names around an answer is how much that is.
    """
    if likelihoods.of_class is None:
        return _NO_CLASS
    usual = [_told(*other) for other in likelihoods.others]
    mean = math.fsum(usual) / len(usual) if usual else 0.0
    beside = _told(*likelihoods.of_class) - mean
    return 1.0 / (1.0 + math.exp(-_CLASS_SCALE * beside))


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a passage, by punctuation alone."""
    return [s.strip() for s in _SENTENCE.split(" ".join(text.split())) if s.strip()]


def closest_sentence(text: str, passages: Sequence[Passage]) -> tuple[int, str] | None:
    """Return the number of the passage and the sentence that share most words with a text.

    Args:
        text: Any text.
        passages: Where the sentence is looked for.

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
