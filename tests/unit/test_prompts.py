"""Prompts as data: checked once, then filled without surprises."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.prompts import PLACEHOLDERS, PromptSet, problems_of_prompt
from reflectory.errors import ConfigError, UserError

DEFAULT = PromptSet.with_replacements()


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_there_is_a_default_for_every_prompt_and_no_other() -> None:
    assert set(DEFAULT.texts) == set(PLACEHOLDERS)
    assert all(text.strip() for text in DEFAULT.texts.values())


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_a_default_prompt_holds_exactly_its_placeholders(name: str) -> None:
    assert fields(DEFAULT.texts[name]) == PLACEHOLDERS[name]
    assert problems_of_prompt(name, DEFAULT.texts[name]) == []
    filled = DEFAULT.fill(name, **{field: f"<<{field}>>" for field in PLACEHOLDERS[name]})
    assert all(f"<<{field}>>" in filled for field in PLACEHOLDERS[name])


def test_a_replacement_leaves_the_other_prompts_alone() -> None:
    prompts = PromptSet.with_replacements({"student.answer": "Say it: {question}"})
    assert prompts.fill("student.answer", question="why?") == "Say it: why?"
    rest = set(PLACEHOLDERS) - {"student.answer"}
    assert {n: prompts.texts[n] for n in rest} == {n: DEFAULT.texts[n] for n in rest}
    assert PromptSet.with_replacements() == DEFAULT


def test_all_problems_of_all_replacements_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        PromptSet.with_replacements(
            {
                "student.answer": "no placeholder",
                "teacher.ask": "{instruction} {response} {level} {rubric}",
                "teacher.sing": "la",
                "system": "an {open brace",
            }
        )
    problems = caught.value.problems
    assert isinstance(caught.value, UserError)
    for part in (
        "prompts.student.answer: the placeholder {question} is missing",
        "prompts.teacher.ask: the placeholder {description} is missing",
        "prompts.teacher.ask: {rubric} is no placeholder here",
        "prompts.teacher.sing: there is no such prompt; known: system",
        "prompts.system: ",
    ):
        assert sum(part in line for line in problems) == 1, part
    assert len(problems) == 5


@pytest.mark.parametrize(
    "reach",
    [
        "{question.__class__}",
        "{question[0]}",
        "{question.__init__.__globals__}",
        "{}",
        "{0}",
        "{question!r}",
        "{question!x}",
        "{question:d}",
        "{question:>{width}}",
        "{question:>{question.__class__}}",
    ],
)
def test_a_placeholder_cannot_reach_into_values_or_fail_later(reach: str) -> None:
    assert problems_of_prompt("student.answer", f"{{question}} {reach}")
    with pytest.raises(ConfigError):
        PromptSet.with_replacements({"student.answer": f"{{question}} {reach}"})


def test_literal_braces_are_written_twice() -> None:
    prompts = PromptSet.with_replacements({"student.answer": 'Fill {{"a": 1}} for {question}'})
    assert prompts.fill("student.answer", question="x") == 'Fill {"a": 1} for x'
    (problem,) = problems_of_prompt("system", "a } alone")
    assert "twice" in problem


@given(st.text(alphabet="{}question.!:0 ", max_size=60), st.text(max_size=60))
def test_values_are_put_in_as_they_are(value: str, other: str) -> None:
    prompts = PromptSet.with_replacements({"teacher.grade": "{question}|{answer}|{rubric}"})
    filled = prompts.fill("teacher.grade", question=value, answer=other, rubric="{answer}")
    assert filled == f"{value}|{other}|{{answer}}"


def test_an_answer_without_unsupported_statements_is_itself() -> None:
    assert DEFAULT.with_unsupported("It is {red}.", ()) == "It is {red}."


def test_unsupported_statements_stand_below_the_answer_few_and_short() -> None:
    statements = [f"Fact {n}\n of {{many}}." for n in range(9)] + ["x" * 500]
    text = DEFAULT.with_unsupported("True. " + " ".join(statements), statements)
    answer, note = text.rsplit("\n", 1)
    assert answer == "True. " + " ".join(statements)
    assert note.count("Fact") == 3 and "Fact 0 of {many}." in note
    long = DEFAULT.with_unsupported("True. " + "x" * 500, ["x" * 500]).splitlines()[-1]
    assert len(long) < 200


def test_an_answer_is_not_said_twice() -> None:
    text = DEFAULT.with_unsupported("It is red.  It is blue.", ["It is red.", "It is blue."])
    assert text.count("It is red") == 1 and "the whole answer" in text


@given(st.sampled_from(sorted(PLACEHOLDERS)), st.text(alphabet="{}question.!r:> \n", max_size=40))
def test_a_text_without_problems_can_always_be_filled(name: str, noise: str) -> None:
    text = noise + "".join(f"{{{field}}}" for field in PLACEHOLDERS[name])
    if not problems_of_prompt(name, text):
        values = dict.fromkeys(PLACEHOLDERS[name], "value")
        assert isinstance(PromptSet.with_replacements({name: text}).fill(name, **values), str)
