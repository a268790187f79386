import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.config import CurationConfig
from reflectory.errors import DatasetError, IntegrityError, StorageError, UserError
from reflectory.training import (
    CurationCounts,
    Message,
    PreferenceRow,
    Provenance,
    Tally,
    TrainingRow,
    read_dataset,
    write_dataset,
)
from reflectory.training.dataset import ROWS_FILE, rows_sha256
from reflectory.training.dataset_columns import encode_row
from reflectory.training.rows import assistant


def row(text="It is old.", question="How old?", **changes):
    return TrainingRow(
        prompt=(Message(role="user", content=question),),
        completion=assistant(text),
        provenance=Provenance(
            trajectory="t", what="response", iteration=1, grader="rule", score=0.8, **changes
        ),
    )


def pair():
    given_row = row()
    return PreferenceRow(
        prompt=given_row.prompt,
        chosen=given_row.completion,
        rejected=assistant("No idea."),
        margin=0.4,
        provenance=given_row.provenance,
    )


visible = st.text(min_size=1).filter(lambda t: t.strip())


@given(st.lists(st.tuples(visible, visible), min_size=1, max_size=4))
def test_rows_survive_writing_and_reading(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("data") / "set"
    rows = tuple(row(text, question) for text, question in pairs)
    manifest = write_dataset(folder, rows)
    again = read_dataset(folder)
    assert again.training_rows() == rows
    assert again.sha256 == manifest.sha256 == rows_sha256(rows)
    assert read_dataset(folder / ROWS_FILE).rows == rows


def test_the_columns_are_those_of_trl(tmp_path):
    datasets = pytest.importorskip("datasets")
    for name, rows, columns in (
        ("sft", [row(), row("Two.", models={"student": "tiny"})], {"prompt", "completion"}),
        ("dpo", [pair()], {"prompt", "chosen", "rejected", "margin"}),
    ):
        write_dataset(tmp_path / name, rows, format=name)
        loaded = datasets.load_dataset(
            "json",
            data_files=str(tmp_path / name / ROWS_FILE),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        )
        assert set(loaded.column_names) == columns | {"provenance"}
        assert len(loaded) == len(rows)
        assert loaded[0]["prompt"] == [{"role": "user", "content": "How old?"}]
        assert json.loads(loaded[0]["provenance"])["score"] == 0.8


def test_the_card_says_what_was_refused_and_by_which_rule(tmp_path):
    counts = CurationCounts(responses=Tally(seen=3, accepted=1, refused={"echo": 2}))
    write_dataset(
        tmp_path / "set", [row()], rule=CurationConfig(minimum_grade=0.7), counts=counts, seeds=[7]
    )
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| responses | 3 | 1 | echo 2 |" in card
    assert "G is at least 0.7" in card
    assert "Licence of the source documents: unknown" in card
    manifest = read_dataset(tmp_path / "set").manifest
    assert manifest.counts == counts
    assert manifest.seeds == (7,)


def test_equal_rows_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_dataset(tmp_path / name, [row(), row("Two.")])
    for file in (ROWS_FILE, "dataset.json", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{oops", "line 2"),
        (b"{}", "prompt"),
        (
            json.dumps({**json.loads(encode_row(row())), "surprise": 1}).encode(),
            "no such field",
        ),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, complaint):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(encode_row(row()) + line + b"\n")
    with pytest.raises(DatasetError, match="line 2") as caught:
        read_dataset(file)
    assert complaint in str(caught.value)


def test_empty_missing_and_mixed_sets_are_errors(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for path in (tmp_path / "empty.jsonl", tmp_path / "nowhere", tmp_path):
        with pytest.raises(DatasetError):
            read_dataset(path)
    with pytest.raises(DatasetError):
        write_dataset(tmp_path / "set", [])
    with pytest.raises(DatasetError):
        write_dataset(tmp_path / "set", [row(), pair()])
    assert not (tmp_path / "set").exists()


def test_pairs_are_not_for_supervised_training(tmp_path):
    write_dataset(tmp_path / "set", [pair()], format="dpo")
    assert read_dataset(tmp_path / "set" / ROWS_FILE).format == "dpo"
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "set").training_rows()


def test_edited_rows_are_noticed(tmp_path):
    write_dataset(tmp_path / "set", [row()])
    file = tmp_path / "set" / ROWS_FILE
    file.write_bytes(file.read_bytes().replace(b"old", b"new"))
    with pytest.raises(IntegrityError):
        read_dataset(tmp_path / "set")
    assert read_dataset(file).rows[0].completion == assistant("It is new.")


def test_a_newer_schema_is_refused(tmp_path):
    write_dataset(tmp_path / "set", [row()])
    file = tmp_path / "set" / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}))
    with pytest.raises(DatasetError, match="99"):
        read_dataset(tmp_path / "set")


def test_a_set_is_replaced_and_a_strangers_folder_is_not(tmp_path):
    write_dataset(tmp_path / "set", [row("First.")])
    write_dataset(tmp_path / "set", [row("Second.")])
    assert read_dataset(tmp_path / "set").rows[0].completion == assistant("Second.")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError):
        write_dataset(tmp_path / "mine", [row()])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "set"]


def test_a_full_disk_leaves_the_old_set(tmp_path):
    resource = pytest.importorskip("resource")
    write_dataset(tmp_path / "set", [row("First.")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError):
            write_dataset(tmp_path / "set", [row("Long. " * 2000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_dataset(tmp_path / "set").rows[0].completion == assistant("First.")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
