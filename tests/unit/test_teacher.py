"""The teacher: questions that can be asked, and grades through the grader it was given."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflectory.agents import PromptSet, Teacher
from reflectory.agents.graders import FunctionGrader, GradingTask
from reflectory.agents.student import context_segments
from reflectory.agents.teacher import RESPONSE_RUBRIC, problem_with_question, read_question
from reflectory.config import Level, LoopConfig, SamplingConfig
from reflectory.errors import OutputError
from reflectory.models.protocol import Capability
from reflectory.testing.models import ScriptedModel
from reflectory.types import Passage

PROMPTS = PromptSet.with_replacements()
PREFILL = frozenset({Capability.PREFILL})
LEVEL = Level(
    name="basic",
    description="asks for one fact",
    rubric="The fact is right.",
    starters=("What", "Who", "When"),
)
CONTEXT = [Passage(id="p1", document_id="d1", text="Fleming saw a mould.", start=0, end=20)]
EXTRA = [Passage(id="p2", document_id="d2", text="Florey made the drug.", start=0, end=21)]
INSTRUCTION = "Explain who found the mould."
QUESTION_MARKS = "?\uff1f\u061f"
GOOD = "Who saw the mould first?"


def teacher(said: Sequence[str], *, capabilities: Any = frozenset(), **config: Any):
    model = ScriptedModel({"teacher.ask": said}, capabilities=capabilities)
    tasks: list[GradingTask] = []

    def grade(task: GradingTask) -> float:
        tasks.append(task)
        return 0.5

    settings = LoopConfig(**{"sampling": SamplingConfig(question_tokens=33), **config})
    return Teacher(model, FunctionGrader(grade), PROMPTS, settings), model, tasks


def ask(who: Teacher, *, level: Level = LEVEL, iteration: int = 0, asked: Sequence[str] = ()):
    return asyncio.run(
        who.ask(INSTRUCTION, level, "It was Florey.", CONTEXT, iteration=iteration, asked=asked)
    )


def test_a_request_begins_as_the_students_do_and_ends_with_the_task() -> None:
    who, model, _ = teacher([GOOD])
    question = ask(who)
    assert (question.text, question.attempts, question.edited) == (GOOD, 1, False)
    (request,) = model.requests
    assert request.role == "teacher.ask"
    assert request.segments[:-1] == context_segments(PROMPTS, CONTEXT)
    task = request.segments[-1]
    assert not task.shared
    for part in (INSTRUCTION, "It was Florey.", '"basic"', "asks for one fact"):
        assert part in task.text
    assert request.sampling.max_tokens == 33
    assert request.sampling.temperature == LoopConfig().sampling.teacher_temperature


def test_what_is_no_question_is_asked_for_again_with_another_seed() -> None:
    who, model, _ = teacher(["I do not know.", "", f"Question: {GOOD}"])
    question = ask(who)
    assert (question.text, question.attempts) == (GOOD, 3)
    first, *others = model.requests
    assert all(r.segments == first.segments for r in others)
    assert len({r.seed for r in model.requests}) == 3


def test_seeds_differ_by_level_iteration_and_attempt_and_are_repeatable() -> None:
    def seeds(loop_seed: int) -> list[int]:
        found = []
        for level, iteration in itertools.product(("basic", "expert"), range(3)):
            who, model, _ = teacher(["no", "no", GOOD], seed=loop_seed)
            ask(who, level=LEVEL.model_copy(update={"name": level}), iteration=iteration)
            found += [r.seed for r in model.requests]
        return found

    assert seeds(0) == seeds(0)
    everything = seeds(0) + seeds(1)
    assert len(everything) == 2 * 2 * 3 * 3
    assert len(set(everything)) == len(everything)


def test_after_the_last_try_the_raw_output_is_in_the_error() -> None:
    who, model, _ = teacher(["no", "neither", "What?"], question_attempts=3)
    with pytest.raises(OutputError, match=r"'basic' after 3 tries: it is too short") as caught:
        ask(who)
    assert caught.value.raw == "What?"
    assert caught.value.hint
    assert len(model.requests) == 3


def test_the_instruction_and_earlier_questions_are_not_asked_again() -> None:
    who, model, _ = teacher(
        ["Explain who found the mould?", "WHO saw the mould first?", "Where was the mould seen?"]
    )
    question = ask(who, asked=[GOOD])
    assert (question.text, question.attempts) == ("Where was the mould seen?", 3)
    assert len(model.requests) == 3


def test_a_question_about_the_student_is_not_one_about_the_documents() -> None:
    who, _, _ = teacher(["What did the student say about it?", GOOD])
    assert ask(who).attempts == 2
    school = [Passage(id="p", document_id="d", text="Each student has a desk.", start=0, end=24)]
    who, _, _ = teacher(["What does each student have?"])
    kept = who.ask(INSTRUCTION, LEVEL, "It was Florey.", school, iteration=0)
    assert asyncio.run(kept).attempts == 1


def test_a_model_that_can_be_prefilled_begins_with_another_starter_each_time() -> None:
    who, model, _ = teacher(["no"], capabilities=PREFILL, question_attempts=4)
    for iteration in (0, 1):
        with pytest.raises(OutputError):
            ask(who, iteration=iteration)
    starters = [r.prefill for r in model.requests]
    assert starters == ["What", "Who", "When", "What", "Who", "When", "What", "Who"]
    assert {r.sampling.stop for r in model.requests} == {("\n",)}


def test_after_a_failed_try_a_prefilled_question_begins_with_a_name_of_the_documents() -> None:
    """What is left to a small model, it asks about the student; a name keeps it to the matter."""
    text = "In 1931 the painter Ada Frey moved to Ulm. Her teacher was Emil Rau."
    documents = [Passage(id="p", document_id="d", text=text, start=0, end=len(text))]
    who, model, _ = teacher(["no"], capabilities=PREFILL, question_attempts=5)
    with pytest.raises(OutputError):
        asyncio.run(who.ask(INSTRUCTION, LEVEL, "It was Florey.", documents, iteration=0))
    first, *others = [r.prefill for r in model.requests]
    assert first == "What"
    names = [prefill.removeprefix("Regarding ").split(", ")[0] for prefill in others]
    assert all(name in text for name in names)
    assert len(set(names)) > 1 and {"Ada Frey", "Ulm"} & set(names)
    # The level's starters go on by turns behind the name, as a part of the sentence.
    assert [prefill.split(", ")[1] for prefill in others] == ["who", "when", "what", "who"]
    assert len({r.seed for r in model.requests}) == 5


def test_a_question_that_begins_with_a_name_is_asked_as_it_was_written() -> None:
    text = "The painter Ada Frey moved to Ulm."
    documents = [Passage(id="p", document_id="d", text=text, start=0, end=len(text))]
    who, model, _ = teacher(
        ["no", "Regarding Ulm, who moved there in the end?"], capabilities=PREFILL
    )
    found = asyncio.run(who.ask(INSTRUCTION, LEVEL, "It was Florey.", documents, iteration=0))
    assert model.requests[1].prefill.startswith("Regarding ")
    assert found.text == "Regarding Ulm, who moved there in the end?"
    assert found.attempts == 2


def test_no_words_are_put_into_the_mouth_of_other_models() -> None:
    for capabilities, level in (
        (frozenset({Capability.SEED, Capability.SCORE}), LEVEL),
        (PREFILL, LEVEL.model_copy(update={"starters": ()})),
    ):
        who, model, _ = teacher([GOOD], capabilities=capabilities)
        ask(who, level=level)
        assert (model.requests[0].prefill, model.requests[0].sampling.stop) == ("", ())


def test_grading_hands_the_grader_what_the_student_saw() -> None:
    who, _, tasks = teacher([GOOD])
    asyncio.run(who.grade_answer("Who saw it?", "Fleming", LEVEL, CONTEXT, EXTRA))
    asyncio.run(who.grade_response(INSTRUCTION, "It was Fleming.", CONTEXT))
    assert tasks == [
        GradingTask("Who saw it?", "Fleming", "The fact is right.", tuple(CONTEXT), tuple(EXTRA)),
        # A response may have been written from one passage, and is not read behind that alone.
        GradingTask(INSTRUCTION, "It was Fleming.", RESPONSE_RUBRIC, tuple(CONTEXT), apart=False),
    ]
    assert tasks[0].apart
    assert tasks[0].passages == (*CONTEXT, *EXTRA)


def test_the_teacher_is_shown_what_nothing_supports() -> None:
    response = "It was Florey. He lived on the moon."
    for unsupported, note in (
        ((), None),
        (("He lived on the moon.",), 'Not found in the documents: "He lived on the moon."'),
        (("It was Florey.", "He lived on the moon."), "Not found in the documents: the whole"),
    ):
        who, model, tasks = teacher([GOOD])
        asyncio.run(
            who.ask(INSTRUCTION, LEVEL, response, CONTEXT, iteration=0, unsupported=unsupported)
        )
        text = model.requests[0].segments[-1].text
        assert f"The student answered: {response}\n" in text
        assert (note is None) == ("Not found" not in text)
        assert note is None or note in text
        asyncio.run(who.grade_answer("Who?", "x", LEVEL, CONTEXT, EXTRA, unsupported))
        asyncio.run(who.grade_response(INSTRUCTION, response, CONTEXT, unsupported))
        assert [task.unsupported for task in tasks] == [unsupported, unsupported]


@pytest.mark.parametrize(
    "raw",
    [
        "{}",
        "  {}  ",
        "{}\n\nThis question asks for a name.",
        "{} Where was it? Why?",
        "Question: {}",
        "**Question:** {}",
        "**Question**: {}",
        "**Question 1:** {}",
        "Question 2: {}",
        "Question (expert): {}",
        "question. {}",
        "Q: {}",
        "Q1. {}",
        "Q.\n{}",
        "1. {}\n2. Where was it seen by him?",
        "1) {}",
        "(1) {}",
        "1. **{}**",
        "1. **Question:** {}",
        "- {}",
        "* {}",
        "• {}",
        "> {}",
        "### {}",
        "- Question: {}",
        '"{}"',
        "“{}”",
        "«{}»",
        "« {} »",
        "„{}“",
        "'{}'",
        "`{}`",
        "_{}_",
        '**"{}"**',
        'Question: "{}"',
        "Sure! Here is a question for the student:\n\n{}",
        "Here is a question: {}",
        'Here is one question at the level "basic": {}',
        "Here is a question: **{}**",
        "Certainly.\r\n{}\r\nAnswer: Fleming.",
        "\n\n\t{}\n",
    ],
)
def test_the_question_is_found_in_what_small_models_write(raw: str) -> None:
    assert read_question(raw.replace("{}", GOOD)) == GOOD


@pytest.mark.parametrize(
    "question",
    [
        "1908 was the year of which event in Siberia?",
        "3.5 million years ago, what happened to the moon?",
        "30 June 1908: what did the witnesses see?",
        "Q fever is caused by which bacterium?",
        "Which question did the court leave open: the first or the second?",
        "What does the report say of its aim: to find or to measure?",
        "How does 2.5 compare with 3.5 in the table?",
        "Why is -5 °C the lowest value?",
        "¿Qué descubrió Fleming en Londres?",
        "Wer hat den Schimmel zuerst gesehen?",
        "Qu\u2019est-ce que Fleming a vu ?",
        "谁首先发现了青霉素\uff1f",
        "誰が最初にペニシリンを見つけましたか\uff1f",
        "من اكتشف البنسلين في لندن؟",
        "ใครค้นพบเพนิซิลลินเป็นคนแรก?",
        "Кто первым увидел плесень?",
    ],
)
def test_a_question_is_left_as_it_is(question: str) -> None:
    assert read_question(question) == question
    assert read_question(f"Question: {question}") == question
    assert read_question(f"1. {question}") == question
    assert problem_with_question(question, INSTRUCTION, []) == ""


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("", ""),
        (" \n ", ""),
        ("I do not know.", "I do not know."),
        ("First line.\nSecond line.", "First line."),
        ("Question:", ""),
        ("- ", ""),
        ("?", "?"),
    ],
)
def test_without_a_question_the_first_line_is_returned(raw: str, text: str) -> None:
    assert read_question(raw) == text
    assert problem_with_question(text, INSTRUCTION, []) != ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD, ""),
        ("Tell me who saw the mould.", "does not end"),
        ("Who saw it", "does not end"),
        ("", "does not end"),
        ("Who saw it?", "too short"),
        ("谁?", "too short"),
        ("What is it that they are?", "about nothing"),
        ("Explain who found the mould?", "repeats the instruction"),
        ("explain: WHO found the mould ?", "repeats the instruction"),
        ("Where was the mould seen?", "asked before"),
        ("Where was the Mould -- seen?", "asked before"),
    ],
)
def test_what_cannot_be_asked(text: str, problem: str) -> None:
    found = problem_with_question(text, INSTRUCTION, ["Where was the mould seen?"])
    assert problem in found
    assert bool(found) == bool(problem)


ODD = st.text(alphabet="?\uff1f \n\r\t\u2028\x85*-_#>\"'“”.:()12Qqa", max_size=40)


@given(st.one_of(st.text(max_size=200), ODD), st.text(max_size=40), st.lists(ODD, max_size=3))
@example("question:" * 50, "", [])
@example("a" * 10_000 + "question" * 50, "", [])
def test_reading_never_raises_and_gives_at_most_one_line(
    raw: str, instruction: str, asked: list[str]
) -> None:
    text = read_question(raw)
    assert len(text.splitlines()) <= 1
    assert text == text.strip()
    assert text in raw
    # Nothing behind the first question mark.
    assert sum(text.count(mark) for mark in QUESTION_MARKS) <= 1
    if not problem_with_question(text, instruction, asked):
        assert text[-1] in QUESTION_MARKS
        assert text not in asked
