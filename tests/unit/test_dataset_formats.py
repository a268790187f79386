"""All formats of rows in all styles and file formats: what is written is what is read."""

import itertools
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.errors import DatasetError, IntegrityError, StorageError
from reflectory.training import Message, Provenance, read_dataset, write_dataset
from reflectory.training.dataset import iterate_rows, rows_sha256
from reflectory.training.dataset_columns import COLUMNS, STYLES, encode_row, plain
from reflectory.training.dataset_files import FILE_FORMATS, ROWS_FILES
from reflectory.training.rows import (
    FORMATS,
    SOURCES,
    FeedbackRow,
    LabelledRow,
    PreferenceRow,
    PromptRow,
    TrainingRow,
    assistant,
)
from reflectory.types import Evidence, Passage, Statement

PROMPT = (
    Message(role="system", content="You work with documents."),
    Message(role="user", content="[1] the stone lies there\n\nQuestion: what is there?"),
)
ORIGIN = Provenance(
    trajectory="t", grader="rule", score=0.8, models={"student": "tiny"}, passages=("p",)
)
PASSAGE = Passage(id="p", document_id="d", text="the stone lies there", start=0, end=20)


def rows_of(format, text="the stone", prompt=PROMPT, origin=ORIGIN):
    """Return two rows of a format, with different optional fields."""
    bare = Provenance(source="manual", place="mine.csv, line 2")
    base = {"prompt": prompt}
    made = {
        "sft": lambda: {"completion": assistant(text)},
        "dpo": lambda: {
            "chosen": assistant(text),
            "rejected": assistant(f"not {text}"),
            "margin": 0.5,
        },
        "kto": lambda: {"completion": assistant(text), "label": text == "the stone"},
        "feedback": lambda: {"privileged_context": f"Grade 0.2 of 1: {text}"},
        "prompts": lambda: {"question": text, "rubric": "right", "context": (PASSAGE,)},
    }[format]()
    kind = {
        "sft": TrainingRow,
        "dpo": PreferenceRow,
        "kto": LabelledRow,
        "feedback": FeedbackRow,
        "prompts": PromptRow,
    }[format]
    other = {"prompt": (Message(role="user", content="Who?"),)}
    if format == "kto":
        other["label"] = False
    if format == "prompts":
        other |= {"context": (), "extra": (PASSAGE,)}
    return (
        kind(**base, **made, provenance=origin),
        kind(**{**base, **made, **other}, provenance=bare),
    )


ROWS = {format: rows_of(format) for format in FORMATS}
ALL = list(itertools.product(FORMATS, STYLES, FILE_FORMATS))


def loaded_by_datasets(folder, file_format, cache):
    import datasets

    if file_format == "datasets":
        return datasets.load_from_disk(str(folder))
    return datasets.load_dataset(
        "json" if file_format == "jsonl" else "parquet",
        data_files=str(folder / ROWS_FILES[file_format]),
        cache_dir=str(cache),
    )


@pytest.mark.parametrize(("format", "style", "file_format"), ALL)
def test_rows_come_back_and_datasets_reads_them(tmp_path, format, style, file_format):
    rows = ROWS[format]
    folder = tmp_path / "set"
    manifest = write_dataset(folder, rows, format=format, style=style, file_format=file_format)
    wanted = tuple(plain(row) for row in rows) if style == "plain" else rows
    again = read_dataset(folder)
    assert again.rows == tuple(iterate_rows(folder)) == wanted
    assert again.manifest == manifest
    assert again.sha256 == manifest.sha256 == rows_sha256(wanted)
    assert manifest.sources == {"manual": 1, "self": 1}
    # Without the manifest, the columns say what it is.
    bare = folder if file_format == "datasets" else folder / ROWS_FILES[file_format]
    if file_format != "datasets":
        assert read_dataset(bare).rows == wanted
    data = loaded_by_datasets(folder, file_format, tmp_path / "cache")
    assert list(data) == ["train"]
    assert data["train"].column_names == [*COLUMNS[format], "provenance"]
    assert [json.loads(row["provenance"])["source"] for row in data["train"]] == ["self", "manual"]
    prompt = data["train"][0]["prompt"]
    if style == "plain":
        assert prompt == "".join(message.content + "\n\n" for message in PROMPT)
    else:
        assert prompt == [message.model_dump() for message in PROMPT]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("style", STYLES)
