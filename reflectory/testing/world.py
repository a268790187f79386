"""A synthetic world: a student's skill is a number, and so is a question's difficulty.

An answer passes when the skill is at least the difficulty; reflecting raises
the skill. The whole matrix, the grades, the data set and the acceptance then
follow from three numbers and can be written down exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reflectory.agents.graders.function import FunctionGrader
from reflectory.agents.graders.protocol import GradingTask
from reflectory.config import Level, LoopConfig
from reflectory.models.protocol import Request
from reflectory.testing.models import ScriptedModel
from reflectory.types import Document, Feedback

_DIFFICULTY = re.compile(r"difficulty (\d+)")
_SKILL = re.compile(r"skill (\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class SyntheticWorld:
    """A student, a teacher and documents whose every answer is known.

    Attributes:
        skill: What the student can do at first.
        gain: How much one reflection adds; below zero it takes away, and a loop that takes
            only what is graded better then keeps R_0 (invariant 1 is that of a loop that
            takes every reflection).
        levels: k; the question of level j has difficulty j + 1.
        ceiling: The student never gets better than this.

    Invariants, for t and j from 0:

    1. skill(t) = min(skill + gain * t, ceiling).
    2. The score of R[j,t] is clip(skill(t) - j, 0, 1).
    3. Every similarity is 1, so A[j,t] is that score (Equation 31).
    4. G[t] = skill(t) / k, at most 1.
    """

    skill: float = 1.0
    gain: float = 1.0
    levels: int = 4
    ceiling: float = float("inf")

    def skill_at(self, t: int) -> float:
        """Return the skill after t reflections (invariant 1)."""
        return min(self.skill + self.gain * t, self.ceiling)

    def matrix(self, iterations: int) -> NDArray[np.float64]:
        """Return A of shape (k, iterations) (invariants 2 and 3)."""
        rows = [
            [min(1.0, max(0.0, self.skill_at(t) - j)) for t in range(iterations)]
            for j in range(self.levels)
        ]
        return np.array(rows, dtype=np.float64).reshape(self.levels, iterations)

    def grade(self, t: int) -> float:
        """Return G[t] (invariant 4)."""
        return min(1.0, self.skill_at(t) / self.levels)

    def config(self, **changes: object) -> LoopConfig:
        """Return a loop configuration with this world's levels."""
        levels = tuple(
            Level(name=f"level {j + 1}", description=f"has difficulty {j + 1}")
            for j in range(self.levels)
        )
        return LoopConfig(**{"levels": levels, **changes})

    def documents(self) -> list[Document]:
        """Return two short documents about nothing."""
        return [
            Document(id="one", title="One", text="The first fact is known to everybody."),
            Document(id="two", title="Two", text="The second fact is known to few."),
        ]

    def teacher(self) -> ScriptedModel:
        """Return a teacher whose questions name their difficulty."""

        def ask(request: Request) -> str:
            task = request.segments[-1].text
            difficulty = int(_DIFFICULTY.findall(task)[-1])
            skill = float(_SKILL.findall(task)[-1])
            # The seed tells the iterations apart, for a question must not be asked twice.
            return f"What is needed at difficulty {difficulty} by skill {skill} in {request.seed}?"

        return ScriptedModel(ask, name="world-teacher")

    def student(self) -> ScriptedModel:
        """Return a student whose answers name its skill."""

        def speak(request: Request) -> str:
            if request.role == "student.respond":
                return f"I answer with skill {self.skill_at(0)}"
            skill = max(float(found) for found in _SKILL.findall(request.segments[-1].text))
            if request.role == "student.reflect":
                skill = min(skill + self.gain, self.ceiling)
            return f"I answer with skill {skill}"

        return ScriptedModel(speak, name="world-student")

    def grader(self) -> FunctionGrader:
        """Return the judge that reads skill and difficulty."""

        def judge(task: GradingTask) -> Feedback:
            skill = float(_SKILL.findall(task.answer)[-1])
            asked = _DIFFICULTY.search(task.question)
            if asked is None:
                score = min(1.0, skill / self.levels)
            else:
                score = min(1.0, max(0.0, skill - (int(asked.group(1)) - 1)))
            return Feedback(score=score, reason=f"skill {skill}", grader="world")

        return FunctionGrader(judge, name="world")


class ConstantEmbedder:
    """Gives every text the same unit vector, so that every similarity is 1."""

    @property
    def fingerprint(self) -> str:
        """A fixed name."""
        return "constant"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return 2

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (n, 2)."""
        return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(texts), 1))
