"""`reflectory run` with the embedded models: killed, resumed, and the same in float32."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from reflectory.models.defaults import ensure_embedding_model, ensure_language_model
from reflectory.runs import RunView

pytestmark = pytest.mark.slow

CONFIG = """
dtype: float32
concurrency: 2
loop:
  max_iterations: 2
  levels:
    - {name: basic, description: asks for one fact that a document states directly}
    - {name: advanced, description: asks for reasons, starters: [Why]}
  retrieval: {passages: 2, context_tokens: 200}
  sampling: {question_tokens: 16, answer_tokens: 12, response_tokens: 16}
  revision: {drafts: 2, fresh: 1}
"""
DOCUMENTS = {
    "kettle.md": "# The kettle\n\nThe kettle was built in 1871 by Ada Brook in Leeds. It holds two "
    "litres. It was sold to the museum in 1902.",
    "museum.txt": "The museum of Leeds opened in 1899. Its first director was Henry Vale, who "
    "bought kettles because his mother had made them.",
}
RUN = "from reflectory.cli.main import main; main()"


def start(folder, run):
    return subprocess.Popen(
        [
            *(sys.executable, "-c", RUN, "run", "-c", folder / "run.yaml", "-d", folder / "notes"),
            *("-i", "Who built the kettle?", "-i", "Why did the director buy kettles?"),
            *("-o", run, "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def recorded(run):
    with sqlite3.connect(run / "calls.sqlite") as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'calls'")
        if tables.fetchone() is None:  # the file is there a moment before its tables
            return {}
        return dict(connection.execute("SELECT key, response FROM calls").fetchall())


def test_a_run_that_is_killed_three_times_ends_as_an_undisturbed_one(tmp_path):
    ensure_language_model()
    ensure_embedding_model()
    (tmp_path / "notes").mkdir()
    for name, text in DOCUMENTS.items():
        (tmp_path / "notes" / name).write_text(text)
    (tmp_path / "run.yaml").write_text(CONFIG)

    calm = start(tmp_path, tmp_path / "calm")
    out, err = calm.communicate(timeout=900)
    assert calm.returncode == 0, err
    assert len(json.loads(out)) == 2
    undisturbed = {t.id: t.to_json() for t in RunView.read(tmp_path / "calm").trajectories}

    every_call = recorded(tmp_path / "calm")
    run, before = tmp_path / "killed", {}
    for share in (0.0, 0.35, 0.7):
        kill_after(start(tmp_path, run), run, 1 + int(share * len(every_call)))
        # What was recorded before is there unchanged, and nothing was asked besides what an
        # undisturbed run asks.
        now = recorded(run)
        assert before.items() <= now.items() and now.keys() <= every_call.keys()
        before = now

    resumed = start(tmp_path, run)
    _, err = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, err
    found = {t.id: t.to_json() for t in RunView.read(run).trajectories}
    assert found == undisturbed
    assert before.items() <= recorded(run).items()
    assert recorded(run).keys() == every_call.keys()


def kill_after(process, run, calls):
    """Kill a run when so many calls are recorded."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "calls.sqlite").exists() and len(recorded(run)) >= calls:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
