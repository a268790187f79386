"""How near an answer is to the reference: exact match, token F1, containment.

Normalisation and exact match are those of SQuAD (Rajpurkar et al. 2016,
arXiv:1606.05250), the F1 with its rule for yes, no and noanswer that of
HotpotQA (Yang et al. 2018, arXiv:1809.09600). They are written anew here and
kept standard, so that figures can be compared with published ones.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from reflectory.errors import UserError

CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})
"""Normalised answers that are right or wrong as a whole (HotpotQA)."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Return the text lower-cased, without punctuation, articles and extra white space.

    The order is SQuAD's. Only ASCII punctuation goes, and no Unicode
    normalisation is done, because the standard does neither.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def as_references(references: str | Sequence[str]) -> tuple[str, ...]:
    """Return the right answers as a tuple that holds at least one.

    Raises:
        UserError: There is no reference.
    """
    given = (references,) if isinstance(references, str) else tuple(references)
    if not given:
        raise UserError("no reference answer was given", hint="pass at least one")
    return given


def exact_match(prediction: str, references: str | Sequence[str]) -> bool:
    """Return whether the answer equals a reference after normalisation.

    Args:
        prediction: The answer to judge.
        references: One right answer, or several of which any counts.

    Raises:
        UserError: There is no reference.
    """
    answer = normalise_answer(prediction)
    return any(answer == normalise_answer(r) for r in as_references(references))


def token_f1(prediction: str, references: str | Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall over words, in [0, 1].

    Words are counted with their repetitions. Where either side is yes, no or
    noanswer, only equality counts. Two empty sides are equal and score 1, as in
    SQuAD 2.0; one empty side scores 0.

    Args:
        prediction: The answer to judge.
        references: One right answer, or several of which the nearest counts.

    Raises:
        UserError: There is no reference.
    """
    answer = normalise_answer(prediction)
    return max(_f1(answer, normalise_answer(r)) for r in as_references(references))


def _f1(answer: str, reference: str) -> float:
    if answer == reference:
        return 1.0
    if answer in CLOSED_ANSWERS or reference in CLOSED_ANSWERS:
        return 0.0
    said, wanted = answer.split(), reference.split()
    common = sum((Counter(said) & Counter(wanted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def contains_answer(prediction: str, references: str | Sequence[str]) -> bool:
    """Return whether a reference occurs in the answer, as whole words in a row.

    Whole words, because "no" occurs in "know". Yes and no occur in many a
    sentence that says the opposite, so for a closed reference the answer has to
    begin with it. An empty reference is contained in an empty answer only.

    Args:
        prediction: The answer to judge.
        references: One right answer, or several of which any counts.

    Raises:
        UserError: There is no reference.
    """
    words = normalise_answer(prediction).split()
    return any(_contains(words, normalise_answer(r)) for r in as_references(references))


def _contains(words: list[str], reference: str) -> bool:
    wanted = reference.split()
    if not wanted:
        return not words
    if reference in CLOSED_ANSWERS:
        return words[:1] == wanted
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


@dataclass(frozen=True)
class AnswerScores:
    """The metrics of one answer.

    Attributes:
        exact_match: Whether it equals a reference.
        f1: Token F1 against the nearest reference, in [0, 1].
        contains: Whether a reference occurs in it.
        words: Its length in words, as it was written.
    """

    exact_match: bool
    f1: float
    contains: bool
    words: int


def score_answer(prediction: str, references: str | Sequence[str]) -> AnswerScores:
    """Return all metrics of one answer.

    Args:
        prediction: What was answered.
        references: Right answers, of which the nearest counts.

    Raises:
        UserError: There is no reference.
    """
    return AnswerScores(
        exact_match=exact_match(prediction, references),
        f1=token_f1(prediction, references),
        contains=contains_answer(prediction, references),
        words=len(prediction.split()),
    )


@dataclass(frozen=True)
class Aggregate:
    """The metrics of many answers.

    Attributes:
        count: Questions in all; every mean but that of the words is over them.
        missing: Questions without an answer (the loop or call failed). They
            count as wrong in every mean: leaving them out would reward failing.
        empty: Answers that were there and held no word.
        exact_match: Share of exact matches, in [0, 1].
        f1: Mean token F1, in [0, 1].
        contains: Share that contains a reference, in [0, 1].
        words: Mean length of the answers that were there; 0 when none was.
    """

    count: int
    missing: int
    empty: int
    exact_match: float
    f1: float
    contains: float
    words: float

    def to_dict(self) -> dict[str, int | float]:
        """Return the aggregate as plain JSON types."""
        return asdict(self)


def aggregate(scores: Iterable[AnswerScores | None]) -> Aggregate:
    """Return the means over many answers.

    Args:
        scores: One entry per question, ``None`` where there is no answer.

    Raises:
        UserError: There is no question, and so no mean.
    """
    entries = list(scores)
    if not entries:
        raise UserError("there is nothing to average", hint="evaluate at least one question")
    answered = [s for s in entries if s is not None]
    count = len(entries)
    return Aggregate(
        count=count,
        missing=count - len(answered),
        empty=sum(s.words == 0 for s in answered),
        exact_match=sum(s.exact_match for s in answered) / count,
        f1=sum(s.f1 for s in answered) / count,
        contains=sum(s.contains for s in answered) / count,
        words=sum(s.words for s in answered) / len(answered) if answered else 0.0,
    )
