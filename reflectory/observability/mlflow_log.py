"""A run directory as a run of MLflow: parameters, metrics, figures and files.

Everything is read from the run directory, so a run may be logged when it is done, in
the middle, or years later on another machine. Needs ``reflectory[mlflow]``, which is
imported when it is used.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reflectory.errors import BackendError, UserError
from reflectory.models.protocol import content_hash
from reflectory.runs.directory import RunView
from reflectory.runs.manifest import Manifest
from reflectory.types import Trajectory

_KEY_TAG = "reflectory.run"
_LONGEST_VALUE = 500
"""Characters of a parameter; older servers of MLflow take no more."""
_MOST_AT_ONCE = 100
"""Parameters in one request, which is MLflow's limit."""
_NO_NAME = re.compile(r"[^A-Za-z0-9_\-./ ]")
_FILES = ("config.yaml", "manifest.json", "report.html", "students.json")
_ROUND_FILES = ("round.json", "evaluation.json")


def log_to_mlflow(
    run: str | Path,
    *,
    experiment: str = "reflectory",
    tracking_uri: str | None = None,
    name: str | None = None,
    figures: int = 8,
    trajectories: bool = True,
) -> str:
    """Log a run directory to MLflow; doing it again brings the same MLflow run up to date.

    Parameters are the fields of the configuration and the models' fingerprints. Metrics
    are the totals, and as series over t the mean of G[t] (``grade``), of A's column t
    (``alignment``) and of the groundedness of R_t; for rounds of self-improvement, the
    student's held-out figures as series over rounds. Figures are the matrices of the
    first trajectories.

    Args:
        run: Run directory; another process may be working in it.
        experiment: Name of MLflow's experiment; made when it is not there.
        tracking_uri: Where MLflow keeps runs; what ``MLFLOW_TRACKING_URI`` says when ``None``.
        name: Name of the MLflow run; that of the folder when ``None``.
        figures: Most matrices to draw.
        trajectories: Whether to upload ``trajectories.jsonl``, which holds all texts.

    Returns:
        The id of the MLflow run.

    Raises:
        UserError: The extra ``mlflow`` is not installed.
        RunDirectoryError: The folder is no run directory.
        BackendError: MLflow refuses or cannot be reached.
    """
    # MLflow reports its use to its makers unless it is told not to before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(
            "logging to MLflow needs a library that is not installed",
            hint="pip install 'reflectory[mlflow]'",
        ) from error
    view = RunView.read(run)
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        run_id = _run_of(client, view, experiment, name or view.path.resolve().name)
        _log_parameters(client, run_id, view.manifest)
        _log_metrics(client, run_id, view)
        _log_rounds(client, run_id, view.path)
        _log_files(client, run_id, view, figures=figures, trajectories=trajectories)
        status = "FINISHED" if view.manifest.finished else "RUNNING"
        client.update_run(run_id, status=status)
        if view.manifest.finished:
            client.set_terminated(run_id, status=status)
    except (MlflowException, ImportError) as error:
        raise BackendError(
            f"MLflow did not take the run {view.path}: {str(error).splitlines()[0]}",
            hint="look at MLFLOW_TRACKING_URI; a database needs sqlalchemy and alembic besides, "
            "a server needs nothing",
        ) from error
    return run_id


def _run_of(client: Any, view: RunView, experiment: str, name: str) -> str:
    """Return the MLflow run of a run directory, made when there is none."""
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    manifest = view.manifest
    key = content_hash(name, manifest.started, manifest.identity)[:32]
    same = client.search_runs([place], f"tags.`{_KEY_TAG}` = '{key}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    tags = {_KEY_TAG: key, "reflectory.version": manifest.sessions[-1].reflectory}
    commit = manifest.sessions[-1].commit
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return str(client.create_run(place, run_name=name, tags=tags).info.run_id)


def _log_parameters(client: Any, run_id: str, manifest: Manifest) -> None:
    from mlflow.entities import Param

    values = dict(_flat(manifest.config))
    values |= {f"model.{part}": found.fingerprint for part, found in manifest.models.items()}
    known = client.get_run(run_id).data.params
    new = [
        Param(_name(key), str(value)[:_LONGEST_VALUE])
        for key, value in values.items()
        if _name(key) not in known  # a parameter of MLflow never changes
    ]
    for start in range(0, len(new), _MOST_AT_ONCE):
        client.log_batch(run_id, params=new[start : start + _MOST_AT_ONCE])


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested JSON values by dotted names; lists as one value, what is empty not at all."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{prefix}{key}.")
    elif value is not None and value not in ("", [], ()):
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        yield prefix.removesuffix("."), text


