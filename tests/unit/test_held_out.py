"""Held-out questions: what a file may hold, and where their contexts come from."""

import asyncio
import json

import pytest

from reflectory.agents import PromptSet, Student
from reflectory.config import LoopConfig, RetrievalConfig, SamplingConfig
from reflectory.errors import UserError
from reflectory.evaluation.held_out import answer_items, find_contexts, read_held_out
from reflectory.retrieval import resolve_retriever
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.types import Document

BUDGET = RetrievalConfig(passages=1, context_tokens=60, layers=("dense", "lexical"))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def over(documents):
    return resolve_retriever(list(documents), HashingEmbedder(), BUDGET)


def student(model):
    return Student(model, PromptSet.for_loop(LoopConfig()), SamplingConfig(), seed=0)


def test_a_line_may_bring_documents_aliases_and_an_id(tmp_path):
    file = write(
        tmp_path / "q.jsonl",
        {
            "id": "a",
            "question": "Which ice floats?",
            "answer": "all",
            "aliases": ["every kind"],
            "documents": [{"title": "Ice", "text": "All ice floats."}, {"text": "Lava flows."}],
            "supporting_titles": ["Ice"],
        },
        {"question": "And lava?", "answer": "flows", "documents": ["notes.md"]},
    )
    first, second = read_held_out(file)
    assert (first.id, first.references) == ("a", ("all", "every kind"))
    assert [(d.id, d.title) for d in first.documents] == [("a-1", "Ice"), ("a-2", "")]
    assert second.id == "2" and second.documents == ()  # a name of a document is none


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "a\u2028b?", "answer": "c\x85d"}\n', encoding="utf-8")
    (found,) = read_held_out(file)
    assert found.question == "a\u2028b?" and found.references == ("c\x85d",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2"),
        ("[]", "line 2"),
        ('{"question": "a?"}', "line 2"),
        ('{"question": "", "answer": "b"}', "line 2"),
        ('{"question": "a?", "answer": ""}', "line 2"),
        ('{"question": "a?", "answer": 3}', "line 2"),
        ('{"question": "a?", "answer": "b", "documents": [{"title": "no text"}]}', "line 2"),
        ('{"question": "a?", "answer": "b", "documents": 7}', "line 2"),
        ('{"id": "1", "question": "a?", "answer": "b"}', "was used in line 1"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, says):
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "fine?", "answer": "yes"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=says):
        read_held_out(file)


def test_an_empty_or_missing_file_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    for name in ("empty.jsonl", "missing.jsonl"):
        with pytest.raises(UserError, match=name):
            read_held_out(tmp_path / name)


def test_contexts_come_from_own_documents_or_from_all(tmp_path):
    questions = read_held_out(
        write(
            tmp_path / "q.jsonl",
            {"question": "Ice?", "answer": "a", "documents": [{"text": "Ice of my own floats."}]},
            {"question": "Ice?", "answer": "a"},
        )
    )
    shared = over([Document(id="d", text="Ice of all floats.")])
    count = ScriptedModel({}).count_tokens
    own, common = asyncio.run(find_contexts(questions, shared, BUDGET, count, own=over))
    assert [p.text for p in own.context] == ["Ice of my own floats."]
    assert [p.text for p in common.context] == ["Ice of all floats."]
    with pytest.raises(UserError, match="nothing to be answered from"):
        asyncio.run(find_contexts(questions, None, BUDGET, count, own=over))


def test_answers_are_scored_in_order_and_a_silent_student_is_wrong(tmp_path):
    questions = read_held_out(
        write(
            tmp_path / "q.jsonl",
            {"question": "What floats?", "answer": "ice"},
            {"question": "What is silent?", "answer": "ice"},
        )
    )
    shared = over([Document(id="d", text="Ice floats on water.")])
    model = ScriptedModel(lambda r: "" if "silent" in r.segments[-1].text else "Ice")
    items = asyncio.run(find_contexts(questions, shared, BUDGET, model.count_tokens))
    said, nothing = asyncio.run(answer_items(items, student(model)))
    assert (said.f1, said.exact_match, said.contains, said.words) == (1.0, 1.0, 1.0, 1.0)
    assert said.groundedness is not None
    assert nothing.text is None and nothing.failure
    assert (nothing.f1, nothing.exact_match, nothing.contains, nothing.words) == (0, 0, 0, 0)
