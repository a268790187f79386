"""What a student says to plain instructions, kept as rows."""

import asyncio

import pytest

from reflectory.evaluation.general import general_instructions
from reflectory.models.protocol import Completion
from reflectory.testing.models import ScriptedModel
from reflectory.training.rehearsal import is_rehearsal, rehearsal_instructions, rehearsal_rows


class Student(ScriptedModel):
    """Says what it is told to, ended or cut."""

    def __init__(self, texts):
        super().__init__({"student.rehearse": []})
        self.texts = texts

    async def complete(self, request):
        self.requests.append(request)
        text, finish = self.texts(request.segments[-1].text)
        return Completion(text=text, finish=finish)


def rows_of(texts, count=40, seed=0):
    student = Student(texts)
    return asyncio.run(rehearsal_rows(student, count, seed=seed)), student


def test_none_of_them_is_among_those_that_forgetting_is_measured_on():
    measured = {item.instruction.casefold() for item in general_instructions()}
    texts = [text for _, text in rehearsal_instructions()]
    assert len(set(texts)) == len(texts) == 40
    assert not measured & {text.casefold() for text in texts}


def test_rows_hold_what_the_student_said_and_nothing_else():
    rows, student = rows_of(lambda text: (f"answer to {text}", "stop"))
    assert len(rows) == len(student.requests) == 40
    for row in rows:
        (message,) = row.prompt
        assert row.completion[0].content == f"answer to {message.content}"
        assert is_rehearsal(row) and row.provenance.score is None


@pytest.mark.parametrize(("text", "finish"), [("cut in the", "length"), ("  ", "stop")])
def test_what_is_cut_or_blank_is_no_row(text, finish):
    rows, _ = rows_of(lambda _: (text, finish))
    assert rows == ()


def test_the_seed_decides_which_are_taken():
    def asked(seed):
        _, student = rows_of(lambda _: ("yes", "stop"), count=5, seed=seed)
        return [request.segments[0].text for request in student.requests]

    assert asked(1) == asked(1) != asked(2)
    assert len(asked(1)) == 5
