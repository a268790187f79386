"""Drafts in the loop: how often the teacher grades, and what is recorded and kept."""

import asyncio
from typing import Any

import pytest
from revising import KULIK, PROMPTS, STRICT, WHO, WROTE, Bench, cell, response
from worlds import world_loop

from reflectory.agents import Student, Teacher
from reflectory.agents.graders import FunctionGrader, GradingTask
from reflectory.config import LoopConfig, SamplingConfig
from reflectory.errors import OutputError
from reflectory.graphs.state import LoopContext
from reflectory.models.protocol import Capability, Request
from reflectory.runs.checkpoints import allowed_types, make_serializer
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Draft, Failure, Flag, Trajectory


def drafting_loop(**options: Any) -> Any:
    """Return a loop whose student writes what its seed says, graded by what it wrote."""

    async def speak(request: Request) -> str:
        if request.role == "student.reflect":
            return f"I answer with skill 1.{request.seed % 100:02d}"
        return "I answer with skill 1.0"

    fields = {"max_iterations": 2, "revision": STRICT | {"drafts": 3}, **options}
    return world_loop(
        SyntheticWorld(levels=2), student=ScriptedModel(speak), stop_rules=[], **fields
    )


def test_the_loop_records_its_drafts_and_grades_each_response_once():
    trajectory = drafting_loop().run("What is known?")
    assert trajectory.responses[0].drafts == ()
    assert trajectory.grades == sorted(trajectory.grades)
    for before, after in zip(trajectory.responses, trajectory.responses[1:], strict=False):
        assert after.drafts[0].score == after.grade.score
        assert (before.text, before.grade.score) in {(d.text, d.score) for d in after.drafts}
        assert {d.origin for d in after.drafts} <= {"kept", "reflection", "drawn"}
    assert drafting_loop().run("What is known?") == trajectory
    assert drafting_loop(seed=1).run("What is known?").responses != trajectory.responses
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


@pytest.mark.parametrize(("accept", "grades"), [("always", 2), ("better", 1)])
def test_what_was_chosen_by_its_grade_is_not_graded_beside_the_levels(accept, grades):
    loop = drafting_loop(revision=STRICT | {"accept": accept})
    steps = [next(iter(chunk)) for chunk in loop.stream("Go?", stream_mode="updates")]
    assert steps.count("grade") == grades and steps.count("reflect") == 2


def test_what_could_not_be_graded_when_it_was_chosen_is_graded_later():
    seen: list[str] = []

    def judge(task: GradingTask) -> float:
        if task.question != "Go?":
            return 0.5
        seen.append(task.answer)
        if len(seen) <= 3:  # R_0, R_0 again and the reflection
            raise OutputError("no score", raw="well, well")
        return 0.5

    loop = drafting_loop(grader=judge, max_iterations=1, revision=STRICT)
    trajectory = loop.run("Go?")
    assert trajectory.grades == [None, 0.5]
    assert trajectory.responses[0].failure.step == "grade"
    assert trajectory.responses[1].failure is None
    assert trajectory.responses[1].text == "I answer with skill 1.0"


@pytest.mark.parametrize(
    ("grader", "capabilities", "cheap"),
    [
        ("auto", {Capability.SCORE}, True),
        ("likelihood", {Capability.SCORE}, True),
        ("spoken", {Capability.SCORE}, False),
        ("auto", set(), False),
    ],
)
def test_grades_are_cheap_where_they_are_likelihoods(grader, capabilities, cheap):
    config = LoopConfig(grader=grader, revision=STRICT | {"condense": "auto"})
    judge = FunctionGrader(lambda task: 0.1)
    model = ScriptedModel({}, capabilities=frozenset(capabilities))
    live = LoopContext(
        **dict.fromkeys(LoopContext.__dataclass_fields__)
        | {
            "config": config,
            "teacher": Teacher(model, judge, PROMPTS, config),
            "student": Student(
                ScriptedModel({"student.reflect": [WROTE]}), PROMPTS, SamplingConfig(), seed=0
            ),
        }
    )
    made = asyncio.run(live.reviser.revise(WHO, (KULIK,), response(), (cell(),), grown=False))
    assert any(d.origin == "condensed" for d in made.drafts) is cheap


def test_a_judge_that_keeps_everything_is_not_constant_when_it_tells_drafts_apart():
    worse = SyntheticWorld(skill=2.0, gain=-0.5, levels=2)
    settings = {"max_iterations": 2, "stop_rules": [], "revision": STRICT}
    kept = world_loop(worse, **settings).run("Go?")
    assert kept.grades == [1.0] * 3 and set(kept.alignment.values.ravel()) == {1.0}
    assert Flag.CONSTANT_JUDGE not in kept.flags
    constant = world_loop(worse, grader=lambda task: 1.0, **settings).run("Go?")
    assert Flag.CONSTANT_JUDGE in constant.flags


def test_a_checkpoint_holds_drafts():
    assert (Draft.__module__, "Draft") in allowed_types()
    made = Bench({WROTE: None}).revise()
    assert made.drafts
    failed = made.model_copy(
        update={"failure": Failure(step="grade", kind="OutputError", message="m")}
    )
    serializer = make_serializer()
    again = serializer.loads_typed(serializer.dumps_typed({3: failed}))
    assert again == {3: failed} and type(again[3].drafts[0]) is Draft
