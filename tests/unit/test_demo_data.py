"""The packaged example: documents, instructions to practise on, questions held out."""

import json
import re
from importlib.resources import files
from typing import Any

import pytest

DATA = files("reflectory") / "demo" / "data"


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in DATA.joinpath(name).read_text("utf-8").splitlines()]


def _plain(text: str) -> str:
    """Drop tags, headings' marks and the page's head, and fold case and white space."""
    text = re.sub(r"<head>.*?</head>", " ", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", text)
    return " ".join(text.replace("#", " ").split()).casefold()


DOCUMENTS = {
    entry.name: _plain(entry.read_text("utf-8"))
    for entry in sorted(DATA.joinpath("documents").iterdir(), key=lambda entry: entry.name)
}
PRACTICE, HELD_OUT = _rows("practice.jsonl"), _rows("held_out.jsonl")


def _holds(text: str, answer: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(answer.casefold())}(?!\w)", text) is not None


def test_there_are_enough_documents_in_several_formats() -> None:
    assert len(DOCUMENTS) >= 6
    assert {name.rsplit(".", 1)[1] for name in DOCUMENTS} == {"md", "html", "txt"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_250_to_450_words(name: str) -> None:
    assert 250 <= len(DOCUMENTS[name].split()) <= 450


def test_no_sentence_is_in_two_documents() -> None:
    seen: dict[str, str] = {}
    for name, text in DOCUMENTS.items():
        for sentence in re.split(r"(?<=[.?!])\s", text):
            if len(sentence.split()) >= 6:
                assert seen.setdefault(sentence, name) == name, sentence


def test_practice_instructions_are_distinct_and_carry_no_answers() -> None:
    assert len(PRACTICE) >= 5
    assert all(set(row) == {"id", "instruction"} for row in PRACTICE)
    assert len({row["id"] for row in PRACTICE}) == len(PRACTICE)
    assert len({row["instruction"].casefold() for row in PRACTICE}) == len(PRACTICE)


def test_held_out_questions_are_distinct_and_not_practised() -> None:
    assert len(HELD_OUT) == 24
    assert len({row["id"] for row in HELD_OUT}) == 24
    questions = {_plain(row["question"]) for row in HELD_OUT}
    assert len(questions) == 24
    assert questions.isdisjoint(_plain(row["instruction"]) for row in PRACTICE)


@pytest.mark.parametrize("row", HELD_OUT, ids=lambda row: row["id"])
def test_a_held_out_answer_stands_in_the_named_documents(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "question", "answer", "aliases", "documents"}
    assert row["documents"]
    for name in row["documents"]:
        assert any(_holds(DOCUMENTS[name], a) for a in [row["answer"], *row["aliases"]]), name
    assert any(_holds(DOCUMENTS[name], row["answer"]) for name in row["documents"])


@pytest.mark.parametrize("row", HELD_OUT, ids=lambda row: row["id"])
def test_a_held_out_answer_is_short_and_not_given_away(row: dict[str, Any]) -> None:
    assert 1 <= len(row["answer"].split()) <= 5
    given = [row["question"], *(r["instruction"] for r in PRACTICE)]
    assert not any(_holds(_plain(text), row["answer"]) for text in given)


def test_every_document_is_asked_about() -> None:
    assert {name for row in HELD_OUT for name in row["documents"]} == set(DOCUMENTS)
