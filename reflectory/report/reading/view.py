"""The parts of a trajectory in the order in which they are read, with what they point to.

Page and terminal draw from the same parts, so that they say the same. Texts stand here as they
were written; whoever shows them sees to what cannot be shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from reflectory.alignment import AlignmentMatrix
from reflectory.report.reading.changes import WordChange
from reflectory.report.reading.marks import Mark, Piece, Source
from reflectory.report.reading.words import response_name
from reflectory.types import (
    Answer,
    ContextAddition,
    Draft,
    Examination,
    Feedback,
    PathStep,
    Response,
    Trajectory,
)


@dataclass(frozen=True)
class ReadGrade:
    """A grade, and where it came from.

    Attributes:
        feedback: As the grader gave it.
        reason: Its reason, cut at the passages that it points to.
        signals: Name and value of each number that the score was made from.
    """

    feedback: Feedback
    reason: tuple[Piece, ...]
    signals: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ReadAnswer:
    """An answer or a response: its words, what supports them, and what it was written from.

    Attributes:
        anchor: Id of its element.
        answer: The record.
        pieces: The text, cut at its statements.
        sources: The passages that the student saw, in their order.
        grade: ``None`` where there is none.
    """

    anchor: str
    answer: Answer
    pieces: tuple[Piece, ...]
    sources: tuple[Source, ...]
    grade: ReadGrade | None

    @property
    def long(self) -> bool:
        """Whether it needs a box of its own to scroll in."""
        return len(self.answer.text) > 3_000


@dataclass(frozen=True)
class ReadResponse:
    """R_t with what changed in it.

    Attributes:
        response: The record.
        said: Its words and what they rest on.
        changes: Word by word from R_{t-1}; empty for R_0.
        same: Whether its words are those of R_{t-1}.
        origin: How it came about, in a sentence.
        drafts: What it was chosen from, with whether it is the chosen one, best first.
        returned: Whether the loop returns it.
    """

    response: Response
    said: ReadAnswer
    changes: tuple[WordChange, ...]
    same: bool
    origin: str
    drafts: tuple[tuple[Draft, bool], ...]
    returned: bool

    @property
    def name(self) -> str:
        """R_t."""
        return response_name(self.response.iteration)


@dataclass(frozen=True)
class ReadCell:
    """One cell: the question, and the answer where it got that far.

    Attributes:
        cell: The record.
        anchor: Id of its element.
        said: The answer; ``None`` where there is none.
    """

    cell: Examination
    anchor: str
    said: ReadAnswer | None

    @property
    def shade(self) -> int:
        """Which of eight shades A[j,t] has, from 0 (light); 0 where it is not known."""
        return min(int(8 * (self.cell.alignment or 0.0)), 7)


@dataclass(frozen=True)
class ReadMatrix:
    """A as a table.

    Attributes:
        columns: The iterations.
        rows: Each level with its cells, one for each iteration; ``None`` where there is none.
    """

    columns: tuple[int, ...]
    rows: tuple[tuple[str, tuple[ReadCell | None, ...]], ...]


@dataclass(frozen=True)
class ReadAddition:
    """A passage that joined the context, with the way to it.

    Attributes:
        added: The record.
        source: The passage.
        path: The steps to it, each with the name that people know.
    """

    added: ContextAddition
    source: Source
    path: tuple[tuple[PathStep, str], ...]


@dataclass(frozen=True)
class Iteration:
    """What happened between R_t and R_{t+1}.

    Attributes:
        t: Its number, from 0.
        anchor: Id of its element.
        cells: In order of level.
        change: Norm of the change of A from the iteration before (Equation 32); ``None``
            for the first one and where a cell of either failed.
        additions: What joined C_{t+1}.
        following: R_{t+1}; ``None`` where the loop failed before it.
    """

    t: int
    anchor: str
    cells: tuple[ReadCell, ...]
    change: float | None
    additions: tuple[ReadAddition, ...]
    following: ReadResponse | None


@dataclass(frozen=True)
class ReadPassage:
    """A passage with what rests on it.

    Attributes:
        id: Its id.
        anchor: Id of its element.
        title: What it is called.
        origin: Where it stands: id, source, page, licence.
        marks: Its text, cut at what statements rest on.
        evidence: Whether some statement rests on it.
        returned: Whether one of the returned response does.
    """

    id: str
    anchor: str
    title: str
    origin: str
    marks: tuple[Mark, ...]
    evidence: bool
    returned: bool


@dataclass(frozen=True)
class Reading:
    """A whole trajectory as it is read.

    Attributes:
        trajectory: The record.
        anchor: Id of its element; all others begin with it.
        first: R_0; ``None`` where the loop failed before it.
        returned: The response that the loop returns.
        matrix: A as a table of the cells.
        alignment: A itself; ``None`` where there is none to be made of the cells.
        iterations: In their order.
        passages: Those of C_0 first, then as they came.
        signals: Name and meaning of the numbers that the grades were made from; the meaning
            is empty where it is not known.
    """

    trajectory: Trajectory
    anchor: str
    first: ReadResponse | None
    returned: ReadResponse | None
    matrix: ReadMatrix
    alignment: AlignmentMatrix | None
    iterations: tuple[Iteration, ...]
    passages: tuple[ReadPassage, ...]
    signals: tuple[tuple[str, str], ...]
