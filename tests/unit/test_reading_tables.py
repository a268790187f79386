"""CSV, TSV, Parquet, and data sets as objects, folders and by name."""

# ruff: noqa: RUF001  (a text in Cyrillic)
import csv
import io
import json
import logging

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, DatasetInfo, IterableDataset
from files import read_one, write
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from reflectory.config import RetrievalConfig
from reflectory.errors import DocumentError
from reflectory.retrieval import read_documents, resolve_retriever, split_passages
from reflectory.retrieval.reading import records
from reflectory.retrieval.reading.datasets import parse_dataset_name
from reflectory.retrieval.reading.tables import read_csv
from reflectory.testing.embedder import HashingEmbedder


def parquet_file(table, **options):
    buffer = io.BytesIO()
    parquet.write_table(pa.table(table) if isinstance(table, dict) else table, buffer, **options)
    return buffer.getvalue()


# --- CSV and TSV -----------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_rows_with_a_text_are_documents(tmp_path, delimiter, encoding):
    rows = [
        ["ID", "Title", " Text ", "License", "year"],
        ["a", "Café", 'He said "two, or;three".\nAnd left.', "MIT", "1999"],
        ["", "T", "Plain", "", ""],
        ["c", "T", "", "", ""],
    ]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    result = read_documents(write(tmp_path, "a.csv", buffer.getvalue().encode(encoding)))
    first, second = result.documents
    assert (first.id, first.title, first.text) == ("a", "Café", rows[1][2])
    assert first.metadata == {"licence": "MIT", "year": "1999"}
    assert (second.id, second.source, second.metadata) == ("a.csv:4", "a.csv:4", {})
    assert [(s.path, s.reason) for s in result.skipped] == [("a.csv:5", "its text is empty")]


def test_a_table_without_a_text_becomes_a_readable_text(tmp_path):
    table = "Name;Height;;Name\n\nMont Blanc;4805,6;x;y\nNo height;;;\nTwo! ;1;2;3;4\n"
    document = read_one(write(tmp_path, "peaks.csv", table))
    assert document.text == (
        "Name: Mont Blanc; Height: 4805,6; column 3: x; Name (4): y.\n\n"
        "Name: No height.\n\n"
        "Name: Two!; Height: 1; column 3: 2; Name (4): 3; column 5: 4."
    )
    assert document.title == "peaks"
    passages = split_passages(document, max_tokens=13, count_tokens=lambda t: len(t.split()))
    assert all(passage.text.startswith("Name: ") for passage in passages)


def test_a_long_table_and_a_long_cell(tmp_path):
    rows = "".join(f"{n},{n * n}\n" for n in range(20_000))
    text = read_one(write(tmp_path, "squares.csv", "n,square\n" + rows)).text
    assert text.endswith("n: 19999; square: 399960001.") and text.count("\n\n") == 19_999
    cell = "word " * 100_000
    (document,) = read_csv(f'text,x\n"{cell}",1\n'.encode(), "a.csv")
    assert document.text == cell


def test_names_of_columns_are_told_apart(tmp_path):
    header = ",".join(["a", "a", "a (2)", ""] + ["b"] * 20_000)
    text = read_one(write(tmp_path, "wide.csv", f"{header}\n1,2,3,4,5,6\n")).text
    assert text == "a: 1; a (2): 2; a (2) (3): 3; column 4: 4; b: 5; b (6): 6."


def test_tabs_part_tables_that_do_not_quote(tmp_path):
    table = 'title\ttext\nA\t"No," she said\nB\t"and" again, and; again\n'
    first, second = read_documents(write(tmp_path, "a.tsv", table)).documents
    assert (first.text, second.text) == ('"No," she said', '"and" again, and; again')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows below the names"),
        (b"text,title\n", "no rows below the names"),
        (b'text,title\na,b\n"open,c\nd,e\n', "a.csv:3: the row cannot be read"),
        (b'text,title\na,b\n"a"b,c\n', "a.csv:3: the row cannot be read"),
        (b"text,id\na,1\nb,1\n", "a.csv:3: the id '1' was used in line 2"),
        ("text\nПривет, мир\n".encode("koi8-r"), "not valid UTF-8"),
        (b"text\n\0\n", "binary data"),
        (b"text,title\n,\n ,x\n", "there is no text in it"),
        (b"a,a,a (2)\n", "no rows below the names"),
    ],
)
def test_a_broken_table_is_named(tmp_path, content, message):
    with pytest.raises(DocumentError, match=message) as caught:
        read_documents(write(tmp_path, "a.csv", content))
    assert "a.csv" in str(caught.value) and caught.value.hint


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_was_written_is_read_whatever_the_dialect(rows, delimiter, quoting):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting)
    writer.writerows([("text", "note"), *((f"x{text}", note) for text, note in rows)])
    found = read_csv(buffer.getvalue().encode("utf-8-sig"), "a.csv")
    assert [(d.text, d.metadata.get("note", "")) for d in found] == [(f"x{t}", n) for t, n in rows]


