"""``load_dataset`` reads what runs wrote, also where a file begins unlike it goes on."""

import json
import math

import pytest
from datasets import load_dataset
from worlds import world_loop

from reflectory.errors import OutputError
from reflectory.runs.features import trajectory_features
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Trajectory

WORLD = SyntheticWorld(levels=2)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Return the lines of a run of which the last loop failed, each with other metadata."""
    normal = WORLD.student()

    async def sometimes(request):
        if "unknown" in request.segments[-1].text and request.role == "student.respond":
            raise OutputError("nothing to read", raw="<b>\u00e9\u4e16\U0001f600</b>\u2028\x00")
        return (await normal.complete(request)).text

    folder = tmp_path_factory.mktemp("run")
    asked = [
        {"instruction": "What is known?", "row": 1},
        {"instruction": "What follows <of> it?", "row": "two", "tags": ["a"]},
        {"instruction": "What is unknown?", "row": {"deep": None}},
    ]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    loop = world_loop(WORLD, max_iterations=2, student=ScriptedModel(sometimes, name="s"))
    found = list(loop.map(folder / "asked.jsonl", concurrency=1, output=folder / "run"))
    assert [t.status for t in found] == ["done", "done", "failed"]
    return (folder / "run/trajectories.jsonl").read_bytes().splitlines(keepends=True)


def load(file, cache, **options):
    return load_dataset(
        "json",
        data_files=str(file),
        split="train",
        features=trajectory_features(),
        cache_dir=str(cache),
        **options,
    )


def close(left, right):
    """Whether two JSON values are equal, numbers to the ten places that ``datasets`` keeps."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, abs_tol=1e-9)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(close(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(close, left, right))
    return left == right


def test_rows_are_the_lines_failed_ones_included(lines, tmp_path):
    file = tmp_path / "trajectories.jsonl"
    file.write_bytes(b"".join(lines))
    rows = load(file, tmp_path / "cache")
    assert len(rows) == 3
    for row, line in zip(rows, lines, strict=True):
        assert close(row, json.loads(line))
        assert Trajectory.model_validate_json(json.dumps(row)).status == (
            "failed" if row["error"] else "done"
        )
    assert rows[2]["error"]["raw"] == "<b>\u00e9\u4e16\U0001f600</b>\u2028\x00"


def test_the_first_failure_may_come_after_what_a_reader_looks_at(lines, tmp_path):
    file = tmp_path / "trajectories.jsonl"
    file.write_bytes(b"".join(lines))
    small = len(lines[0]) - 1  # so every line is a piece of its own
    rows = load(file, tmp_path / "cache", chunksize=small)
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert [row["metadata"] for row in rows] == [json.loads(x)["metadata"] for x in lines]


def test_lines_of_an_older_schema_have_nothing_in_what_they_lack(lines, tmp_path):
    old = json.loads(lines[0])
    old["schema_version"] = 1
    del old["additions"]
    for response in old["responses"]:
        del response["drafts"], response["answer"]["statements"]
    file = tmp_path / "old.jsonl"
    file.write_text(json.dumps(old) + "\n", encoding="utf-8")
    (row,) = load(file, tmp_path / "cache")
    assert row["additions"] is None and row["responses"][0]["drafts"] is None
    assert row["responses"][0]["answer"]["text"] == old["responses"][0]["answer"]["text"]


def test_rows_go_through_parquet_unchanged(lines, tmp_path):
    file = tmp_path / "trajectories.jsonl"
    file.write_bytes(b"".join(lines))
    rows = load(file, tmp_path / "cache")
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    again = load_dataset(
        "parquet",
        data_files=str(tmp_path / "rows.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert again.features == rows.features and list(again) == list(rows)


def test_every_field_of_a_trajectory_is_a_column():
    assert list(trajectory_features()) == list(Trajectory.model_fields)