def _log_metrics(client: Any, run_id: str, view: RunView) -> None:
    totals = view.manifest.totals
    single = {
        "done": totals.done,
        "failed": totals.failed,
        "calls": totals.calls,
        "calls_from_cache": totals.hits,
        "model_seconds": totals.seconds,
    }
    for kind in ("prompt_tokens", "reused_tokens", "completion_tokens"):
        single[kind] = sum(counts.get(kind, 0) for counts in totals.tokens.values())
    series: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    returned, iterations, converged = [], [], []
    for trajectory in view.trajectories:
        if trajectory.status != "done":
            continue
        for metric, t, value in _over_t(trajectory):
            series[metric][t].append(value)
        grade = trajectory.grades[trajectory.chosen] if trajectory.grades else None
        if grade is not None:
            returned.append(grade)
        if trajectory.stop is not None:
            iterations.append(trajectory.stop.iterations)
            converged.append(trajectory.stop.converged)
    for metric, values in (
        ("grade_returned", returned),
        ("iterations", iterations),
        ("converged", converged),
    ):
        if values:
            single[metric] = float(np.mean(values))
    for metric, value in single.items():
        client.log_metric(run_id, metric, float(value))
    for metric, steps in series.items():
        for t, values in sorted(steps.items()):
            client.log_metric(run_id, metric, float(np.mean(values)), step=t)


def _over_t(trajectory: Trajectory) -> Iterator[tuple[str, int, float]]:
    """Yield what is known of each t of a trajectory: metric, t, value."""
    for t, grade in enumerate(trajectory.grades):
        if grade is not None:
            yield "grade", t, grade
    for t, share in enumerate(trajectory.groundedness):
        if share is not None:
            yield "groundedness", t, share
    for t, column in enumerate(trajectory.alignment.values.T):
        known = column[~np.isnan(column)]
        if known.size:
            yield "alignment", t, float(known.mean())


def _log_rounds(client: Any, run_id: str, folder: Path) -> None:
    """Log what each round decided, and the held-out figures of the student it trained."""
    students = _json(folder / "students.json").get("students", [])
    for file in sorted(folder.glob("rounds/*/round.json")):
        record = _json(file)
        number = int(record["number"])
        client.set_tag(run_id, f"round.{number:03d}", f"{record['decision']}: {record['reason']}")
        trained = record.get("trained")
        if trained is None or not 0 <= trained < len(students):
            continue
        for metric, value in students[trained].get("figures", {}).items():
            client.log_metric(run_id, _name(f"held_out.{metric}"), float(value), step=number)
        client.log_metric(run_id, "rows", float(students[trained].get("rows", 0)), step=number)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def _log_files(
    client: Any, run_id: str, view: RunView, *, figures: int, trajectories: bool
) -> None:
    names = [*_FILES, "trajectories.jsonl"] if trajectories else list(_FILES)
    for file in (view.path / name for name in names):
        if file.is_file():
            client.log_artifact(run_id, str(file))
    for folder in sorted(view.path.glob("rounds/*")):
        for file in (folder / name for name in _ROUND_FILES):
            if file.is_file():
                client.log_artifact(run_id, str(file), artifact_path=f"rounds/{folder.name}")
    done = (t for t in view.trajectories if t.status == "done" and t.examinations)
    for trajectory in islice(done, figures):
        figure = trajectory.alignment.plot()[0].figure
        client.log_figure(run_id, figure, f"figures/{_name(trajectory.id)}.png")


def _name(text: str) -> str:
    """Return a text as MLflow takes it for a name."""
    return _NO_NAME.sub("_", text)
