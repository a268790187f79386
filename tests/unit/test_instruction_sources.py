"""Instructions from packed files, Parquet and data sets, and how little of them stays in memory."""

import gzip
import json
import subprocess
import sys
from datetime import date

import pytest

from reflectory.errors import UserError
from reflectory.runs import Instruction, instructions, read_instructions

ROWS = [
    {"question": "Why is it red?", "answer": "Rust.", "id": "a", "topic": "Mars"},
    {"question": "How far is it?", "answer": "Far.", "id": "b", "topic": "Moon"},
    {"question": "Who went there?", "answer": "Twelve.", "id": "c", "topic": "Moon"},
]
EXPECTED = [
    Instruction(row["id"], row["question"], {"topic": row["topic"]}, row["answer"]) for row in ROWS
]


def table_of(rows):
    import pyarrow

    return pyarrow.Table.from_pylist(rows)


def write_parquet(path, rows, **options):
    from pyarrow import parquet

    parquet.write_table(table_of(rows), path, **options)
    return path


def saved(folder, rows):
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.txt.gz"])
def test_packed_lines_are_read_as_they_are_unpacked(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    found = read_instructions(path)
    assert found.total == 3 and list(found) == EXPECTED
    plain = tmp_path / "plain.txt.gz"
    plain.write_bytes(gzip.compress(b"# a comment\nFirst?\nSecond?\n"))
    assert [item.text for item in read_instructions(plain)] == ["First?", "Second?"]


def test_a_packed_file_that_is_cut_off_or_none_is_named(tmp_path):
    path = tmp_path / "in.jsonl.gz"
    whole = gzip.compress("\n".join(map(json.dumps, ROWS)).encode())
    path.write_bytes(whole[:-9])
    with pytest.raises(UserError, match=r"in\.jsonl\.gz is damaged"):
        read_instructions(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(UserError, match=r"cannot read .*in\.jsonl\.gz"):
        read_instructions(path)


def test_parquet_is_read_over_its_row_groups(tmp_path):
    path = write_parquet(tmp_path / "in.parquet", ROWS, row_group_size=2)
    found = read_instructions(path)
    assert found.total == 3 and list(found) == EXPECTED


def test_what_json_cannot_hold_of_a_row_becomes_text_or_is_left_out(tmp_path):
    row = {
        "instruction": "When?",
        "picture": b"\x89PNG",
        "sound": {"bytes": b"RIFF", "path": "a"},
        "day": date(1969, 7, 20),
        "list": [{"day": date(1969, 7, 21)}],
    }
    path = write_parquet(tmp_path / "in.parquet", [row])
    (item,) = read_instructions(path)
    assert item.metadata == {"day": "1969-07-20", "list": [{"day": "1969-07-21"}]}
    assert json.dumps(item.metadata)


def test_a_parquet_file_that_is_none_or_has_no_instructions_is_named(tmp_path):
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match=r"cannot read .*in\.parquet"):
        read_instructions(path)
    with pytest.raises(UserError, match=r"cannot read .*missing\.parquet"):
        read_instructions(tmp_path / "missing.parquet")
    write_parquet(path, [{"text": "What?"}])
    with pytest.raises(UserError, match="row 1: there is no field 'instruction'"):
        read_instructions(path)
    write_parquet(path, [{"question": "What?"}, {"question": None}])
    with pytest.raises(UserError, match="row 2: the instruction is null"):
        read_instructions(path)


def test_a_saved_data_set_is_read_by_folder_and_by_name(tmp_path):
    folder = saved(tmp_path / "set", ROWS)
    assert list(read_instructions(folder)) == EXPECTED
    found = read_instructions(f"dataset:{folder}")
    assert found.total == 3 and list(found) == EXPECTED


def test_columns_with_other_names_are_named(tmp_path):
    rows = [{"prompt": "What?", "key": 7, "gold": "That.", "answer": "not for the loop"}]
    folder = saved(tmp_path / "set", rows)
    (item,) = read_instructions(f"dataset:{folder}?field=prompt&id=key&reference=gold")
    assert (item.text, item.id, item.reference) == ("What?", "7", "That.")
    assert item.metadata == {}  # an answer in another column travels with no loop


def test_a_split_and_a_part_of_it_are_chosen(tmp_path):
    from datasets import Dataset, DatasetDict

    parts = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}
    DatasetDict(parts).save_to_disk(str(tmp_path / "set"))
    name = f"dataset:{tmp_path / 'set'}"
    assert list(read_instructions(f"{name}?split=test")) == EXPECTED[:1]
    assert list(read_instructions(f"{name}?split=train[1:3]")) == EXPECTED[1:]
    assert list(read_instructions(f"{name}?split=train[:2]")) == EXPECTED[:2]
    with pytest.raises(UserError, match="has the splits train, test"):
        read_instructions(name)
    with pytest.raises(UserError, match="has the splits train, test"):
        read_instructions(f"{name}?split=validation")


@pytest.mark.parametrize("name", ["dataset:", "dataset:x?moon=1", "dataset:x?split=", "dataset:x?"])
def test_a_misspelt_data_set_is_named(name):
    with pytest.raises(UserError, match=r"dataset:"):
        next(read_instructions(name))


def test_a_folder_of_parquet_files_is_streamed_as_a_data_set(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    write_parquet(folder / "train-0.parquet", ROWS[:2])
    write_parquet(folder / "train-1.parquet", ROWS[2:])
    found = read_instructions(f"dataset:{folder}?split=train")
    assert found.total is None and list(found) == EXPECTED


def test_the_total_of_an_iterator_is_unknown():
    assert read_instructions(iter(["What?"])).total is None
    assert read_instructions(["What?", "Why?"]).total == 2


def test_ids_that_share_a_number_are_no_repetition(tmp_path, monkeypatch):
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    monkeypatch.setattr(instructions, "hash", lambda text: 1, raising=False)
    assert list(read_instructions(path)) == EXPECTED
    path.write_text("\n".join(map(json.dumps, [*ROWS, ROWS[1]])))
    with pytest.raises(UserError, match=r"line 4: the id 'b' was used before, by .*line 2"):
        read_instructions(path)


def test_a_given_id_may_not_be_one_that_was_derived(tmp_path):
    first = next(read_instructions(["What?"])).id
    path = tmp_path / "in.jsonl"
    rows = [{"instruction": "What?"}, {"instruction": "Why?", "id": first}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"line 2: .* was used before, by .*line 1"):
        read_instructions(path)


MEMORY = """
import itertools, sys, tracemalloc
from reflectory.runs import read_instructions
tracemalloc.start()
count = sum(1 for _ in read_instructions(sys.argv[1]))
print(count, tracemalloc.get_traced_memory()[1])
"""


def test_a_long_file_takes_a_number_per_instruction(tmp_path):
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        for number in range(20_000):
            text = f"What is known about thing number {number} of the many that there are?"
            file.write(json.dumps({"instruction": text, "id": f"thing-{number}"}) + "\n")
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    count, peak = map(int, result.stdout.split())
    assert count == 20_000
    # A set of numbers, while it grows into a larger one; ids and places would be twice that.
    assert peak / count < 200, peak
