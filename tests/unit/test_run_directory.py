"""The run directory: what is in it, what it takes and refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reflectory.config import LoopConfig, RunConfig
from reflectory.errors import IntegrityError, RunDirectoryError, StorageError
from reflectory.runs import ModelRecord, RunDirectory, RunView
from reflectory.runs.manifest import working_copy_commit
from reflectory.types import Failure, StopReason, Trajectory

IDENTITY = {"documents": "abc", "models": {"teacher": "t@1", "student": "s@1"}}


def start(path, config=None, identity=None, **options):
    return RunDirectory.open(
        path, config or RunConfig(), identity=IDENTITY if identity is None else identity, **options
    )


def loop(number, error=False):
    return Trajectory(
        id=str(number),
        instruction="i",
        levels=("basic",),
        stop=None if error else StopReason(rule="epsilon", converged=True, iterations=2),
        error=Failure(step="ask", kind="BackendError", message="away") if error else None,
    )


def test_a_new_run_directory_and_what_is_in_it(tmp_path):
    path = tmp_path / "runs" / "first"
    with start(path, RunConfig(documents="notes", loop=LoopConfig(seed=7)), device="cpu") as run:
        assert run.path == path
        assert run.round_path(0) == path / "rounds" / "000" and run.round_path(0).is_dir()
        assert run.checkpoints_path == path / "checkpoints.sqlite"
        assert run.record(loop(1)) and not run.record(loop(1))
        assert run.record(loop(2, error=True))
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        run.calls.put(
            "k",
            kind="complete",
            role="teacher.ask",
            model="m",
            request={"segments": []},
            response={"usage": usage},
            seconds=0.5,
        )
        run.update_manifest(hits=3, finished=True)
    names = {p.name for p in path.iterdir()}
    assert names == {
        ".lock",
        "calls.sqlite",
        "config.yaml",
        "manifest.json",
        "rounds",
        "trajectories.jsonl",
    }
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["identity"] == IDENTITY
    assert manifest["seeds"] == {"loop.seed": 7, "training.seed": 0}
    assert manifest["finished"] == manifest["updated"] >= manifest["started"]
    totals = manifest["totals"]
    assert (totals["calls"], totals["hits"], totals["done"], totals["failed"]) == (1, 3, 1, 1)
    assert totals["stops"] == {"epsilon": 1}
    assert totals["tokens"]["teacher.ask"]["prompt_tokens"] == 5
    (session,) = manifest["sessions"]
    assert session["device"] == "cpu" and session["python"].startswith(f"{sys.version_info[0]}.")
    assert session["libraries"]["pydantic"].count(".") >= 1


def test_config_yaml_can_be_loaded_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = RunConfig(documents="notes", instructions="in.txt", loop=LoopConfig(max_iterations=2))
    start("run", config).close()
    loaded = RunConfig.load(tmp_path / "run" / "config.yaml")
    assert loaded.loop == config.loop
    assert loaded.documents == (str(tmp_path / "notes"),)
    assert loaded.instructions == str(tmp_path / "in.txt")
    start("run", loaded).close()


def test_a_view_reads_while_another_process_works(tmp_path):
    models = {"student": ModelRecord(name="local", source="package", sha256="1", fingerprint="s")}
    with start(tmp_path / "run", models=models) as run:
        run.record(loop(1))
        before = {p: p.stat().st_mtime_ns for p in run.path.iterdir()}
        view = RunView.read(run.path)
        assert [t.id for t in view.trajectories] == ["1"]
        assert view.config.loop == LoopConfig()
        assert view.manifest.models == models
        assert {p: p.stat().st_mtime_ns for p in run.path.iterdir()} == before
    with pytest.raises(RunDirectoryError, match=r"no manifest\.json"):
        RunView.read(tmp_path)


def test_resuming_keeps_what_is_there(tmp_path):
    with start(tmp_path / "run") as run:
        run.record(loop(1))
        run.update_manifest(hits=2)
    with start(tmp_path / "run", device="cuda") as run:
        assert run.trajectories.ids() == {"1"}
        assert run.manifest.totals.hits == 2
        manifest = run.update_manifest(hits=5)
    assert manifest.totals.hits == 7
    assert [s.device for s in manifest.sessions] == ["", "cuda"]
    assert manifest.finished is None


def test_what_does_not_change_results_may_differ(tmp_path):
    start(tmp_path / "run", RunConfig(documents="a", concurrency=1)).close()
    other = RunConfig(documents="b", concurrency=9, device="cpu", instructions=("x",))
    start(tmp_path / "run", other).close()
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["concurrency"] == 9


def test_another_configuration_is_refused_with_every_field(tmp_path):
    start(tmp_path / "run").close()
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    config = RunConfig(
        student="local:other",
        dtype="float32",
        loop=LoopConfig(epsilon=0.2, levels=LoopConfig().levels[:3], seed=1),
    )
    identity = {"documents": "changed", "models": {"teacher": "t@1", "student": "s@2"}}
    with pytest.raises(RunDirectoryError) as caught:
        start(tmp_path / "run", config, identity)
    text = str(caught.value)
    for line in (
        'student: "local" there, "local:other" now',
        'dtype: "auto" there, "float32" now',
        "loop.epsilon: 0.05 there, 0.2 now",
        "loop.seed: 0 there, 1 now",
        'loop.levels.3.name: "expert" there, nothing now',
        'identity.documents: "abc" there, "changed" now',
        'identity.models.student: "s@1" there, "s@2" now',
    ):
        assert line in text
    assert "teacher" not in text and "max_iterations" not in text
    assert "another folder" in caught.value.hint
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    start(tmp_path / "run").close()  # the lock is free again


def test_every_field_is_compared_unless_it_is_named_as_neutral(tmp_path):
    from reflectory.runs.belonging import NEUTRAL_FIELDS, refuse_other
    from reflectory.runs.manifest import build_manifest

    assert set(RunConfig.model_fields) >= NEUTRAL_FIELDS
    recorded = build_manifest(RunConfig(), {})
    for name in set(RunConfig.model_fields) - NEUTRAL_FIELDS:
        data = RunConfig().model_dump(mode="json")
        part = data[name]
        if isinstance(part, dict):
            key = next(k for k, v in part.items() if type(v) in {int, float} and v > 0)
            part[key] = part[key] + 1 if isinstance(part[key], int) else part[key] / 2
        else:
            data[name] = "float32" if name == "dtype" else f"{part}:other"
        with pytest.raises(RunDirectoryError, match=name):
            refuse_other(tmp_path, recorded, RunConfig.from_dict(data), {})


def test_a_field_that_is_newer_than_the_run_has_its_default(tmp_path):
    start(tmp_path / "run").close()
    file = tmp_path / "run" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["config"]["loop"]["patience"]
    file.write_text(json.dumps(manifest))
    start(tmp_path / "run").close()
    manifest["config"]["loop"]["gone_since"] = 5
    file.write_text(json.dumps(manifest))
    with pytest.raises(RunDirectoryError, match="gone_since: 5 there, nothing now"):
        start(tmp_path / "run")


def test_a_newer_schema_is_refused(tmp_path):
    start(tmp_path / "run").close()
    file = tmp_path / "run" / "manifest.json"
    file.write_text(json.dumps({"schema_version": 99, "what": "ever"}))
    with pytest.raises(RunDirectoryError, match="schema version 99"):
        start(tmp_path / "run")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1}'])
def test_a_damaged_manifest_is_named(tmp_path, content):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "manifest.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        start(tmp_path / "run")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"not empty.*thesis\.tex"):
        start(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match="is a file"):
        start(tmp_path / "thesis.tex")
    with pytest.raises(StorageError, match="below"):
        start(tmp_path / "thesis.tex" / "below")


def test_trajectories_without_a_manifest_are_not_taken_over(tmp_path):
    with start(tmp_path / "run") as run:
        run.record(loop(1))
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"trajectories\.jsonl"):
        start(tmp_path / "run")


def test_what_a_kill_left_while_it_was_made_is_finished(tmp_path):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "manifest.json").unlink()
    (tmp_path / "run" / ".manifest.json.123-456.tmp").write_text('{"half')
    (tmp_path / "run" / ".DS_Store").write_text("")
    with start(tmp_path / "run") as run:
        assert (run.path / "manifest.json").exists()
        assert not list(run.path.glob(".*.tmp"))


def test_secrets_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret-1234")
    config = RunConfig(loop=LoopConfig(prompts={"ask": "use sk-very-secret-1234 please"}))
    with pytest.raises(RunDirectoryError, match=r"loop\.prompts\.ask .*SOME_API_KEY") as caught:
        start(tmp_path / "run", config)
    assert "sk-very" not in str(caught.value)
    with pytest.raises(RunDirectoryError, match="password"):
        start(tmp_path / "run", RunConfig(teacher="openai:http://me:pass@host/model"))
    with pytest.raises(RunDirectoryError, match=r"identity\.models\.teacher"):
        start(tmp_path / "run", identity={"models": {"teacher": "x sk-very-secret-1234"}})
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_the_working_copy_is_known_with_its_changes(tmp_path):
    def git(*words):
        name = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    assert working_copy_commit(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "tagged")
    assert working_copy_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("two")
    assert working_copy_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
    assert working_copy_commit(tmp_path / "missing") is None


def test_importing_the_room_loads_no_langgraph():
    code = (
        "import sys, reflectory.runs; "
        "print([m for m in ('langgraph', 'torch', 'aiosqlite') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert result.stdout.strip() == "[]"
