"""A stage knows whether its output is there, whole, and made from the same inputs."""

import json

import pytest

from reflectory.errors import IntegrityError, StorageError
from reflectory.improvement.folder import (
    StageFolder,
    add_seconds,
    discard,
    read_records,
    write_records,
)
from reflectory.types import PracticeQuestion

QUESTION = PracticeQuestion(
    id="q", instruction="What\u2028is it?", answer="it\x85", kind="fact", level="basic", passages=()
)


def test_an_output_counts_only_beside_the_hash_of_its_inputs(tmp_path):
    folder = StageFolder(tmp_path)
    assert not folder.is_done("train", "a", "adapter")
    folder.begin("train", "a", ["adapter"])
    assert not folder.is_done("train", "a", "adapter")
    (tmp_path / "adapter").mkdir()
    assert folder.is_done("train", "a", "adapter") and not folder.is_done("train", "b", "adapter")


def test_beginning_from_other_inputs_takes_the_old_output_away(tmp_path):
    folder = StageFolder(tmp_path)
    for key in ("a", "b"):
        folder.begin("curate", key, ["rows", "dataset"])
        assert not (tmp_path / "dataset").exists() and not (tmp_path / "rows").exists()
        (tmp_path / "rows").write_text(key)
        (tmp_path / "dataset").mkdir()
        (tmp_path / "dataset" / key).touch()
    folder.begin("curate", "b", ["rows", "dataset"])  # the same again takes nothing
    assert (tmp_path / "dataset" / "b").exists()
    # Back to the first inputs: what was made from them is gone, and is not taken for it.
    assert not folder.is_done("curate", "a", "dataset")


def test_counts_belong_to_their_inputs(tmp_path):
    folder = StageFolder(tmp_path)
    folder.begin("gather", "a", ["c"])
    folder.count("gather", {"sets": 3})
    assert folder.counts("gather") == {"sets": 3} and folder.counts("train") == {}
    folder.begin("gather", "b", ["c"])
    assert folder.counts("gather") == {}


def test_what_a_kill_leaves_is_cleaned_and_checkpoints_of_a_training_stay(tmp_path):
    for name in (".adapter.new-1-2-x", ".adapter.work", ".dataset.discarded"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".practice.jsonl.1-2.tmp").touch()
    (tmp_path / "dataset").mkdir()
    StageFolder(tmp_path).clean()
    assert {p.name for p in tmp_path.iterdir()} == {".adapter.work", "dataset"}


def test_a_damaged_file_of_stages_is_named(tmp_path):
    (tmp_path / "stages.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"stages\.json is damaged"):
        StageFolder(tmp_path).counts("train")


def test_records_survive_separators_in_their_texts(tmp_path):
    file = tmp_path / "practice.jsonl"
    write_records(file, [QUESTION, QUESTION])
    assert read_records(file, PracticeQuestion) == [QUESTION, QUESTION]
    write_records(file, [])
    assert read_records(file, PracticeQuestion) == []


@pytest.mark.parametrize("broken", ['{"id": 3}', "{", '{"id": "a", "surprise": 1}'])
def test_a_broken_record_is_named_with_its_line(tmp_path, broken):
    file = tmp_path / "practice.jsonl"
    file.write_text(QUESTION.model_dump_json() + "\n\n" + broken + "\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match="line 3"):
        read_records(file, PracticeQuestion)
    with pytest.raises(StorageError, match="missing"):
        read_records(tmp_path / "missing.jsonl", PracticeQuestion)


def test_discarding_what_is_not_there_is_fine(tmp_path):
    discard(tmp_path / "nothing")
    (tmp_path / ".a.discarded").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").touch()
    discard(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_seconds_add_up_and_never_stop_a_round(tmp_path):
    file = tmp_path / "timing.json"
    add_seconds(file, "train", 1.5)
    add_seconds(file, "train", 2.0)
    assert json.loads(file.read_text()) == {"train": 3.5}
    add_seconds(tmp_path / "no" / "folder" / "timing.json", "train", 1.0)
