"""Run directories that hold given trajectories, and rounds, for the tests of the report."""

import json
from collections.abc import Iterable
from pathlib import Path

from reflectory.config import RunConfig
from reflectory.runs.directory import RunDirectory
from reflectory.runs.manifest import ModelRecord
from reflectory.testing.trajectories import synthetic_trajectories
from reflectory.types import Trajectory


def make_run(folder: Path, trajectories: Iterable[Trajectory] = (), *, name: str = "local") -> Path:
    """Write a finished run directory; ``name`` is what the user called the models."""
    config = RunConfig(documents=("notes",), instructions=("Why?",))
    models = {"teacher": ModelRecord(name=name, source="folder", fingerprint=name)}
    identity = {"teacher": name}
    with RunDirectory.open(folder, config, identity=identity, models=models):
        pass
    with (folder / "trajectories.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(t.to_json() + "\n" for t in trajectories)
    with RunDirectory.open(folder, config, identity=identity, models=models) as run:
        run.update_manifest(finished=True)
    return folder


def some(count: int = 30, **options) -> list[Trajectory]:
    """Return synthetic trajectories."""
    return list(synthetic_trajectories(count, **options))


def with_text(trajectory: Trajectory, text: str) -> Trajectory:
    """Return the trajectory with one text wherever a model, document or user writes."""

    def changed(value, key=""):
        if isinstance(value, dict):
            if key == "passages":
                return {name: changed(passage) for name, passage in value.items()}
            return {name: changed(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [changed(part, key) for part in value]
        free = {"instruction", "text", "reason", "message", "raw", "title", "source", "rule"}
        free |= {"detail", "grader", "kind", "thinking", "licence", "teacher", "student"}
        return text if isinstance(value, str) and key in free else value

    data = changed(json.loads(trajectory.to_json()))
    data["levels"] = [text, *data["levels"][1:]]
    for cell in data["examinations"]:
        if cell["level"] == trajectory.levels[0]:
            cell["level"] = text
    return Trajectory.model_validate(data)
