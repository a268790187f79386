"""A bench for revisions: a scripted student, and a judge that remembers what it graded."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reflectory.agents import PromptSet, Student, Teacher
from reflectory.agents.graders import FunctionGrader, GradingTask
from reflectory.agents.revision import Reviser
from reflectory.alignment import CellStatus
from reflectory.config import LoopConfig, RevisionConfig, SamplingConfig
from reflectory.errors import OutputError
from reflectory.models.protocol import Request
from reflectory.testing.models import ScriptedModel
from reflectory.types import Answer, Examination, Feedback, Passage, Question, Response

PROMPTS = PromptSet.with_replacements()
KULIK = Passage(
    id="k",
    document_id="k",
    title="Kulik",
    text="Leonid Kulik led the first expedition in 1927. Peat was studied later.",
    start=0,
    end=70,
)
PEAT = Passage(id="p", document_id="p", text="Anna Berg studied the peat.", start=0, end=27)
EXPLAIN = "Explain the first expedition."
WHO = "Who led the first expedition?"
HAD = "Somebody led it."
WROTE = "It was led by Leonid Kulik, who came late."
STRICT = {
    "accept": "better",
    "drafts": 1,
    "fresh": 0,
    "condense": "never",
    "brevity": 0.0,
    "agreement": 0.0,
    "minimum_gain": 0.0,
}
"""Every field that these tests rest on, whatever the defaults are."""

Grade = float | Feedback | None | type[Exception]


def response(text: str = HAD, score: float | None = 0.5, **answer: Any) -> Response:
    grade = None if score is None else Feedback(score=score, reason="so", grader="g")
    known = Answer(**{"text": text, "context": ("k",), "cited_by": "overlap", **answer})
    return Response(iteration=2, answer=known, grade=grade)


def cell(text: str = "Anna Berg.") -> Examination:
    return Examination(
        level="basic",
        iteration=2,
        status=CellStatus.DONE,
        question=Question(text="Who studied the peat?"),
        answer=Answer(text=text),
        feedback=Feedback(score=0.5, reason="so", grader="g"),
    )


class Bench:
    """A reviser with a scripted student and a judge that remembers what it graded.

    Args:
        grades: Score by text; an exception class is raised, ``None`` cannot be read, and
            other texts get 0.1; a ``Feedback`` is what the judge says as it stands.
        says: The reflections, in the order of the drafts, or a function of the request.
        config: Fields of the revision.
    """

    def __init__(
        self,
        grades: Mapping[str, Grade] | Callable[[str], Grade],
        says: Sequence[str] | Callable[[Request], str] = (WROTE,),
        *,
        cheap: bool = False,
        seed: int = 0,
        **config: Any,
    ) -> None:
        self.graded: list[GradingTask] = []
        find = grades if callable(grades) else lambda text: grades.get(text, 0.1)

        def judge(task: GradingTask) -> float | Feedback:
            self.graded.append(task)
            grade = find(task.answer)
            if grade is None:
                raise OutputError("no score", raw="well, well")
            if isinstance(grade, type):
                raise grade("gone", hint="wait")
            return grade

        script = says if callable(says) else {"student.reflect": list(says)}
        self.model = ScriptedModel(script)
        student = Student(self.model, PROMPTS, SamplingConfig(), seed=seed)
        teacher = Teacher(ScriptedModel({}), FunctionGrader(judge), PROMPTS, LoopConfig())
        self.reviser = Reviser(
            student,
            teacher,
            RevisionConfig(**(STRICT | config)),
            cheap_grades=cheap,
            seed=seed,
        )

    def revise(
        self,
        instruction: str = EXPLAIN,
        had: Response | None = None,
        *,
        context: Sequence[Passage] = (KULIK,),
        cells: Sequence[Examination] = (),
        grown: bool = False,
    ) -> Response:
        return asyncio.run(
            self.reviser.revise(
                instruction, context, had or response(), cells or (cell(),), grown=grown
            )
        )


def listed(made: Response) -> list[tuple[str, str, float | None]]:
    return [(d.origin, d.text, d.score) for d in made.drafts]
