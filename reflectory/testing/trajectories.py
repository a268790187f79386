"""Trajectories without loops: as many as wanted, of the shape and size that real ones have.

What reads trajectories (reports, curation, statistics) can be tested on thousands of them.
They are made from a seed alone, and their texts are nonsense in real words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from reflectory.alignment import CellStatus
from reflectory.types import (
    Answer,
    Evidence,
    Examination,
    Failure,
    Feedback,
    Flag,
    Passage,
    Question,
    Response,
    Statement,
    StopReason,
    Trajectory,
)

LEVELS = ("basic", "intermediate", "advanced", "expert")
_SYLLABLES = ("ba", "co", "du", "fe", "gi", "ha", "jo", "ku", "le", "mi", "no", "pu", "ra", "so")
_FAILED_EVERY, _LOST_CELL, _FLAGGED = 97, 0.03, 0.05


def synthetic_trajectories(
    count: int, *, seed: int = 0, iterations: int = 3, passages: int = 5
) -> Iterator[Trajectory]:
    """Yield trajectories; about one in a hundred failed as a whole.

    Args:
        count: How many.
        seed: Equal seeds give equal trajectories.
        iterations: Most iterations T of a loop; some stop earlier.
        passages: Passages of each context, some eighty words each.
    """
    words = ["".join(random.Random(n).choices(_SYLLABLES, k=2 + n % 3)) for n in range(2_000)]
    for number in range(count):
        yield _Maker(random.Random(f"{seed} {number}"), words, number).make(iterations, passages)


class _Maker:
    """Makes one trajectory."""

    def __init__(self, draw: random.Random, words: list[str], number: int) -> None:
        self._draw = draw
        self._words = words
        self._number = number

    def make(self, iterations: int, passages: int) -> Trajectory:
        made = self._draw.randint(1, iterations)
        about: dict[str, object] = {
            "id": f"{self._number:06d}-{self._draw.getrandbits(32):08x}",
            "instruction": f"Why does {self._text(12)}?",
            "levels": LEVELS,
            "epsilon": 0.05,
            "models": {"teacher": "scripted", "student": "scripted"},
        }
        if self._number % _FAILED_EVERY == _FAILED_EVERY - 1:
            message = f"the server at {self._text(1)} gave no answer\n  -> start it again"
            failure = Failure(step="loop", kind="BackendError", message=message)
            return Trajectory.model_validate({**about, "error": failure})
        found = [self._passage(place) for place in range(passages)]
        names = tuple(passage.id for passage in found)
        level = self._draw.uniform(0.2, 0.6)
        grades = [min(1.0, level + 0.08 * t + self._draw.gauss(0, 0.04)) for t in range(made + 1)]
        converged = made < iterations
        return Trajectory.model_validate(
            {
                **about,
                "passages": {passage.id: passage for passage in found},
                "responses": [
                    Response(
                        iteration=t,
                        answer=self._answer(45, found),
                        grade=self._feedback(max(0.0, grade)),
                    )
                    for t, grade in enumerate(grades)
                ],
                "examinations": [
                    self._cell(j, t, found) for t in range(made) for j in range(len(LEVELS))
                ],
                "stop": StopReason(
                    rule="epsilon" if converged else "max_iterations",
                    converged=converged,
                    iterations=made,
                ),
                "chosen": made,
                "flags": [self._draw.choice(list(Flag))] if self._draw.random() < _FLAGGED else [],
                "metadata": {"asked_with": names},
            }
        )

    def _cell(self, j: int, t: int, found: list[Passage]) -> Examination:
        question = Question(text=f"What of {self._text(9)}?")
        if self._draw.random() < _LOST_CELL:
            failure = Failure(
                step="ask", kind="OutputError", message="no question", raw=self._text(8)
            )
            return Examination(
                level=LEVELS[j], iteration=t, status=CellStatus.FAILED, failure=failure
            )
        score = min(1.0, max(0.0, self._draw.gauss(0.75 - 0.15 * j + 0.1 * t, 0.1)))
        similarity = self._draw.uniform(0.3, 0.9)
        return Examination(
            level=LEVELS[j],
            iteration=t,
            status=CellStatus.DONE,
            question=question,
            answer=self._answer(28, found),
            feedback=self._feedback(score),
            similarity=similarity,
            alignment=similarity * score,
        )

    def _answer(self, length: int, found: list[Passage]) -> Answer:
        text = f"{self._text(length).capitalize()}."
        passage = self._draw.choice(found)
        proof = Evidence(passage=passage.id, start=0, end=min(60, len(passage.text)), score=0.9)
        supported = self._draw.random() < 0.8
        statement = Statement(
            start=0, end=len(text), supported=supported, evidence=(proof,) if supported else ()
        )
        return Answer(
            text=text,
            context=tuple(p.id for p in found),
            cited=(passage.id,),
            statements=(statement,),
            groundedness=float(supported),
        )

    def _feedback(self, score: float) -> Feedback:
        signals = {"likelihood": self._draw.gauss(-1, 0.3), "lead": self._draw.gauss(0, 1)}
        return Feedback(
            score=score, reason=f"It says {self._text(14)}.", grader="scripted", signals=signals
        )

    def _passage(self, place: int) -> Passage:
        # Documents are shared by the loops of a run, as they are in real ones.
        draw = random.Random(self._draw.randrange(200))
        text = " ".join(draw.choices(self._words, k=80))
        name = draw.choice(self._words)
        return Passage(
            id=f"{name}.md#{place}",
            document_id=f"{name}.md",
            title=name.capitalize(),
            text=text,
            start=0,
            end=len(text),
        )

    def _text(self, length: int) -> str:
        return " ".join(self._draw.choices(self._words, k=length))
