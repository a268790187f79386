"""Run directories in a real MLflow store, a SQLite file with a folder for files."""

import json
import os
from pathlib import Path

import pytest
from worlds import world_loop

from reflectory.errors import BackendError, RunDirectoryError
from reflectory.observability.mlflow_log import log_to_mlflow
from reflectory.runs import RunView
from reflectory.testing.world import SyntheticWorld

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
mlflow = pytest.importorskip("mlflow", reason="needs reflectory[mlflow]")
pytest.importorskip("alembic", reason="a store in a file needs alembic")

WORLD = SyntheticWorld(skill=0.5, gain=0.5, levels=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a client and the address of a store; making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = mlflow.MlflowClient(tracking_uri=uri)
    client.create_experiment("test", artifact_location=f"file://{folder}/files")
    return client, uri


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    loop = world_loop(WORLD, max_iterations=2, epsilon=1e-9)
    list(loop.map(["Why?", "How?"], output=folder))
    return folder


def log(run, store, **options):
    return log_to_mlflow(run, experiment="test", tracking_uri=store[1], **options)


def paths(client, run_id, folder=None):
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += paths(client, run_id, item.path) if item.is_dir else [item.path]
    return found


def test_parameters_metrics_figures_and_files_arrive(run, store):
    client, _ = store
    run_id = log(run, store)
    found = client.get_run(run_id)
    view = RunView.read(run)
    assert found.info.run_name == "first" and found.info.status == "FINISHED"
    assert found.data.params["loop.max_iterations"] == "2"
    assert found.data.params["model.student"] == "world-student"
    metrics = found.data.metrics
    assert metrics["done"] == 2 and metrics["failed"] == 0
    assert metrics["calls"] == view.manifest.totals.calls > 0
    assert metrics["prompt_tokens"] > 0 and metrics["iterations"] == 2
    grades = {m.step: m.value for m in client.get_metric_history(run_id, "grade")}
    assert grades == {t: pytest.approx(WORLD.grade(t)) for t in range(3)}
    columns = {m.step: m.value for m in client.get_metric_history(run_id, "alignment")}
    assert columns == {t: pytest.approx(WORLD.matrix(2)[:, t].mean()) for t in range(2)}
    files = paths(client, run_id)
    assert {"config.yaml", "manifest.json", "trajectories.jsonl"} <= set(files)
    assert sum(name.startswith("figures/") for name in files) == 2
    fetched = client.download_artifacts(run_id, "trajectories.jsonl")
    assert Path(fetched).read_bytes() == (run / "trajectories.jsonl").read_bytes()


def test_the_same_run_again_is_the_same_mlflow_run(run, store):
    client, _ = store
    first, again = log(run, store, figures=0), log(run, store, figures=0)
    assert first == again
    place = client.get_experiment_by_name("test").experiment_id
    assert len(client.search_runs([place])) == 1


def test_texts_may_stay_at_home(tmp_path, store):
    list(world_loop(WORLD, max_iterations=1).map(["Why?"], output=tmp_path / "private"))
    run_id = log(tmp_path / "private", store, trajectories=False, figures=0, name="no texts")
    assert sorted(paths(store[0], run_id)) == ["config.yaml", "manifest.json"]
    assert store[0].get_run(run_id).info.run_name == "no texts"


def test_rounds_are_series_over_rounds(tmp_path, store):
    client, _ = store
    run = tmp_path / "rounds-of-it"
    list(world_loop(WORLD, max_iterations=1).map(["Why?"], output=run))
    students = [{"figures": {}}]
    for number, (decision, f1) in enumerate([("promoted", 0.4), ("rolled_back", 0.3)]):
        folder = run / f"rounds/{number:03d}"
        folder.mkdir(parents=True)
        record = {"number": number, "trained": number + 1, "decision": decision, "reason": "f1"}
        (folder / "round.json").write_text(json.dumps(record))
        (folder / "evaluation.json").write_text("{}")
        students.append({"figures": {"f1": f1}, "rows": 10 + number})
    (run / "students.json").write_text(json.dumps({"students": students}))
    run_id = log(run, store, figures=0)
    history = client.get_metric_history(run_id, "held_out.f1")
    assert {m.step: m.value for m in history} == {0: 0.4, 1: 0.3}
    tags = client.get_run(run_id).data.tags
    assert tags["round.001"] == "rolled_back: f1"
    assert "rounds/001/evaluation.json" in paths(client, run_id)


def test_what_is_no_run_and_a_store_that_is_not_there_are_said(run, store, tmp_path, monkeypatch):
    with pytest.raises(RunDirectoryError):
        log(tmp_path, store)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match="MLflow did not take"):
        log_to_mlflow(run, tracking_uri="http://127.0.0.1:9")
