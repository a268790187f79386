"""The teacher's grade as a reward: what TRL passes in, what it gets back."""

import asyncio
import json

import pytest

from reflectory.agents import PromptSet
from reflectory.agents.graders import FunctionGrader
from reflectory.agents.teacher import Teacher
from reflectory.agents.verification import LexicalVerifier
from reflectory.config import LoopConfig
from reflectory.errors import BackendError, DatasetError, OutputError
from reflectory.testing.models import ScriptedModel
from reflectory.training.rewards import reward_function
from reflectory.types import Feedback, Passage

PASSAGE = Passage(id="p", document_id="d", text="The crater is old.", start=0, end=18)


def reward(judge, completions, *, passages=(PASSAGE,), **more):
    """Call a reward function with the very arguments that GRPOTrainer passes."""
    count = len(completions)
    function = judge if callable(judge) else reward_function(judge)
    context = json.dumps([p.model_dump() for p in passages])
    return asyncio.run(
        function(
            prompts=[[{"role": "user", "content": "How old?"}]] * count,
            completions=completions,
            completion_ids=[[1]] * count,
            **{
                "question": ["How old?"] * count,
                "rubric": ["right"] * count,
                "context": [context] * count,
                "extra": ["[]"] * count,
                "provenance": ["{}"] * count,
                "trainer_state": None,
                "log_extra": lambda *_: None,
                "log_metric": lambda *_: None,
                **more,
            },
        )
    )


def test_completions_are_judged_as_answers_are():
    seen = []

    def grade(task):
        seen.append(task)
        return 1.0 if "old" in task.answer else 0.25

    function = reward_function(FunctionGrader(grade))
    scores = reward(
        function,
        [
            [{"role": "assistant", "content": "It is old [1]."}],
            "<think>hm</think>It is young.",
            "It is young.",
            [{"role": "assistant", "content": ""}],
            [{"role": "assistant", "content": None}],
        ],
    )
    assert scores == [1.0, 0.25, 0.25, 0.0, 0.0]
    assert [t.answer for t in seen] == ["It is old.", "It is young."]  # equal ones once
    assert (seen[0].question, seen[0].rubric, seen[0].passages) == ("How old?", "right", (PASSAGE,))
    assert function.graded == 5 and not function.failures


def test_what_cannot_be_graded_is_none_and_counted():
    def grade(task):
        if task.answer == "a":
            raise OutputError("no verdict", raw="?")
        return float("nan") if task.answer == "b" else 0.5

    logged = {}
    function = reward_function(FunctionGrader(grade))
    scores = reward(function, ["a", "b", "c", "c"], log_metric=logged.__setitem__)
    assert scores == [None, None, 0.5, 0.5]
    assert sum(function.failures.values()) == 2 and function.failures["no verdict"] == 1
    assert logged == {"teacher_reward/ungraded": 0.5}


def test_a_grader_that_breaks_its_contract_gives_no_number_that_is_none():
    class Broken:
        fingerprint = "broken"

        async def grade(self, task):
            return Feedback.model_construct(score=float("nan"), reason="", grader="broken")

    assert reward(Broken(), ["a"]) == [None]


def test_a_backend_that_fails_stops_the_training():
    class Down:
        fingerprint = "down"

        async def grade(self, task):
            raise BackendError("the server is down")

    with pytest.raises(BackendError, match="down"):
        reward(Down(), ["a"])


def test_a_teacher_lends_its_grader_and_unsupported_statements_are_told():
    seen = []
    model = ScriptedModel(lambda request: "?")
    config = LoopConfig()
    teacher = Teacher(
        model,
        FunctionGrader(lambda task: (seen.append(task), 0.5)[1]),
        PromptSet.for_loop(config),
        config,
    )
    function = reward_function(teacher, verifier=LexicalVerifier())
    assert reward(function, ["The crater is old. Elephants swim in lava."]) == [0.5]
    assert seen[0].unsupported == ("Elephants swim in lava.",)


@pytest.mark.parametrize("value", ["no JSON", "[1]", '[{"id": "p"}]', 3])
def test_columns_that_hold_something_else_are_errors(value):
    with pytest.raises(DatasetError, match="passages"):
        reward(FunctionGrader(lambda task: 1.0), ["a"], context=[value])


def test_a_data_set_of_another_format_is_named():
    function = reward_function(FunctionGrader(lambda task: 1.0))
    with pytest.raises(DatasetError, match="question"):
        asyncio.run(function(prompts=["a"], completions=["b"]))


def test_no_more_than_so_many_gradings_at_a_time():
    running = most = 0

    async def grade(task):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return 1.0

    function = reward_function(FunctionGrader(grade), concurrency=3)
    assert reward(function, [str(i) for i in range(20)]) == [1.0] * 20
    assert most == 3
