"""How any grader is measured on cases with known answers."""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from grading import KNOWN

from reflectory.agents.citations import content_words
from reflectory.agents.graders import FunctionGrader, GradingTask
from reflectory.agents.graders.cases import GraderReport, measure_grader, packaged_cases
from reflectory.errors import BackendError
from reflectory.models.protocol import content_hash


def report(function: Callable[[GradingTask], object]) -> GraderReport:
    return asyncio.run(measure_grader(FunctionGrader(function), packaged_cases()))  # type: ignore[arg-type]


def test_the_packaged_cases_are_of_every_kind() -> None:
    kinds = Counter(case.kind for case in packaged_cases())
    questions = kinds["right"]
    assert questions >= 120
    for kind in ("right_sentence", "wrong_sentence", "unsupported", "echo", "constant"):
        assert kinds[kind] == questions
    assert kinds["same_documents"] > questions
    right = {c.kind for c in packaged_cases() if c.right}
    assert right == {"right", "right_sentence", "said"}
    # Only of what a student said, both kinds of truth occur.
    assert right & {c.kind for c in packaged_cases() if not c.right} == {"said"}
    groups = defaultdict(set)
    for case in packaged_cases():
        assert case.task.context
        assert case.task.rubric
        groups[case.group].add(case.task.question)
        if case.kind == "echo":
            assert case.task.answer == case.task.question
    assert all(len(asked) == 2 for asked in groups.values())
    assert packaged_cases() is packaged_cases()


def test_a_judge_that_knows_is_measured_as_perfect() -> None:
    found = report(lambda task: KNOWN[task.question, task.answer])
    assert found.auc == 1.0
    assert set(found.auc_by_kind.values()) == {1.0}
    wrong = {case.kind for case in packaged_cases() if not case.right}
    assert wrong >= {"same_documents", "wrong_sentence", "unsupported", "echo", "constant"}
    assert set(found.auc_by_kind) == wrong
    assert (found.failed, found.graded, found.constant) == ((), len(packaged_cases()), False)
    assert found.better_than_chance


def test_a_judge_that_says_the_same_to_everything_is_flagged() -> None:
    found = report(lambda task: 0.7)
    assert found.constant
    assert found.auc == 0.5
    assert not found.better_than_chance


def test_a_judge_that_throws_dice_is_no_better_than_chance() -> None:
    found = report(lambda task: int(content_hash(task.question, task.answer)[:8], 16) / 2**32)
    assert 0.45 < found.auc < 0.55
    assert not found.constant
    assert not found.better_than_chance


def test_a_judge_of_one_weakness_is_found_out_by_kind() -> None:
    """Counting the words that the documents hold is fooled by an echo, not by the unsupported."""

    def support(task: GradingTask) -> float:
        held = set(content_words(" ".join(p.text for p in task.passages)))
        words = content_words(task.answer)
        return sum(w in held for w in words) / len(words) if words else 0.0

    found = report(support)
    assert found.auc_by_kind["unsupported"] > 0.9
    assert found.auc_by_kind["echo"] < found.auc_by_kind["unsupported"]
    assert found.auc_by_kind["same_documents"] < 0.6


def test_what_cannot_be_graded_counts_as_failed_and_not_as_wrong() -> None:
    def shy(task: GradingTask) -> object:
        return KNOWN[task.question, task.answer] if len(task.answer) < 40 else "no idea"

    found = report(shy)
    failed = sum(len(c.task.answer) >= 40 for c in packaged_cases())
    assert len(found.failed) == failed > 0
    assert set(found.failed) == {"'no idea'"}
    assert found.graded == len(packaged_cases()) - failed
    assert found.auc == 1.0


def test_a_judge_that_fails_on_everything_is_worth_nothing() -> None:
    found = report(lambda task: None)
    assert (found.graded, len(found.failed)) == (0, len(packaged_cases()))
    assert math.isnan(found.auc)
    assert not found.constant
    assert not found.better_than_chance


def test_a_server_that_is_down_is_no_verdict() -> None:
    def down(task: GradingTask) -> float:
        raise BackendError("the server is down")

    with pytest.raises(BackendError):
        report(down)
