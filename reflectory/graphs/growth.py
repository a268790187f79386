"""How the context grows: C_{t+1} from C_t and what the examination of iteration t showed.

"C_t grows by what the student was seen not to know": what a good answer rested on
joins, and where an answer was poor, the best that its question found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from reflectory.retrieval.context import extend
from reflectory.types import ContextAddition, Examination, Passage, ScoredPassage


class Branch(NamedTuple):
    """What one level of an iteration gave.

    Attributes:
        cell: Question, answer and feedback.
        extra: What the question found that is not in C_t, best first.
    """

    cell: Examination
    extra: Sequence[ScoredPassage]


class Candidate(NamedTuple):
    """A passage that may join, the cell that brought it, and why.

    Attributes:
        found: The passage, as the question found it.
        cell: The cell of that question.
        reason: As in :class:`~reflectory.types.ContextAddition`.
    """

    found: ScoredPassage
    cell: Examination
    reason: Literal["useful", "unknown"]


def grow(
    context: Sequence[Passage],
    branches: Sequence[Branch],
    *,
    useful_score: float,
    token_budget: int,
    count_tokens: Callable[[str], int],
) -> tuple[list[Passage], list[ContextAddition]]:
    """Return C_{t+1} and the record of what is new in it.

    First the useful: what answers graded at least ``useful_score`` cite. Then the
    unknown: the best new passage of every question whose answer was graded lower
    or states something that no passage supports. Both in order of level, each
    passage once, and only what fits; C_t stays as it is at the beginning, so that
    what was computed for it stays valid. A cell without a grade shows nothing and
    adds nothing.

    Args:
        context: C_t.
        branches: The levels of iteration t, easiest first.
        useful_score: Grade from which an answer counts as good, in [0, 1].
        token_budget: Most tokens of the rendered context.
        count_tokens: Counts the tokens of a text.
    """
    candidates = [*_useful(branches, useful_score), *_unknown(branches, useful_score)]
    grown = extend(
        context,
        [candidate.found.passage for candidate in candidates],
        token_budget=token_budget,
        count_tokens=count_tokens,
    )
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.found.passage.id, candidate)
    return grown, [_record(first[passage.id]) for passage in grown[len(context) :]]


def _useful(branches: Sequence[Branch], useful_score: float) -> Iterator[Candidate]:
    for cell, extra in branches:
        if cell.answer is None or cell.feedback is None or cell.feedback.score < useful_score:
            continue
        by_id = {found.passage.id: found for found in extra}
        for passage in cell.answer.cited:
            if passage in by_id:
                yield Candidate(by_id[passage], cell, "useful")


def _unknown(branches: Sequence[Branch], useful_score: float) -> Iterator[Candidate]:
    for cell, extra in branches:
        if cell.answer is None or cell.feedback is None or not extra:
            continue
        if cell.feedback.score < useful_score or cell.answer.unsupported:
            yield Candidate(extra[0], cell, "unknown")


def _record(candidate: Candidate) -> ContextAddition:
    found, cell, reason = candidate
    return ContextAddition(
        iteration=cell.iteration + 1,
        passage=found.passage.id,
        level=cell.level,
        question="" if cell.question is None else cell.question.text,
        reason=reason,
        score=found.score,
        signals=found.signals,
        path=found.path,
    )