# --- Parquet ---------------------------------------------------------------------------


def test_parquet_rows_are_documents(tmp_path):
    table = pa.table(
        {
            "text": ["one", None, "three"],
            "id": [7, 8, None],
            "license": [None, "x", "MIT"],
            "day": pa.array([0, 1, 2], pa.date32()),
            "tags": [["a"], [], None],
        }
    ).replace_schema_metadata({"license": "CC0-1.0"})
    result = read_documents(write(tmp_path, "rows.parquet", parquet_file(table)))
    first, third = result.documents
    assert (first.id, first.text) == ("7", "one")
    assert first.metadata == {"licence": "CC0-1.0", "day": "1970-01-01"}
    assert (third.id, third.metadata["licence"]) == ("rows.parquet:3", "MIT")
    assert [skip.path for skip in result.skipped] == ["rows.parquet:2"]


def test_parquet_without_a_text_becomes_a_readable_text(tmp_path):
    table = {"name": ["Mont Blanc"], "ways": [["Goûter", "Tacul"]], "at": [{"lat": 45.8}]}
    document = read_one(write(tmp_path, "peaks.parquet", parquet_file(table)))
    assert document.text == "name: Mont Blanc; ways: Goûter, Tacul; at: lat 45.8."


@pytest.mark.parametrize("column", ["text", "body"])
def test_a_parquet_bomb_is_refused_while_it_is_read(tmp_path, monkeypatch, column):
    monkeypatch.setattr(records, "MAX_UNPACKED", 2**22)
    bomb = parquet_file({column: ["x" * 2**16] * 10_000}, compression="zstd")
    assert len(bomb) < 2**16  # and 655 MB of text
    with pytest.raises(DocumentError, match=r"unpacks to more than 4 MiB"):
        read_documents(write(tmp_path, "bomb.parquet", bomb))


def test_a_parquet_text_that_is_no_string_is_named(tmp_path):
    path = write(tmp_path, "a.parquet", parquet_file({"text": [1]}))
    with pytest.raises(DocumentError, match=r"a\.parquet:1: `text` is not a string"):
        read_documents(path)


# --- data sets -------------------------------------------------------------------------


def retriever_for(documents):
    return resolve_retriever(documents, HashingEmbedder(64), RetrievalConfig())


def example(**columns):
    columns = columns or {"text": ["Ice floats.", " ", "Lava flows."], "title": ["I", "N", "L"]}
    return Dataset.from_dict(columns, info=DatasetInfo(license="cc-by-4.0"))


def documents_of(retriever):
    return [(d.id, d.title, d.text, d.metadata.get("licence")) for d in retriever.documents]


def test_a_data_set_object_is_documents(caplog):
    with caplog.at_level(logging.WARNING):
        retriever = retriever_for(example())
    assert documents_of(retriever) == [
        ("dataset:1", "I", "Ice floats.", "cc-by-4.0"),
        ("dataset:3", "L", "Lava flows.", "cc-by-4.0"),
    ]
    assert "dataset:2: its text is empty" in caplog.text
    assert [skip.path for skip in retriever.skipped] == ["dataset:2"]


def test_several_data_sets_and_all_splits_have_ids_of_their_own():
    splits = DatasetDict(train=example(text=["a"]), test=example(text=["b"]))
    ids = [row[0] for row in documents_of(retriever_for([splits, example(text=["c"])]))]
    assert ids == ["dataset-0/train:1", "dataset-0/test:1", "dataset-1:1"]


