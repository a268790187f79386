"""The student: what each request holds, and how its words become an answer."""

import asyncio
from collections.abc import Callable
from typing import ClassVar

import pytest

from reflectory.agents import PromptSet, Student, answer_segments
from reflectory.agents.student import context_segments, render_examination
from reflectory.alignment import CellStatus
from reflectory.config import SamplingConfig
from reflectory.errors import OutputError
from reflectory.models.protocol import Completion, Request
from reflectory.retrieval.context import render_passages
from reflectory.testing.models import ScriptedModel
from reflectory.types import (
    Answer,
    Examination,
    Failure,
    Feedback,
    Passage,
    Question,
    Statement,
)

PROMPTS = PromptSet.with_replacements()
SAMPLING = SamplingConfig(
    answer_tokens=11, response_tokens=22, student_temperature=0.4, repetition_penalty=1.3
)


def passage(number: int, text: str) -> Passage:
    return Passage(id=f"p{number}", document_id=f"d{number}", text=text, start=0, end=len(text))


CONTEXT = [passage(1, "Fleming saw a mould."), passage(2, "Florey made the drug.")]
EXTRA = [passage(3, "Heatley built the apparatus.")]


def cell(level: str, iteration: int = 0, *, score: float = 0.5) -> Examination:
    return Examination(
        level=level,
        iteration=iteration,
        status=CellStatus.DONE,
        question=Question(text=f"What is {level}?"),
        answer=Answer(text=f"It is {level}."),
        feedback=Feedback(score=score, reason=f"Look at {level}.", grader="g"),
        alignment=score,
        similarity=1.0,
    )


def student(
    said: str | Callable[[Request], str], *, seed: int = 0
) -> tuple[Student, ScriptedModel]:
    model = ScriptedModel(said if callable(said) else lambda request: said)
    return Student(model, PROMPTS, SAMPLING, seed=seed), model


class ThinkingModel(ScriptedModel):
    """Says a text and thinks another."""

    def __init__(self, text: str, thinking: str) -> None:
        super().__init__({})
        self._said = Completion(text=text, thinking=thinking)

    async def complete(self, request: Request) -> Completion:
        return self._said


def test_every_role_reads_system_and_documents_first() -> None:
    who, model = student("Fleming.")
    asyncio.run(who.respond("Who saw it?", CONTEXT))
    asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA))
    asyncio.run(who.reflect("Who saw it?", CONTEXT, "Florey.", [cell("basic")]))
    respond, answer, reflect = model.requests

    shared = context_segments(PROMPTS, CONTEXT)
    assert [s.speaker for s in shared] == ["system", "user"]
    assert [s.text for s in shared] == [PROMPTS.fill("system"), render_passages(CONTEXT)]
    assert all(s.shared for s in shared)
    for request in model.requests:
        assert request.segments[:2] == shared
        assert not any(s.shared for s in request.segments[2:])
    assert [r.role for r in model.requests] == [
        "student.respond",
        "student.answer",
        "student.reflect",
    ]

    assert [s.text for s in respond.segments[2:]] == [
        PROMPTS.fill("student.answer", question="Who saw it?")
    ]
    # What only this call sees comes between, and its numbers go on.
    assert [s.text for s in answer.segments[2:]] == [
        render_passages(EXTRA, first_number=3),
        PROMPTS.fill("student.answer", question="Who built it?"),
    ]
    (task,) = [s.text for s in reflect.segments[2:]]
    for part in ("Who saw it?", "Florey.", "What is basic?", "It is basic.", "Look at basic."):
        assert part in task


def test_without_documents_only_the_system_text_is_shared() -> None:
    segments = answer_segments(PROMPTS, "Why?", [])
    assert [(s.speaker, s.shared) for s in segments] == [("system", True), ("user", False)]


def test_answering_and_training_use_the_very_same_prompt() -> None:
    who, model = student("Heatley.")
    asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA))
    assert model.requests[0].segments == answer_segments(PROMPTS, "Who built it?", CONTEXT, EXTRA)


def test_lengths_and_temperature_are_those_of_the_configuration() -> None:
    who, model = student("Fleming.")
    asyncio.run(who.respond("Who?", CONTEXT))
    asyncio.run(who.answer("Who?", CONTEXT, []))
    asyncio.run(who.reflect("Who?", CONTEXT, "Florey.", []))
    assert [r.sampling.max_tokens for r in model.requests] == [22, 11, 22]
    assert {r.sampling.temperature for r in model.requests} == {0.4}
    assert {r.sampling.repetition_penalty for r in model.requests} == {1.3}