def test_all_file_formats_hold_the_same_rows(tmp_path, format, style):
    found = []
    for file_format in FILE_FORMATS:
        folder = tmp_path / file_format
        write_dataset(folder, ROWS[format], format=format, style=style, file_format=file_format)
        found.append(loaded_by_datasets(folder, file_format, tmp_path / "cache")["train"].to_list())
    assert found[0] == found[1] == found[2]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
origins = st.builds(
    Provenance,
    trajectory=texts,
    level=st.none() | texts,
    iteration=st.integers(0, 9),
    cited=st.lists(texts, max_size=2).map(tuple),
    statements=st.lists(
        st.builds(
            Statement,
            start=st.just(0),
            end=st.integers(0, 9),
            supported=st.booleans(),
            evidence=st.just((Evidence(passage="p", start=0, end=3, score=0.1),)),
        ),
        max_size=1,
    ).map(tuple),
    models=st.dictionaries(texts, texts, max_size=2),
    score=st.none() | st.floats(0, 1),
    source=st.sampled_from(SOURCES),
    round=st.none() | st.integers(0, 3),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(ALL), texts, texts, texts, origins)
def test_writing_and_reading_is_the_identity(
    tmp_path_factory, choice, system, question, text, origin
):
    format, style, file_format = choice
    prompt = (Message(role="system", content=system), Message(role="user", content=question))
    rows = rows_of(format, text, prompt, origin)
    folder = tmp_path_factory.mktemp("identity") / "set"
    write_dataset(folder, rows, format=format, style=style, file_format=file_format)
    again = read_dataset(folder).rows
    assert again == (tuple(plain(row) for row in rows) if style == "plain" else rows)
    if file_format == "jsonl":  # also for those who split a text at every kind of line end
        content = (folder / ROWS_FILES["jsonl"]).read_text(encoding="utf-8")
        assert len(content.splitlines()) == len(rows)
    # What was read once is written again as the same bytes.
    first = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    write_dataset(folder, again, format=format, style=style, file_format=file_format)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == first


