"""Rows that people wrote: every kind of file, and errors that name the line."""

import json

import pytest
from test_rows import PROMPTER, PROMPTS

from reflectory.agents.student import answer_segments
from reflectory.errors import DatasetError
from reflectory.models.engine.rendering import messages_of
from reflectory.training.dataset_manual import read_manual

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Ada."},
]


def said(rows):
    return [(r.prompt[-1].content, r.completion[0].content) for r in rows.rows]


def test_json_lines_with_every_set_of_columns(tmp_path):
    lines = [
        {"prompt": "Who?", "completion": "Ada.", "id": 7},
        {"prompt": CHAT[:2], "completion": CHAT[2:]},
        {"messages": CHAT},
        {"prompt": "Who?", "system": "Be brief.", "completion": "Ada."},
        {"question": "Who?", "answer": "Ada."},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    rows = read_manual(file)
    assert said(rows) == [("Who?", "Ada.")] * 5
    systems = [r.prompt[0].content if len(r.prompt) == 2 else "" for r in rows.rows]
    assert systems == ["", "Be brief.", "Be brief.", "Be brief.", ""]
    origin = rows.rows[1].provenance
    assert (origin.source, origin.score, origin.trajectory) == ("manual", None, "")
    assert (origin.place, origin.question) == ("mine.jsonl, line 3", "Who?")


def test_a_question_goes_through_the_prompt_of_the_student(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"question": "Who?", "answer": "Ada."}))
    (row,) = read_manual(file, prompter=PROMPTER, source="distilled").rows
    assert [m.model_dump() for m in row.prompt] == messages_of(answer_segments(PROMPTS, "Who?", ()))
    assert (row.provenance.source, row.provenance.question) == ("distilled", "Who?")


def test_tables(tmp_path):
    (tmp_path / "a.csv").write_text(
        '\ufeffquestion,answer\n"Who, then?","Ada\nLovelace"\nWhen?,1843\n', encoding="utf-8"
    )
    rows = read_manual(tmp_path / "a.csv")
    assert said(rows) == [("Who, then?", "Ada\nLovelace"), ("When?", "1843")]
    assert [r.provenance.place for r in rows.rows] == ["a.csv, line 2", "a.csv, line 4"]
    (tmp_path / "b.tsv").write_text(f"messages\tx\n{json.dumps(CHAT)}\t1\n")
    assert said(read_manual(tmp_path / "b.tsv")) == [("Who?", "Ada.")]
    (tmp_path / "c.csv").write_text("prompt,completion,label\nWho?,Ada.,yes\nWho?,Bob.,False\n")
    judged = read_manual(tmp_path / "c.csv", format="kto")
    assert [r.label for r in judged.rows] == [True, False]


def test_parquet_and_a_folder_of_datasets(tmp_path):
    import datasets

    data = datasets.Dataset.from_dict({"messages": [CHAT, CHAT], "note": [None, "x"]})
    data.to_parquet(str(tmp_path / "a.parquet"))
    data.save_to_disk(str(tmp_path / "saved"))
    rows = read_manual(tmp_path / "a.parquet")
    assert said(rows) == [("Who?", "Ada.")] * 2
    assert rows.rows[1].provenance.place == "a.parquet, row 2"
    assert said(read_manual(tmp_path / "saved")) == [("Who?", "Ada.")] * 2


def test_pairs_of_a_person_have_the_largest_margin(tmp_path):
    file = tmp_path / "pairs.jsonl"
    pair = {"prompt": "Who?", "chosen": "Ada.", "rejected": "Bob."}
    file.write_text(json.dumps(pair) + "\n" + json.dumps({**pair, "margin": 0.25}))
    rows = read_manual(file, format="dpo").preference_rows()
    assert [(r.chosen[0].content, r.margin) for r in rows] == [("Ada.", 1.0), ("Ada.", 0.25)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"prompt": "a"}', "line 2.*no completion; there are prompt"),
        ("a.jsonl", b'{"completion": "a"}', "line 2.*no prompt"),
        ("a.jsonl", b"{}", "line 2.*no columns"),
        ("a.jsonl", b"{oops", "line 2.*JSON"),
        ("a.jsonl", b"[1]", "line 2.*object"),
        ("a.jsonl", b'{"prompt": "\xff", "completion": "b"}', "line 2"),
        ("a.jsonl", b'{"prompt": " ", "completion": "b"}', "line 2.*blank"),
        ("a.jsonl", b'{"prompt": "a", "completion": "\\n"}', "line 2.*completion"),
        ("a.jsonl", b'{"prompt": "a", "completion": 3}', "line 2.*completion"),
        ("a.jsonl", b'{"prompt": "a", "completion": NaN}', "line 2.*completion"),
        ("a.jsonl", b'{"prompt": "a", "completion": "\\ud800"}', "line 2.*surrogate"),
        ("a.jsonl", b'{"question": ["a"], "answer": "b"}', "line 2.*question"),
        ("a.jsonl", b'{"messages": []}', "line 2.*messages"),
        ("a.jsonl", b'{"messages": "hello"}', "line 2.*messages"),
        (
            "a.jsonl",
            b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
            "line 2.*assistant",
        ),
        ("a.jsonl", b'{"messages": [1, 2]}', "line 2"),
        ("a.csv", b"a,b,c,d", "line 3.*more cells"),
        ("a.csv", b'"a,b\nc', "line 3"),
        ("a.csv", b"\xff\xfe,b", "cannot be read"),
        ("a.csv", b"a,", "line 3.*completion"),
    ],
)
def test_a_broken_line_is_named(tmp_path, name, content, says):
    first = {
        "a.jsonl": b'{"prompt": "Who?", "completion": "Ada."}',
        "a.csv": b"prompt,completion\nWho?,Ada.",
    }[name]
    (tmp_path / name).write_bytes(first + b"\n" + content + b"\n")
    with pytest.raises(DatasetError, match=f"(?s){says}"):
        read_manual(tmp_path / name)


@pytest.mark.parametrize("value", ["perhaps", None, 2])
def test_a_label_is_true_or_false(tmp_path, value):
    line = {"prompt": "Who?", "completion": "Ada.", "label": value}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    with pytest.raises(DatasetError, match="true or false"):
        read_manual(tmp_path / "a.jsonl", format="kto")


def test_what_is_no_file_or_no_format_is_said(tmp_path):
    for name in ("missing.jsonl", "missing.csv", "missing.parquet"):
        with pytest.raises(DatasetError, match="missing"):
            read_manual(tmp_path / name)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DatasetError, match="no rows"):
        read_manual(tmp_path / "empty.csv")
    with pytest.raises(DatasetError, match="feedback"):
        read_manual(tmp_path / "a.jsonl", format="feedback")


def test_a_cell_may_be_long(tmp_path):
    (tmp_path / "a.csv").write_text(f"prompt,completion\n{'word ' * 50_000},Ada.\n")
    assert len(read_manual(tmp_path / "a.csv").rows[0].prompt[0].content) == 250_000