def test_streams_and_formats_of_users_are_read():
    stream = IterableDataset.from_generator(lambda: iter([{"text": "a"}, {"text": "b"}]))
    assert len(retriever_for(stream).documents) == 2
    formatted = example().with_format("numpy")
    assert len(retriever_for(formatted).documents) == 2


def test_columns_that_are_no_plain_values_are_left_alone():
    features = datasets.Features(
        {"text": datasets.Value("string"), "picture": datasets.Image(), "n": datasets.Value("int8")}
    )
    picture = {"bytes": b"not decoded", "path": None}
    dataset = Dataset.from_dict({"text": ["a"], "picture": [picture], "n": [3]}, features=features)
    (document,) = retriever_for(dataset).documents
    assert document.metadata == {"n": "3"}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (example(body=["x"]), r"no column `text` \(columns: body\)"),
        (example(text=["", " "]), "no row of the data set has text"),
        (example(text=[1]), "dataset:1: `text` is not a string"),
        (example(text=["a", "b"], id=["x", "x"]), "dataset:2: the id 'x' was used in line 1"),
    ],
)
def test_a_data_set_that_cannot_be_used_says_why(dataset, message):
    with pytest.raises(DocumentError, match=message) as caught:
        retriever_for(dataset)
    assert caught.value.hint


def test_a_saved_folder_is_a_data_set_alone_and_among_files(tmp_path):
    example().save_to_disk(str(tmp_path / "notes/ice"))
    write(tmp_path, "notes/a.txt", "text")
    alone = read_documents(tmp_path / "notes/ice")
    assert [d.id for d in alone.documents] == ["ice:1", "ice:3"]
    among = read_documents(tmp_path / "notes")
    assert [d.id for d in among.documents] == ["a.txt", "ice:1", "ice:3"]
    arrow = next((tmp_path / "notes/ice").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:50])
    with pytest.raises(DocumentError, match="ice: the data set is damaged"):
        read_documents(tmp_path / "notes/ice")
    (skip,) = read_documents(tmp_path / "notes").skipped
    assert skip.path == "ice" and "damaged" in skip.reason


def test_a_folder_by_name_takes_splits_and_columns(tmp_path):
    folder = tmp_path / "qa"
    DatasetDict(
        train=example(context=["one"], name=["T"], key=["k1"]),
        test=example(context=["two"], name=["U"], key=["k2"]),
    ).save_to_disk(str(folder))
    spelling = f"dataset:{folder}?text=context&title=name&id=key"
    assert [(d.id, d.title) for d in read_documents(spelling).documents] == [
        ("k1", "T"),
        ("k2", "U"),
    ]
    (document,) = retriever_for([f"{spelling}&split=test"]).documents
    assert (document.text, document.source) == ("two", "qa/test:1")
    with pytest.raises(DocumentError, match="no split 'dev'") as caught:
        read_documents(f"{spelling}&split=dev")
    assert "train, test" in caught.value.hint


def test_what_the_library_can_load_is_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"context": f"text {n}", "id": f"r{n}"} for n in range(3)]
    write(tmp_path, "data/train.jsonl", "\n".join(map(json.dumps, rows)))
    spelling = f"dataset:{tmp_path / 'data'}?split=train[1:]&text=context"
    assert [d.id for d in read_documents(spelling).documents] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("dataset:", "it names nothing"),
        ("dataset:?split=train", "it names nothing"),
        ("dataset:a/b?spilt=train", "the option 'spilt' is unknown or empty"),
        ("dataset:a/b?text=", "the option 'text' is unknown or empty"),
        ("dataset:a/b?train", "the option 'train' is unknown or empty"),
        ("dataset:nobody/nothing", "dataset:nobody/nothing: the data set cannot be loaded"),
    ],
)
def test_a_wrong_name_says_what_to_write(spelling, message):
    with pytest.raises(DocumentError, match=message) as caught:
        read_documents(spelling)
    assert caught.value.hint


def test_the_parts_of_a_name():
    name = parse_dataset_name("dataset:o/n?config=en&split=train%5B:9%5D&revision=v1&text=a&id=b")
    assert name[:4] == ("o/n", "en", "train[:9]", "v1")
    assert tuple(name.columns) == ("a", "title", "b")