def test_seeds_are_equal_for_equal_inputs_and_differ_otherwise() -> None:
    def requests(seed: int) -> list[Request]:
        who, model = student("Fleming.", seed=seed)
        asyncio.run(who.respond("Who saw it?", CONTEXT))
        asyncio.run(who.respond("Who made it?", CONTEXT))
        asyncio.run(who.answer("Who saw it?", CONTEXT, []))
        asyncio.run(who.answer("Who built it?", CONTEXT, []))
        asyncio.run(who.reflect("Who saw it?", CONTEXT, "Florey.", [cell("basic", 0)]))
        asyncio.run(who.reflect("Who saw it?", CONTEXT, "Florey.", [cell("basic", 1)]))
        asyncio.run(who.reflect("Who made it?", CONTEXT, "Florey.", [cell("basic", 1)]))
        return model.requests

    assert requests(0) == requests(0)
    seeds = [r.seed for seed in (0, 1) for r in requests(seed)]
    assert len(set(seeds)) == len(seeds)


def test_marks_become_citations_of_all_that_was_seen() -> None:
    who, _ = student("Heatley [3], for Florey [2].")
    answer = asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA))
    assert answer.text == "Heatley, for Florey."
    assert answer.context == ("p1", "p2", "p3")
    assert (answer.cited, answer.cited_by) == (("p3", "p2"), "student")


def test_answers_and_responses_carry_their_evidence() -> None:
    who, _ = student("Heatley built the apparatus [1]. Fleming was born in 1881.")
    answer = asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA))
    built = answer.statements[0]
    assert answer.text[built.start : built.end] == "Heatley built the apparatus."
    assert [e.passage for e in built.evidence] == ["p3"]  # what the question alone found
    assert (answer.groundedness, answer.unsupported) == (0.5, ("Fleming was born in 1881.",))
    response = asyncio.run(who.respond("Who built it?", CONTEXT))
    assert response.groundedness == 0.0
    assert asyncio.run(who.reflect("Who?", CONTEXT, "x", [])).groundedness == 0.0


def test_another_verifier_can_take_its_place() -> None:
    class Believer:
        fingerprint = "believer"
        seen: ClassVar[list[tuple[str, str, list[str]]]] = []

        async def verify(self, question, answer, passages):
            self.seen.append((question, answer, [p.id for p in passages]))
            return (Statement(start=0, end=len(answer), supported=True),)

    model = ScriptedModel(lambda request: "Nobody.")
    who = Student(model, PROMPTS, SAMPLING, seed=0, verifier=Believer())
    assert asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA)).groundedness == 1.0
    assert Believer.seen == [("Who built it?", "Nobody.", ["p1", "p2", "p3"])]


def test_without_marks_the_answer_is_attributed() -> None:
    who, _ = student("Heatley.")
    answer = asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA))
    assert (answer.cited, answer.cited_by) == (("p3",), "overlap")
    who, _ = student("Nobody knows.")
    answer = asyncio.run(who.answer("Who built it?", CONTEXT, EXTRA))
    assert (answer.cited, answer.cited_by) == ((), "overlap")


def test_thinking_is_kept_apart() -> None:
    who = Student(ThinkingModel("Fleming [1].", "Is it [2]?"), PROMPTS, SAMPLING, seed=0)
    answer = asyncio.run(who.respond("Who saw it?", CONTEXT))
    assert (answer.text, answer.thinking, answer.cited) == ("Fleming.", "Is it [2]?", ("p1",))


@pytest.mark.parametrize("said", ["", "  \n ", "[1]"])
def test_an_empty_completion_is_no_answer(said: str) -> None:
    who, _ = student(said)
    for call in (
        who.respond("Who?", CONTEXT),
        who.answer("Who?", CONTEXT, EXTRA),
        who.reflect("Who?", CONTEXT, "Florey.", []),
    ):
        with pytest.raises(OutputError) as caught:
            asyncio.run(call)
        assert caught.value.raw == said
        assert caught.value.hint


def test_the_raw_text_of_a_model_that_only_thought_is_its_thinking() -> None:
    who = Student(ThinkingModel("", "Let me see ..."), PROMPTS, SAMPLING, seed=0)
    with pytest.raises(OutputError) as caught:
        asyncio.run(who.respond("Who?", CONTEXT))
    assert caught.value.raw == "Let me see ..."


def test_cells_that_failed_teach_nothing() -> None:
    failed = Examination(
        level="expert",
        iteration=0,
        status=CellStatus.FAILED,
        question=Question(text="What is expert?"),
        failure=Failure(step="answer", kind="OutputError", message="no", raw="?"),
    )
    text = render_examination([cell("basic", score=0.25), failed, cell("advanced", score=1.0)])
    assert "expert" not in text
    assert text.index("What is basic?") < text.index("What is advanced?")
    assert "Grade 0.2 of 1" in text
    assert "Grade 1.0 of 1" in text
    assert (
        render_examination([failed]) == render_examination([]) == ("- (nothing could be examined)")
    )


def test_braces_of_the_student_survive_the_prompt() -> None:
    who, model = student("Fleming.")
    asyncio.run(who.reflect("What is {x}?", CONTEXT, "It is {x.__class__}.", []))
    assert "It is {x.__class__}." in model.requests[0].segments[-1].text
