"""Records of a file: read like a list, one by one, and never wrongly."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import IntegrityError
from reflectory.retrieval.index.lines import RecordLines, line_of, write_lines
from reflectory.types import Document

RECORDS = [
    Document(id="a", title="Mond 🌕", text="one\ntwo\u2028three\r\n\x85four"),
    Document(id="b", text="", pages=(0, 3), metadata={"licence": "CC-BY"}),
    Document(id="c", text="x" * 100_000),
]


@pytest.fixture
def path(tmp_path):
    write_lines(tmp_path / "records.jsonl", RECORDS)
    return tmp_path / "records.jsonl"


def offsets_of(path):
    return path.with_name("records.offsets.npy")


def test_records_come_back_in_order_and_by_place(path):
    lines = RecordLines(path, Document)
    assert list(lines) == RECORDS and len(lines) == 3
    assert [lines[n] for n in (0, 1, 2, -1, -2, -3)] == [RECORDS[n] for n in (0, 1, 2, 2, 1, 0)]
    assert lines[np.int64(2)] == RECORDS[2]
    for place in (3, -4):
        with pytest.raises(IndexError):
            lines[place]
    assert RECORDS[1] in lines and lines.index(RECORDS[2]) == 2
    assert list(reversed(lines)) == RECORDS[::-1]


places = st.one_of(st.none(), st.integers(-5, 5))


@given(places, places, places.filter(lambda step: step != 0))
def test_slices_are_those_of_a_list(tmp_path_factory, start, stop, step):
    path = tmp_path_factory.mktemp("lines") / "records.jsonl"
    write_lines(path, RECORDS)
    wanted = slice(start, stop, step)
    assert RecordLines(path, Document)[wanted] == RECORDS[wanted]


def test_no_records_are_an_empty_file(tmp_path):
    write_lines(tmp_path / "none.jsonl", [])
    lines = RecordLines(tmp_path / "none.jsonl", Document)
    assert len(lines) == 0 and list(lines) == [] and lines[:] == []
    with pytest.raises(IndexError):
        lines[0]


def test_equal_records_are_equal_lines():
    one = Document(id="a", text="t", metadata={"x": "1", "y": "2"})
    two = Document(id="a", text="t", metadata={"y": "2", "x": "1"})
    assert line_of(one) == line_of(two)
    assert line_of(RECORDS[0]).count(b"\n") == 1 and line_of(RECORDS[0]).endswith(b"\n")


def test_many_threads_read_the_same(path):
    lines = RecordLines(path, Document)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lines.__getitem__, [0, 1, 2] * 100))
    assert found == RECORDS * 100


@pytest.mark.parametrize(
    "offsets",
    [
        np.zeros(0, dtype=np.int64),
        np.array([0]),
        np.array([[0, 1]]),
        np.array([0, 5, 5]),
        np.array([1, 20, 40]),
        np.array([0.0, 20.0, 40.0]),
    ],
    ids=["none", "empty", "two dimensions", "standing", "not from 0", "no whole numbers"],
)
def test_offsets_that_do_not_fit_are_noticed(path, offsets):
    np.save(offsets_of(path), offsets)
    with pytest.raises(IntegrityError, match=r"records\.jsonl is damaged") as caught:
        RecordLines(path, Document)
    assert "again" in caught.value.hint


def test_a_file_of_another_length_is_noticed(path):
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"{}\n", b""):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"records\.jsonl is damaged"):
            RecordLines(path, Document)


@pytest.mark.parametrize("content", [b"", b"x", b"\x93NUMPY\x01\x00", b"not an array at all"])
def test_damaged_offsets_are_named(path, content):
    offsets_of(path).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"records\.offsets\.npy is damaged"):
        RecordLines(path, Document)


@pytest.mark.parametrize("name", ["records.jsonl", "records.offsets.npy"])
def test_a_missing_file_is_an_error_of_the_system(path, name):
    path.with_name(name).unlink()
    with pytest.raises(OSError, match=name.replace(".", r"\.")):
        RecordLines(path, Document)


def test_a_damaged_line_is_named_and_the_others_are_read(path):
    data = bytearray(path.read_bytes())
    offsets = np.load(offsets_of(path))
    data[offsets[1]] = ord("[")
    path.write_bytes(data)
    lines = RecordLines(path, Document)
    assert lines[0] == RECORDS[0] and lines[2] == RECORDS[2]
    with pytest.raises(IntegrityError, match=r"records\.jsonl, line 2 is damaged"):
        lines[1]


def test_a_line_of_another_kind_is_damaged(path):
    data = path.read_bytes().replace(b'"text"', b'"test"')
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="line 1 is damaged"):
        RecordLines(path, Document)[0]
