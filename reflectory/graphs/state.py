"""What a reflective loop knows while it runs, and what it runs with.

The state is data that a checkpoint can hold; live objects (models, the index)
travel in the run context and are never saved. Parallel branches write the same
channels, so channels are merged by key and their order is that of the keys:
the order in which branches arrive is not promised and must not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from typing_extensions import TypedDict  # pydantic makes schemas of no other before Python 3.12

from reflectory.agents.revision import Reviser
from reflectory.agents.student import Student
from reflectory.agents.teacher import Teacher
from reflectory.alignment import StopRule
from reflectory.config import LoopConfig
from reflectory.models.protocol import Capability, Embedder
from reflectory.retrieval.retriever import Retriever
from reflectory.types import (
    ContextAddition,
    Examination,
    Passage,
    Response,
    ScoredPassage,
    StopReason,
)


def merge_by_key(left: dict[Any, Any], right: dict[Any, Any]) -> dict[Any, Any]:
    """Return both dictionaries in one, the right one's entries winning, sorted by key.

    Args:
        left: What a channel holds.
        right: What a node returned.
    """
    return dict(sorted({**left, **right}.items()))


class LoopState(TypedDict, total=False):
    """State of one loop.

    Attributes:
        instruction: I.
        documents: Number of documents after preprocessing.
        retrieved: All S_i, best first.
        passages: Every passage in use, by id.
        context: Ids of C_t, in order; it only ever grows at its end.
        responses: R_t by t, with G[t] once it is graded.
        examinations: Cells by ``(t, j)``, written by the branches.
        extras: What their questions found and C_t did not hold, by ``(t, j)``.
        additions: What joined C_0 so far, in its order in the context.
        t: The iteration that comes next.
        stop: Why the loop ended; absent while it runs.
    """

    instruction: str
    documents: int
    retrieved: list[ScoredPassage]
    passages: Annotated[dict[str, Passage], merge_by_key]
    context: list[str]
    responses: Annotated[dict[int, Response], merge_by_key]
    examinations: Annotated[dict[str, Examination], merge_by_key]
    extras: Annotated[dict[str, list[ScoredPassage]], merge_by_key]
    additions: list[ContextAddition]
    t: int
    stop: StopReason


class BranchState(TypedDict, total=False):
    """State of one branch: the examination at level j in iteration t.

    Attributes:
        instruction: I.
        level: j, index of the level.
        t: The iteration.
        context: C_t, the passages themselves.
        response: R_t.
        asked: Questions of this level in earlier iterations.
        extra: What was retrieved for Q[j,t] and is not in C_t, best first.
        cell: What is known of the cell so far.
        examinations: The finished cell, for the loop's channel of that name.
        extras: ``extra``, for the loop's channel of that name.
        passages: Its passages by id, for the loop's channel of that name.
    """

    instruction: str
    level: int
    t: int
    context: list[Passage]
    response: Response
    asked: list[str]
    extra: list[ScoredPassage]
    cell: Examination
    examinations: Annotated[dict[str, Examination], merge_by_key]
    extras: Annotated[dict[str, list[ScoredPassage]], merge_by_key]
    passages: Annotated[dict[str, Passage], merge_by_key]


class BranchOutput(TypedDict, total=False):
    """What a branch shows while it runs (``cell``) and gives back to the loop (the rest)."""

    cell: Examination
    examinations: Annotated[dict[str, Examination], merge_by_key]
    extras: Annotated[dict[str, list[ScoredPassage]], merge_by_key]
    passages: Annotated[dict[str, Passage], merge_by_key]


class GradeState(TypedDict):
    """What the node needs that grades R_t beside the branches."""

    instruction: str
    context: list[Passage]
    response: Response


@dataclass(frozen=True)
class LoopContext:
    """The live objects of a loop; never part of a checkpoint.

    Attributes:
        config: T, epsilon, levels and budgets.
        retriever: Finds passages.
        teacher: Asks and grades.
        student: Answers and reflects.
        embedder: Gives sim() of Equation 31 its vectors.
        count_tokens: Counts tokens of a text as the student does.
        stop_rules: Asked in this order after every iteration.
    """

    config: LoopConfig
    retriever: Retriever
    teacher: Teacher
    student: Student
    embedder: Embedder
    count_tokens: Callable[[str], int]
    stop_rules: Sequence[StopRule]

    @property
    def reviser(self) -> Reviser:
        """Who makes R_{t+1} of a reflection."""
        return Reviser(
            self.student,
            self.teacher,
            self.config.revision,
            cheap_grades=Capability.SCORE in self.teacher.model.capabilities
            and self.config.grader != "spoken",
            seed=self.config.seed,
        )


def cell_key(t: int, j: int) -> str:
    """Return the key of cell (j, t); keys sort by iteration and then by level.

    Args:
        t: Iteration, from 0.
        j: Level, from 0 for the easiest.
    """
    return f"{t:04d}/{j:04d}"


def passages_in(state: LoopState) -> list[Passage]:
    """Return C_t as passages, in order."""
    return [state["passages"][i] for i in state["context"]]
