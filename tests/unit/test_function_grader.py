"""A user's function as a grader: every kind of verdict, and what is none."""

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.graders import FunctionGrader, Grader, GradingTask
from reflectory.errors import OutputError
from reflectory.types import Feedback

TASK = GradingTask("Who saw it?", "Fleming")


def exact(task: GradingTask) -> bool:
    return task.answer == "Fleming"


def verdict_of(value: Any) -> Feedback:
    return asyncio.run(FunctionGrader(lambda task: value, name="judge").grade(TASK))


@pytest.mark.parametrize(
    ("verdict", "score"),
    [(0, 0.0), (1, 1.0), (0.25, 0.25), (True, 1.0), (False, 0.0), (np.float32(0.5), 0.5)],
)
def test_numbers_and_truth_values_are_scores(verdict: Any, score: float) -> None:
    feedback = verdict_of(verdict)
    assert (feedback.score, feedback.grader) == (score, "function:judge")
    assert feedback.reason == f"judge gave {score:.2f}."


def test_a_pair_brings_its_reason() -> None:
    assert verdict_of((0.5, "Half of it.")).reason == "Half of it."
    assert verdict_of((0.5, "")).reason == "judge gave 0.50."
    assert verdict_of((0.5, None)).reason == "judge gave 0.50."
    assert verdict_of((0.5, 404)).reason == "404"


def test_a_whole_feedback_is_passed_on() -> None:
    feedback = Feedback(score=0.5, reason="so", grader="mine", signals={"x": 1.0})
    assert verdict_of(feedback) == feedback


def test_the_function_may_be_a_coroutine_and_sees_the_task() -> None:
    async def judge(task: GradingTask) -> tuple[bool, str]:
        await asyncio.sleep(0)
        return exact(task), task.question

    feedback = asyncio.run(FunctionGrader(judge).grade(TASK))
    assert (feedback.score, feedback.reason, feedback.grader) == (
        1.0,
        "Who saw it?",
        "function:judge",
    )


@pytest.mark.parametrize(
    "verdict",
    [
        -0.01,
        1.01,
        math.nan,
        math.inf,
        None,
        "good",
        10**400,
        1j,
        (),
        (0.5,),
        (0.5, "so", "more"),
        ("good", "so"),
        (1.5, "so"),
        {"score": 0.5},
        np.array([0.1, 0.2]),
    ],
)
def test_anything_else_is_a_failure_and_not_a_score(verdict: Any) -> None:
    with pytest.raises(OutputError, match="'judge' returned") as caught:
        verdict_of(verdict)
    assert caught.value.raw == repr(verdict)
    assert caught.value.hint


def test_a_bug_in_the_function_is_not_hidden() -> None:
    def broken(task: GradingTask) -> float:
        return len(task.answer) / 0

    with pytest.raises(ZeroDivisionError):
        asyncio.run(FunctionGrader(broken).grade(TASK))


@given(st.floats(0.0, 1.0))
def test_every_score_of_the_unit_interval_is_kept_as_it_is(score: float) -> None:
    assert verdict_of(score).score == score


def test_its_name_is_the_functions() -> None:
    class Judge:
        def __call__(self, task: GradingTask) -> float:
            return 0.5

    assert isinstance(FunctionGrader(exact), Grader)
    assert FunctionGrader(exact).fingerprint == "function:exact"
    assert FunctionGrader(exact, name="mine").fingerprint == "function:mine"
    assert FunctionGrader(Judge()).fingerprint == "function:Judge"
