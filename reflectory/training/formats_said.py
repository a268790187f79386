"""What a student said in a loop, with its question, passages and judgement.

The formats that curation does not make are derived from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from reflectory.alignment import CellStatus
from reflectory.training.counts import Tally
from reflectory.training.curation.making import cited_text
from reflectory.training.dataset import Derivation
from reflectory.training.rows import Row
from reflectory.types import Answer, Examination, Feedback, Passage, Response, Trajectory
from reflectory.types.practice import Candidate, CandidateSet

RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True)
class Derived(Generic[RowT]):
    """Rows, and what became of everything that was looked at.

    Attributes:
        rows: In the order of what they were made from.
        derivation: The rule, and how much was seen, accepted and refused.
    """

    rows: tuple[RowT, ...]
    derivation: Derivation

    @property
    def tally(self) -> Tally:
        """How much was seen, accepted, and refused by reason."""
        return self.derivation.tally


@dataclass
class Settler(Generic[RowT]):
    """Counts rows and reasons; of rows with the same key the first stays."""

    rows: list[RowT] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    known: set[tuple[object, ...]] = field(default_factory=set)

    def settle(self, made: RowT | str, key: Callable[[RowT], tuple[object, ...]]) -> None:
        """Count a reason, or a row, which is kept unless its key was there before."""
        if isinstance(made, str):
            self.refused[made] += 1
        elif key(made) in self.known:
            self.refused["repeated"] += 1
        else:
            self.known.add(key(made))
            self.rows.append(made)

    def derived(self, explanation: str) -> Derived[RowT]:
        """Return everything that was settled, by the rule that the explanation states."""
        seen = len(self.rows) + self.refused.total()
        refused = dict(sorted(self.refused.items()))
        tally = Tally(seen=seen, accepted=len(self.rows), refused=refused)
        return Derived(tuple(self.rows), Derivation(explanation=explanation, tally=tally))


@dataclass(frozen=True)
class Judged:
    """Something that a student said in a loop: R_t with G[t], or R[j,t] with F[j,t].

    Attributes:
        trajectory: The loop.
        what: ``response`` or ``answer``.
        level: Level of the question; ``None`` for a response.
        iteration: t.
        question: I, or Q[j,t].
        context: C_t, in order.
        extra: What the question alone retrieved besides.
        answer: What the student said.
        feedback: The teacher's judgement; ``None`` when there is none.
    """

    trajectory: Trajectory
    what: Literal["response", "answer"]
    level: str | None
    iteration: int
    question: str
    context: tuple[Passage, ...]
    extra: tuple[Passage, ...]
    answer: Answer
    feedback: Feedback | None


def said_in(trajectory: Trajectory) -> Iterator[Judged | str]:
    """Yield what the student said in a loop, or why something it said is of no use.

    Responses come first, by t, then the cells in their order.
    """
    if trajectory.error is not None:
        yield "failed_trajectory"
        return
    for response in trajectory.responses:
        yield _response(trajectory, response)
    contexts = {r.iteration: r.answer.context for r in trajectory.responses}
    for cell in trajectory.examinations:
        yield _cell(trajectory, cell, contexts.get(cell.iteration, ()))


def _response(trajectory: Trajectory, response: Response) -> Judged | str:
    if response.failure is not None:
        return "failed"
    context = _passages(trajectory, response.answer)
    if context is None:
        return "missing_passage"
    return Judged(
        trajectory,
        "response",
        None,
        response.iteration,
        trajectory.instruction,
        context,
        (),
        response.answer,
        response.grade,
    )


def _cell(trajectory: Trajectory, cell: Examination, of_loop: tuple[str, ...]) -> Judged | str:
    if cell.status is not CellStatus.DONE:
        return cell.status.value
    if cell.question is None or cell.answer is None:
        return "incomplete"
    passages = _passages(trajectory, cell.answer)
    if passages is None:
        return "missing_passage"
    # C[j,t] is C_t and what was retrieved for the question; where it does not begin
    # with C_t, what came from where is not known and all of it is context.
    begins = cell.answer.context[: len(of_loop)] == of_loop
    shared = len(of_loop) if begins else len(passages)
    return Judged(
        trajectory,
        "answer",
        cell.level,
        cell.iteration,
        cell.question.text,
        passages[:shared],
        passages[shared:],
        cell.answer,
        cell.feedback,
    )


def _passages(trajectory: Trajectory, answer: Answer) -> tuple[Passage, ...] | None:
    found = [trajectory.passages.get(passage) for passage in answer.context]
    present = tuple(passage for passage in found if passage is not None)
    return present if len(present) == len(found) else None


def candidates_of(trajectories: Iterable[Trajectory]) -> list[CandidateSet]:
    """Return what loops said as candidates, for when no others were drawn.

    One set per response or answer, because R_t and R_{t+1} were written from other contexts;
    none is chosen. What failed is left out.
    """
    return [
        CandidateSet(
            trajectory=said.trajectory.id,
            what=said.what,
            level=said.level,
            iteration=said.iteration,
            question=said.question,
            context=said.context,
            extra=said.extra,
            candidates=(
                Candidate(
                    text=cited_text(said.answer),
                    origin="loop",
                    score=None if said.feedback is None else said.feedback.score,
                    grader="" if said.feedback is None else said.feedback.grader,
                    groundedness=said.answer.groundedness,
                ),
            ),
        )
        for trajectory in trajectories
        for said in said_in(trajectory)
        if not isinstance(said, str)
    ]
