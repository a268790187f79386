"""What the likelihood grader says about an answer, in words."""

from dataclasses import replace

import pytest
from grading import TASK

from reflectory.agents.answer_types import AnswerType, expected_type
from reflectory.agents.graders.likelihood import reason_for

PLAIN = {"repeated": 0.0, "support": 1.0, "type": 1.0, "information": 1.0}


@pytest.mark.parametrize(
    ("score", "signals", "verdict"),
    [
        (0.0, {"repeated": 1.0}, "It repeats the question instead of answering it."),
        (0.3, {"repeated": 0.5}, "It repeats the question instead of answering it."),
        (0.9, {}, "The documents support it."),
        (0.9, {"support": 0.2, "type": 0.0, "information": -1.0}, "The documents support it."),
        (0.5, {"support": 0.4}, "Much of it is not in the documents."),
        (0.1, {"support": 0.4, "type": 0.0}, "Much of it is not in the documents."),
        (0.5, {"type": 0.0, "information": -1.0}, "The name of a person was asked for."),
        (0.5, {"type": 0.3}, "The documents support it only in part."),
        (0.5, {"information": 0.0}, "It does not fit the question."),
        (0.1, {}, "It does not fit the question."),
        (0.5, {"repeated": 0.4}, "The documents support it only in part."),
    ],
)
def test_the_reason_says_what_was_measured(score: float, signals: dict, verdict: str) -> None:
    reason = reason_for(score, {**PLAIN, **signals}, TASK)
    assert reason.startswith(verdict)
    pointer = 'Look at [1]: "Alexander Fleming saw the mould in London in 1928."'
    assert (pointer in reason) == (score < 0.66)


def test_the_pointer_counts_passages_as_the_student_saw_them() -> None:
    task = replace(TASK, question="Who built the apparatus?")
    assert 'Look at [2]: "Norman Heatley built' in reason_for(0.1, PLAIN, task)
    nowhere = replace(TASK, question="Why is coal black?")
    assert reason_for(0.1, PLAIN, nowhere) == "It does not fit the question."


def test_the_reason_names_a_statement_without_evidence_when_it_is_one_of_several() -> None:
    task = replace(TASK, answer="It was Fleming. He was a king.", unsupported=("He was a king.",))
    assert reason_for(0.9, PLAIN, task) == 'The documents support it, but not "He was a king."'
    assert reason_for(0.1, PLAIN, task).startswith('The documents do not support "He was a king."')
    whole = replace(task, answer="He was a king.")
    assert reason_for(0.1, PLAIN, whole) == reason_for(0.1, PLAIN, replace(whole, unsupported=()))


@pytest.mark.parametrize(
    ("question", "verdict"),
    [
        ("When was the mould seen?", "A date was asked for."),
        ("How many moulds were there?", "A number was asked for."),
        ("Who saw the mould?", "The name of a person was asked for."),
        ("Where was the mould seen?", "A place was asked for."),
        ("What did Fleming see?", "A name or a few words was asked for."),
        ("Was it London or Oxford?", "One of those that the question names was asked for."),
        ("Was it in London?", "Yes or no was asked for."),
        ("Why was it seen?", "An explanation was asked for."),
    ],
)
def test_the_reason_names_the_kind_that_was_asked_for(question: str, verdict: str) -> None:
    task = replace(TASK, question=question)
    assert reason_for(0.5, {**PLAIN, "type": 0.0}, task).startswith(verdict)
    assert reason_for(0.5, {**PLAIN, "type": 0.5}, task).startswith("The documents support it only")


def test_every_kind_of_answer_has_a_reason_of_its_own() -> None:
    questions = ["When?", "How many?", "Who?", "Where?", "What?", "Is it A or B?", "Is it?", "Why?"]
    assert {expected_type(question) for question in questions} == set(AnswerType)
    said = {reason_for(0.1, {**PLAIN, "type": 0.0}, replace(TASK, question=q)) for q in questions}
    assert len(said) == len(questions)