@pytest.mark.parametrize("file_format", FILE_FORMATS)
def test_half_a_character_is_an_error_that_says_so(tmp_path, file_format):
    (broken, _) = rows_of("sft", "stone \ud800")
    with pytest.raises(DatasetError, match="surrogate"):
        write_dataset(tmp_path / "set", [broken], file_format=file_format)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": [{"role": "user", "content": "a"}], "completion": '
        '[{"role": "assistant", "content": "\\ud800"}], "provenance": "{}"}\n'
    )
    with pytest.raises(DatasetError, match=r"line 1.*surrogate"):
        read_dataset(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("file_format", FILE_FORMATS)
def test_a_full_disk_leaves_the_old_set(tmp_path, file_format):
    resource = pytest.importorskip("resource")
    write_dataset(tmp_path / "set", ROWS["sft"], file_format=file_format)
    large = [row for i in range(300) for row in rows_of("sft", f"{i} " * 2000)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError):
            write_dataset(tmp_path / "set", large, file_format=file_format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_dataset(tmp_path / "set").rows == ROWS["sft"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("file_format", FILE_FORMATS)
def test_damage_is_noticed(tmp_path, file_format):
    write_dataset(tmp_path / "set", ROWS["sft"], file_format=file_format)
    (file,) = (tmp_path / "set").glob(
        "train/*.arrow" if file_format == "datasets" else f"train.{file_format}"
    )
    content = file.read_bytes()
    file.write_bytes(content.replace(b"stone", b"bread"))
    with pytest.raises(IntegrityError):
        read_dataset(tmp_path / "set")
    file.unlink()
    with pytest.raises(DatasetError, match="missing"):
        read_dataset(tmp_path / "set")


def test_files_of_other_kinds_are_no_rows(tmp_path):
    for name in ("rows.parquet", "rows.jsonl"):
        (tmp_path / name).write_bytes(b"PAR1 no such thing")
        with pytest.raises(DatasetError, match=name):
            read_dataset(tmp_path / name)
    (tmp_path / "folder" / "train").mkdir(parents=True)
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "folder")


def test_a_folder_that_datasets_saved_is_read(tmp_path):
    import datasets

    rows = ROWS["sft"]
    records = [{**json.loads(row.model_dump_json()), "kind": None} for row in rows]
    for record in records:
        del record["kind"]
        record["provenance"] = json.dumps(record["provenance"])
    datasets.Dataset.from_list(records).save_to_disk(str(tmp_path / "saved"))
    assert read_dataset(tmp_path / "saved").rows == rows


def test_an_earlier_version_is_read(tmp_path):
    """Version 2 had one file, its sha256, and provenance as an object."""
    import hashlib

    row = ROWS["sft"][0]
    line = json.dumps(json.loads(row.model_dump_json(exclude={"kind"}))).encode() + b"\n"
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(line)
    manifest = {
        "schema_version": 2,
        "format": "sft",
        "rows": 1,
        "sha256": hashlib.sha256(line).hexdigest(),
        "kinds": {"response": 1},
        "trajectories": 1,
        "models": {},
        "seeds": [],
        "sources_licence": "unknown",
        "rule": None,
        "counts": None,
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))
    assert read_dataset(folder).rows == (row,)
    (folder / "train.jsonl").write_bytes(line.replace(b"stone", b"bread"))
    with pytest.raises(IntegrityError):
        read_dataset(folder)


def test_a_round_that_comes_late_does_not_change_the_columns(tmp_path):
    """Readers of JSON tell a column's type from the first 10 MB and stop where it changes."""
    early, _ = rows_of("sft", "stone " * 1000)
    late, _ = rows_of(
        "sft", "late", origin=ORIGIN.model_copy(update={"round": 1, "level": "basic"})
    )
    write_dataset(tmp_path / "set", (early if i < 2500 else late for i in range(2600)))
    assert (tmp_path / "set" / "train.jsonl").stat().st_size > 11 * 2**20
    data = loaded_by_datasets(tmp_path / "set", "jsonl", tmp_path / "cache")["train"]
    assert json.loads(data[2599]["provenance"])["round"] == 1


@pytest.mark.parametrize(
    "choice", [{"format": "csv"}, {"style": "verse"}, {"file_format": "pickle"}]
)
def test_unknown_choices_name_the_known_ones(tmp_path, choice):
    with pytest.raises(DatasetError, match="choose one of"):
        write_dataset(tmp_path / "set", ROWS["sft"], **choice)


def broken(format):
    """Yield lines of a format with one thing wrong, and what the error has to name."""
    good = json.loads(encode_row(ROWS[format][0]))
    for name in (*COLUMNS[format], "provenance"):
        if name not in ("rubric", "context", "extra"):  # these have defaults
            yield {n: v for n, v in good.items() if n != name}, name
        yield {**good, name: {"surprise": 1}}, name
        yield {**good, name: None}, name
    yield {**good, "prompt": [{"role": "assistant", "content": "a"}]}, "prompt"
    yield {**good, "prompt": []}, "prompt"
    yield {**good, "provenance": '{"score": NaN}'}, "score"
    yield {**good, "provenance": '{"score": 1.5}'}, "score"
    yield {**good, "provenance": '{"trajectory": '}, "line 2"
    yield {**good, "provenance": "[" * 100_000}, "line 2"
    yield {**good, "surprise": 1}, "no such field"
    for name in {"completion", "chosen", "rejected"} & set(good):
        yield {**good, name: [{"role": "assistant", "content": " "}]}, name
    for name in {"margin", "privileged_context"} & set(good):
        yield {**good, name: math.nan if name == "margin" else " "}, name


@pytest.mark.parametrize(
    ("format", "line", "named"),
    [pytest.param(f, *b, id=f"{f}-{i}") for f in FORMATS for i, b in enumerate(broken(f))],
)
def test_a_row_with_a_broken_field_is_named(tmp_path, format, line, named):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(encode_row(ROWS[format][0]) + json.dumps(line).encode() + b"\n")
    with pytest.raises(DatasetError, match="line 2") as caught:
        read_dataset(file)
    assert named in str(caught.value)
