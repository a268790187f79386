"""Lines of trajectories of older and newer versions, and lines that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from reflectory import types
from reflectory.errors import UserError
from reflectory.types import SCHEMA_VERSION, Trajectory


def small() -> Trajectory:
    return Trajectory(id="1", instruction="?", levels=("a",))


def test_newer_schema_asks_for_an_upgrade() -> None:
    data = json.loads(small().to_json()) | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(UserError, match=f"schema version {SCHEMA_VERSION + 1}") as caught:
        Trajectory.from_json(json.dumps(data))
    assert "upgrade" in caught.value.hint


def test_missing_version_is_no_trajectory() -> None:
    data = json.loads(small().to_json())
    del data["schema_version"]
    with pytest.raises(UserError, match="no schema version"):
        Trajectory.from_json(json.dumps(data))


def test_older_schemas_are_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"schema_version": 2, "question": data["prompt"]}

    def second(data: dict[str, Any]) -> dict[str, Any]:
        kept = {k: v for k, v in data.items() if k not in {"prompt", "question"}}
        return kept | {"schema_version": 3, "instruction": data["question"]}

    monkeypatch.setattr(types.trajectory, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(types.trajectory, "MIGRATIONS", {1: first, 2: second})
    oldest = {"schema_version": 1, "id": "1", "prompt": "I", "levels": ["a"]}
    middle = {"schema_version": 2, "id": "1", "prompt": "", "question": "I", "levels": ["a"]}
    for data in (oldest, middle):
        read = Trajectory.from_json(json.dumps(data))
        assert (read.instruction, read.schema_version) == ("I", 3)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"text"',
        b"\xff",
        "{}",
        '{"schema_version": "1"}',
        '{"schema_version": 1.0}',
        '{"schema_version": null}',
        '{"schema_version": 1}',
        '{"schema_version": 1, "id": "1", "instruction": "I", "levels": ["a"], "extra": 0}',
        '{"schema_version": 1, "id": "1", "instruction": "I", "levels": "a"}',
    ],
)
def test_other_lines_are_user_errors(line: str | bytes) -> None:
    with pytest.raises(UserError, match="not a trajectory") as caught:
        Trajectory.from_json(line)
    assert caught.value.hint


@pytest.mark.parametrize(
    "line",
    [
        '{"schema_version": 0, "id": "1", "instruction": "I", "levels": ["a"]}',
        '{"schema_version": -1, "id": "1", "instruction": "I", "levels": ["a"]}',
        '{"schema_version": true, "id": "1", "instruction": "I", "levels": ["a"]}',
        "[" * 100_000,
    ],
    ids=["zero", "negative", "true", "nested"],
)
def test_odd_lines_are_user_errors(line: str) -> None:
    with pytest.raises(UserError, match="not a trajectory"):
        Trajectory.from_json(line)


def test_a_stored_line_of_version_1_is_read() -> None:
    """Written by the last commit before version 2, on the synthetic world."""
    line = (Path(__file__).parent / "data" / "trajectory-1.jsonl").read_text(encoding="utf-8")
    old = json.loads(line)
    read = Trajectory.from_json(line)
    assert (old["schema_version"], read.schema_version) == (1, SCHEMA_VERSION)
    assert read.response == "I answer with skill 3.0"
    assert read.grades == [0.5, 1.0, 1.0]
    assert read.alignment.values.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    # Nobody looked for evidence then, which is not the same as finding none.
    assert read.groundedness == [None, None, None]
    assert read.additions == ()
    assert Trajectory.from_json(read.to_json()) == read
    # Nothing that was there is lost.
    new = json.loads(read.to_json())
    assert [r["grade"] for r in new["responses"]] == [r["grade"] for r in old["responses"]]
    assert new["models"] == old["models"]


def test_a_stored_line_of_version_2_is_read() -> None:
    """Written by the last commit before version 3, by a student that gets worse."""
    line = (Path(__file__).parent / "data" / "trajectory-2.jsonl").read_text(encoding="utf-8")
    old = json.loads(line)
    read = Trajectory.from_json(line)
    assert (old["schema_version"], read.schema_version) == (2, SCHEMA_VERSION)
    # Nothing was chosen then, so what was written is what there is.
    assert read.grades == [0.5, 0.375, 0.25]
    assert [r.drafts for r in read.responses] == [(), (), ()]
    assert Trajectory.from_json(read.to_json()) == read
    new = json.loads(read.to_json())
    assert [r.pop("drafts") for r in new["responses"]] == [[], [], []]
    assert {k: v for k, v in new.items() if k != "schema_version"} == {
        k: v for k, v in old.items() if k != "schema_version"
    }
