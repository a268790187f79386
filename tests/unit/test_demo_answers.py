"""What the demo says of its held-out questions: the questions themselves, and what changed."""

from io import StringIO

import pytest
from rich.console import Console

from reflectory.cli.demo_answers import AnswersView
from reflectory.demo.checked import checked_answers, most_changed
from reflectory.demo.story import data_folder
from reflectory.evaluation.held_out import HeldOutAnswer, HeldOutQuestion, read_held_out
from reflectory.evaluation.metrics import score_answer


def answered(questions, texts):
    """Return an answer per question, scored as the check scores them."""
    return [
        HeldOutAnswer(id=q.id, text=t, scores=None if t is None else score_answer(t, q.references))
        for q, t in zip(questions, texts, strict=True)
    ]


@pytest.fixture
def checked():
    questions = [
        HeldOutQuestion(id=f"q{n}", question=f"What is number {n}?", references=(f"the {n}th",))
        for n in range(7)
    ]
    before = ["the 0th", "x", "the 2th", None, "x y", "the 5th x", "x"]
    after = ["the 0th", "the 1th", "nothing", "\x1b[31mthe\n3th", "x z", "the 5th", "the 6th"]
    # Out of order: answers are found by the id of their question.
    return checked_answers(questions, answered(questions, before)[::-1], answered(questions, after))


def shown(checked, width):
    file = StringIO()
    Console(file=file, width=width).print(AnswersView(checked))
    return file.getvalue()


def test_every_question_has_both_answers_and_what_is_right(checked):
    assert [c.question for c in checked] == [f"What is number {n}?" for n in range(7)]
    assert [c.before for c in checked][:4] == ["the 0th", "x", "the 2th", None]
    assert checked[1].f1 == (0.0, 1.0) and checked[2].change == -1.0


def test_the_most_changed_come_first_and_those_that_did_not_change_never(checked):
    assert [c.id for c in most_changed(checked, 10)][:2] == ["q1", "q2"]
    assert {c.id for c in most_changed(checked, 10)} == {"q1", "q2", "q3", "q5", "q6"}
    assert len(most_changed(checked, 2)) == 2


@pytest.mark.parametrize("width", [40, 80, 140])
def test_questions_are_read_in_a_terminal_of_any_width(checked, width):
    text = shown(checked, width)
    assert "F1 changed for 5 of 7" in " ".join(text.split())
    assert "What is number 1?" in text and "What is number 0?" not in text
    assert "no answer" in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width


def test_when_nothing_changed_that_is_said(checked):
    assert shown(checked[:1], 80) == "No answer's F1 changed.\n"


def test_the_packaged_questions_can_be_shown():
    questions = read_held_out(data_folder() / "held_out.jsonl")
    said = answered(questions, ["nothing"] * len(questions))
    found = checked_answers(questions, said, said)
    assert len(found) == len(questions) and all(c.question and c.references for c in found)
