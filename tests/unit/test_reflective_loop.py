"""Algorithm 1: exact results in the synthetic world, and the order and inputs of its calls."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import world_loop

from reflectory.alignment import CellStatus
from reflectory.errors import OutputError, UserError
from reflectory.graphs.reflective_loop import build_reflective_loop, recursion_limit
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Flag, Trajectory


def test_matrix_and_grades_are_those_of_the_world():
    world = SyntheticWorld(skill=1.0, gain=0.5, levels=4)
    trajectory = world_loop(world, max_iterations=4).run("What is known?")
    np.testing.assert_allclose(trajectory.alignment.values, world.matrix(4), atol=1e-12)
    assert trajectory.grades == [world.grade(t) for t in range(5)]
    assert trajectory.stop.rule == "max_iterations" and not trajectory.stop.converged
    assert trajectory.response == "I answer with skill 3.0"


@pytest.mark.parametrize("accept", ["always", "better"])
def test_a_student_that_gets_worse_is_followed_or_kept(accept):
    world = SyntheticWorld(skill=2.0, gain=-0.5, levels=2)
    loop = world_loop(
        world, max_iterations=3, epsilon=1e-9, stop_rules=[], revision={"accept": accept}
    )
    trajectory = loop.run("What is known?")
    followed = [world.grade(t) for t in range(4)]
    assert followed == [1.0, 0.75, 0.5, 0.25]
    if accept == "always":
        assert trajectory.grades == followed
        assert not any(r.drafts for r in trajectory.responses)
    else:
        assert trajectory.grades == [1.0] * 4
        assert {r.text for r in trajectory.responses} == {"I answer with skill 2.0"}
        for response in trajectory.responses[1:]:
            said = [(d.origin, d.text, d.score) for d in response.drafts]
            assert said[0] == ("kept", "I answer with skill 2.0", 1.0)
            assert ("reflection", "I answer with skill 1.5", 0.75) in said
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


@settings(max_examples=15, deadline=None)
@given(
    skill=st.sampled_from([0.0, 0.5, 1.0, 2.5]),
    gain=st.sampled_from([0.0, 0.25, 1.0]),
    levels=st.integers(1, 5),
    ceiling=st.sampled_from([1.0, 2.0, 100.0]),
    iterations=st.integers(1, 5),
    epsilon=st.sampled_from([0.01, 0.3, 2.0]),
)
def test_a_loop_stops_exactly_where_equation_32_says(
    skill, gain, levels, ceiling, iterations, epsilon
):
    world = SyntheticWorld(min(skill, ceiling), gain, levels, ceiling)
    trajectory = world_loop(world, max_iterations=iterations, epsilon=epsilon).run("Go on?")
    full = world.matrix(iterations)
    still = [
        t for t in range(1, iterations) if np.linalg.norm(full[:, t] - full[:, t - 1]) < epsilon
    ]
    columns = still[0] + 1 if still else iterations
    assert trajectory.alignment.iterations == columns
    np.testing.assert_allclose(trajectory.alignment.values, full[:, :columns], atol=1e-12)
    assert trajectory.stop.converged == bool(still)
    assert len(trajectory.responses) == columns + 1
    assert trajectory.grades == pytest.approx([world.grade(t) for t in range(columns + 1)])
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


@pytest.mark.parametrize("accept", ["always", "better"])
def test_the_calls_are_those_of_algorithm_1_in_its_order_and_with_its_inputs(accept):
    world = SyntheticWorld(levels=2)
    teacher, student = world.teacher(), world.student()
    judged = []

    def judge(task):
        judged.append(task)
        return 0.5, "reason for half"

    loop = world_loop(
        world,
        max_iterations=2,
        teacher=teacher,
        student=student,
        grader=judge,
        epsilon=1e-9,
        revision={"accept": accept, "drafts": 1, "condense": "never"},
    )
    trajectory = loop.run("Why is it so?")

    roles = [r.role for r in student.requests]
    assert roles[0] == "student.respond"
    assert roles == ["student.respond"] + ["student.answer"] * 2 + ["student.reflect"] + (
        ["student.answer"] * 2 + ["student.reflect"] if trajectory.alignment.iterations == 2 else []
    )
    first = student.requests[0].segments
    assert "Why is it so?" in first[-1].text
    documents = first[1].text
    assert "first fact" in documents and "second fact" in documents
    for request in [*teacher.requests, *student.requests]:
        # Every role reads the system text and C_t first, so that prefixes are shared.
        assert request.segments[:2] == first[:2]

    asked = [r.segments[-1].text for r in teacher.requests]
    assert all("Why is it so?" in text for text in asked)
    assert all("I answer with skill 1.0" in text for text in asked[:2])  # R_0
    # R_1: nothing is graded above R_0, so it stays unless every reflection is taken.
    following = "I answer with skill 2.0" if accept == "always" else "I answer with skill 1.0"
    assert all(following in text for text in asked[2:])
    for j, level in enumerate(loop.config.levels):
        assert level.description in asked[j]

    cells = [c for c in trajectory.examinations if c.iteration == 0]
    reflect = next(r for r in student.requests if r.role == "student.reflect").segments[-1].text
    assert "Why is it so?" in reflect and "I answer with skill 1.0" in reflect
    for cell in cells:
        assert cell.question.text in reflect and cell.answer.text in reflect
        assert "reason for half" in reflect
    # F[j,t] sees the question, the answer, the rubric and C[j,t].
    by_question = {task.question: task for task in judged}
    for cell in trajectory.examinations:
        task = by_question[cell.question.text]
        assert task.answer == cell.answer.text
        assert task.rubric == loop.config.levels[0].rubric
        assert [p.id for p in task.passages] == list(cell.answer.context)
    columns = trajectory.alignment.iterations
    graded = [task.answer for task in judged if task.question == "Why is it so?"]
    if accept == "always":  # G[t] for every t, the last included
        assert sorted(graded) == sorted(r.text for r in trajectory.responses)
    else:  # R_0 and every reflection once; what is kept under the same context never again
        assert graded == ["I answer with skill 1.0", *["I answer with skill 2.0"] * columns]
        assert trajectory.grades == [0.5] * (columns + 1)


def test_levels_do_not_wait_for_one_another_between_the_stages():
    world, second_is_through = SyntheticWorld(levels=2), threading.Event()

    async def slow_for_level_1(request):
        difficulty = 1 if "has difficulty 1" in request.segments[-1].text else 2
        if difficulty == 1:
            assert await asyncio.to_thread(second_is_through.wait, 60)
        return f"What is needed at difficulty {difficulty} by skill 1.0 in {request.seed}?"

    steps = []

    def note(event):
        steps.append((event.step, event.level))
        if steps[-1] == ("align", "level 2"):
            second_is_through.set()

    loop = world_loop(world, max_iterations=1, teacher=ScriptedModel(slow_for_level_1))
    loop.run("Go?", on_event=note)
    assert steps.index(("align", "level 2")) < steps.index(("ask", "level 1"))
    assert [s for s, _ in steps].index("reflect") > steps.index(("align", "level 1"))


def test_a_question_that_cannot_be_read_is_a_failed_cell_and_never_a_zero():
    world = SyntheticWorld(levels=3)
    good = world.teacher()

    async def mute_at_level_2(request):
        if "has difficulty 2" in request.segments[-1].text:
            return "I would rather not."
        return (await good.complete(request)).text

    trajectory = world_loop(
        world, max_iterations=3, epsilon=10.0, teacher=ScriptedModel(mute_at_level_2)
    ).run("Go?")
    matrix = trajectory.alignment
    assert [row[0] for row in matrix.status] == [
        CellStatus.DONE,
        CellStatus.FAILED,
        CellStatus.DONE,
    ]
    assert np.isnan(matrix.values[1]).all() and not np.isnan(matrix.values[[0, 2]]).any()
    # A failed cell in a column means not converged, however large epsilon is.
    assert not trajectory.stop.converged and matrix.iterations == 3
    failure = trajectory.examinations[1].failure
    assert failure.step == "ask" and failure.raw == "I would rather not."
    assert Flag.UNGRADED in trajectory.flags


def test_a_grade_that_cannot_be_read_is_recorded_with_its_raw_text():
    def refuse(task):
        raise OutputError("no score", raw="well, well")

    trajectory = world_loop(SyntheticWorld(levels=1), max_iterations=1, grader=refuse).run("Go?")
    assert trajectory.grades == [None, None]
    assert [r.failure.raw for r in trajectory.responses] == ["well, well"] * 2
    # R_0 stays, and what could not be graded is no draft of a grade of zero.
    assert trajectory.response == "I answer with skill 1.0"
    drafts = trajectory.responses[1].drafts
    assert [(d.origin, d.score) for d in drafts[:2]] == [("kept", None), ("reflection", None)]
    assert trajectory.examinations[0].status is CellStatus.FAILED
    assert trajectory.examinations[0].answer is not None


def test_a_reflection_that_says_nothing_keeps_the_response_and_says_so():
    world = SyntheticWorld(levels=1)
    normal = world.student()

    async def silent_reflection(request):
        if request.role == "student.reflect":
            return "   "
        return (await normal.complete(request)).text

    for accept in ("always", "better"):
        silent = ScriptedModel(silent_reflection)
        loop = world_loop(world, max_iterations=1, student=silent, revision={"accept": accept})
        trajectory = loop.run("?!")
        assert trajectory.responses[1].text == trajectory.responses[0].text
        assert trajectory.responses[1].failure.step == "reflect"
        assert trajectory.grades == [1.0, 1.0]


def test_without_a_first_response_there_is_no_loop():
    loop = world_loop(SyntheticWorld(), student=ScriptedModel(lambda request: ""))
    with pytest.raises(OutputError, match="said nothing"):
        loop.run("Go?")


def test_a_constant_judge_is_flagged_and_a_moving_one_is_not():
    world = SyntheticWorld(levels=2, gain=0.3)
    constant = world_loop(world, max_iterations=3, grader=lambda task: 0.7).run("Go?")
    assert constant.stop.converged and Flag.CONSTANT_JUDGE in constant.flags
    moving = world_loop(world, max_iterations=3).run("Go?")
    assert Flag.CONSTANT_JUDGE not in moving.flags


@pytest.mark.parametrize(
    ("accept", "returns", "expected"),
    [
        ("always", "last", "3.0"),
        ("always", "best", "2.0"),
        ("better", "last", "2.0"),
        ("better", "best", "2.0"),
    ],
)
def test_the_best_response_by_grade_is_returned_when_asked_for(accept, returns, expected):
    grades = {"1.0": 0.2, "2.0": 0.9, "3.0": 0.4}

    def judge(task):
        return grades[task.answer.split()[-1]] if task.question == "Go?" else 0.5

    trajectory = world_loop(
        SyntheticWorld(levels=1),
        max_iterations=2,
        grader=judge,
        returns=returns,
        stop_rules=[],
        revision={"accept": accept},
    ).run("Go?")
    assert trajectory.alignment.iterations == 2
    assert trajectory.response == f"I answer with skill {expected}"


def test_a_person_can_edit_a_question_and_a_grade():
    world = SyntheticWorld(levels=2)
    seen = []

    def review(value):
        seen.append(value["review"])
        if value["review"] == "question" and value["level"] == "level 1":
            return "What did the person ask, at difficulty 1 by skill 1.0?"
        if value["review"] == "grade" and value["level"] == "level 2":
            return {"score": 0.25, "reason": "a person said so"}
        return None

    trajectory = world_loop(world, max_iterations=1, review=["question", "grade"]).run(
        "Go?", on_review=review
    )
    one, two = trajectory.examinations
    assert one.question.text.startswith("What did the person ask") and one.question.edited
    assert not two.question.edited
    assert two.feedback.score == 0.25 and two.feedback.edited and two.alignment == 0.25
    assert sorted(seen) == ["grade", "grade", "question", "question"]


def test_a_review_that_nobody_answers_is_a_clear_error():
    loop = world_loop(SyntheticWorld(levels=1), max_iterations=1, review=["question"])
    with pytest.raises(UserError, match="nobody answers"):
        loop.run("Go?")


def test_a_long_loop_is_ended_by_max_iterations_and_not_by_the_recursion_limit():
    world = SyntheticWorld(levels=1, gain=0.01, skill=0.0)
    trajectory = world_loop(world, max_iterations=60, epsilon=1e-9).run("Go?")
    assert trajectory.alignment.iterations == 60
    assert recursion_limit(world.config(max_iterations=60)) > 3 * 60


@pytest.mark.parametrize("instruction", ["", "   \n", None, 7])
def test_an_instruction_must_say_something(instruction):
    with pytest.raises(UserError, match="instruction"):
        world_loop(SyntheticWorld()).run(instruction)


def test_half_an_emoji_breaks_nothing():
    world = SyntheticWorld(levels=1)
    broken = ScriptedModel(lambda request: "I answer \ud83d with skill 1.0")
    trajectory = world_loop(world, max_iterations=1, student=broken).run("Go \ud83d on?")
    assert trajectory.instruction == "Go ? on?" and trajectory.response.startswith("I answer ?")
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


def test_langgraph_stream_modes_keep_working():
    loop = world_loop(SyntheticWorld(levels=2), max_iterations=1)
    updates = [next(iter(chunk)) for chunk in loop.stream("Go?", stream_mode="updates")]
    assert updates[:4] == ["preprocess", "retrieve", "aggregate", "respond"]
    assert sorted(updates[4:7]) == ["examine", "examine", "grade"]
    assert updates[7:] == ["reflect", "check", "conclude"]
    values = list(loop.stream("Go?", stream_mode="values"))
    assert values[-1]["stop"].iterations == 1


def test_the_graph_needs_its_models():
    graph = build_reflective_loop(SyntheticWorld(levels=1).config())
    with pytest.raises(UserError, match="without its models"):
        asyncio.run(graph.ainvoke({"instruction": "Go?"}))
