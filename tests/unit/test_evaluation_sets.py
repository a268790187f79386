"""Sets of questions: every shape that is read, and what is said of those that are not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import DatasetError, UserError
from reflectory.evaluation.held_out import HeldOutQuestion
from reflectory.evaluation.sets import parse_rows, read_sets

OURS = {
    "id": "a",
    "question": "Where?",
    "answer": "There",
    "aliases": ["Yonder", "There"],
    "domain": "places",
    "documents": [{"title": "T", "text": "It is there."}],
}
PAIRS = {
    "_id": "b",
    "question": "Who?",
    "answer": "Ann",
    "context": [["Ann", ["Ann came.", " She left."]], ["Bo", ["Bo stayed."]]],
}
LISTS = {
    "id": "c",
    "question": "Who?",
    "answer": "Ann",
    "context": {"title": ["Ann", "Bo"], "sentences": [["Ann came.", " She left."], ["Bo stayed."]]},
}
SCIQ = {"question": "What is ice?", "correct_answer": "water", "support": "Ice is frozen water."}
SQUAD = {
    "id": "d",
    "question": "When?",
    "answers": {"text": ["1908", "in 1908"], "answer_start": [3, 0]},
    "context": "In 1908 it fell.",
    "title": "Fall",
}


def written(folder, *rows, name="set.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_rows_of_our_own(tmp_path):
    found = read_sets(written(tmp_path, OURS))
    (question,) = found.questions
    assert (question.id, question.domain, found.name) == ("a", "places", "set.jsonl")
    assert question.references == ("There", "Yonder")
    assert [(d.id, d.title, d.text) for d in question.documents] == [("a-1", "T", "It is there.")]


@pytest.mark.parametrize("row", [PAIRS, LISTS], ids=["pairs", "lists"])
def test_both_shapes_of_hotpotqa(row):
    (question,) = read_sets([row]).questions
    assert question.id == row.get("_id", row.get("id"))
    assert [(d.title, d.text) for d in question.documents] == [
        ("Ann", "Ann came. She left."),
        ("Bo", "Bo stayed."),
    ]


def test_paragraphs_of_all_rows_are_the_pool_of_the_chosen_ones(tmp_path):
    rows = [{**SCIQ, "support": f"Paragraph {n}."} for n in range(4)]
    found = read_sets(written(tmp_path, *rows, rows[0]), rows="2-3")
    assert [question.id for question in found.questions] == ["2", "3"]
    assert [document.text for document in found.pool] == [f"Paragraph {n}." for n in range(4)]


def test_rows_of_squad():
    found = read_sets([SQUAD])
    assert found.questions[0].references == ("1908", "in 1908")
    assert [(d.title, d.text) for d in found.pool] == [("Fall", "In 1908 it fell.")]


def test_a_json_list_data_sets_and_a_saved_one(tmp_path):
    from datasets import Dataset, DatasetDict

    file = tmp_path / "set.json"
    file.write_text(json.dumps([PAIRS]), encoding="utf-8")
    assert read_sets(str(file)).questions[0].id == "b"
    data = Dataset.from_list([LISTS, {**LISTS, "id": "e"}])
    assert [q.id for q in read_sets(data).questions] == ["c", "e"]
    DatasetDict({"train": data, "validation": data.select([1])}).save_to_disk(tmp_path / "saved")
    named = read_sets(f"dataset:{tmp_path / 'saved'}?split=validation")
    assert [q.id for q in named.questions] == ["e"]
    with pytest.raises(DatasetError, match="has the splits train, validation"):
        read_sets(str(tmp_path / "saved"))
    with pytest.raises(DatasetError, match="cannot be loaded"):
        read_sets(f"dataset:{tmp_path / 'nothing'}")


def test_several_files_keep_their_ids_apart(tmp_path):
    one, two = written(tmp_path, OURS, name="1.jsonl"), written(tmp_path, OURS, name="2.jsonl")
    found = read_sets([one, two])
    assert [question.id for question in found.questions] == ["0-a", "1-a"]
    assert found.name == "1.jsonl, 2.jsonl"


def test_records_are_taken_as_they_are():
    question = HeldOutQuestion(id="x", question="Who?", references=("Ann",))
    (found,) = read_sets([question]).questions
    assert (found.id, found.references, found.domain) == ("x", ("Ann",), "")


def test_the_hash_tells_sets_apart():
    assert read_sets([OURS]).hash == read_sets([dict(OURS)]).hash
    assert read_sets([OURS]).hash != read_sets([{**OURS, "answer": "Here"}]).hash
    assert read_sets([SCIQ]).hash != read_sets([{**SCIQ, "support": "Ice floats."}]).hash


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2: not JSON"),
        ("[1]", "line 2: not a question with an answer"),
        ('{"answer": "x"}', "line 2: .*there is no question"),
        ('{"question": "x"}', "line 2: .*none of the fields"),
        ('{"question": "x", "answer": " "}', "line 2: .*not empty"),
        ('{"question": "x", "answer": []}', "line 2: .*not empty"),
        ('{"question": "x", "answer": 3}', "line 2"),
        ('{"question": "x", "answer": "y", "context": [["a"]]}', "line 2"),
        ('{"question": "x", "answer": "y", "documents": [{"title": "a"}]}', "line 2"),
        (json.dumps(OURS), "line 2: the id 'a' was used in .*line 1"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, message):
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps(OURS) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_sets(file)
    assert str(file) in str(caught.value)


def test_what_is_no_set_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    for source, message in (
        (tmp_path / "none.jsonl", "cannot read the set"),
        (tmp_path / "empty.jsonl", "holds no questions"),
        ([], "no set of questions"),
        (3, "int is no set"),
        (OURS, "dict is no set"),
        ([3], "int is no set"),
    ):
        with pytest.raises(UserError, match=message):
            read_sets(source)
    with pytest.raises(UserError, match="has 1 rows, and row 3"):
        read_sets([OURS], rows="2-3")


@pytest.mark.parametrize("spelling", ["0", "3-2", "a", "1-2-3", "1,,2", "-4", "1 2"])
def test_rows_that_are_none_are_refused(spelling):
    with pytest.raises(UserError, match="names no rows"):
        parse_rows(spelling)


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 99)), min_size=1, max_size=5))
def test_ranges_are_read_as_they_are_written(pairs):
    ranges = [(low, low + length) for low, length in pairs]
    spelling = ", ".join(f"{low}-{high}" for low, high in ranges)
    assert parse_rows(spelling) == ranges
