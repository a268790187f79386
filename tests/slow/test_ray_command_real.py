"""``reflectory run --engine ray`` with the real default models, and the same run without Ray."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("ray", reason='the engine ray is not installed: "reflectory[ray]"')

from reflectory.runs import RunView

pytestmark = pytest.mark.slow


def test_the_command_line_runs_on_ray_and_goes_on_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/one.txt").write_text(
        "The crater is 49,000 years old, as its quartz says. Winslow lies near it."
    )
    # A relative path, and a worker whose current folder is another one.
    config = {
        "documents": ["notes"],
        "dtype": "float32",
        "loop": {
            "max_iterations": 1,
            "levels": [{"name": "basic", "description": "asks a fact"}],
            "sampling": {"question_tokens": 16, "answer_tokens": 16, "response_tokens": 16},
            "revision": {"drafts": 1, "fresh": 1},
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "reflectory.cli.main", "run", "-c", "config.yaml"]
    command += ["-i", "How old is the crater?", "-o", "run", "--json"]

    def run(*options):
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), RunView.read(tmp_path / "run").manifest

    on_ray, manifest = run("--engine", "ray", "--workers", "1")
    assert [t["status"] for t in on_ray] == ["done"] and on_ray[0]["response"]
    assert manifest.finished and "Ray" in manifest.sessions[0].device and manifest.totals.calls
    engines = manifest.sessions[0].engines
    assert engines and all(counts["decoded"] for counts in engines.values())
    here, after = run()
    assert here == on_ray and after.totals.calls == manifest.totals.calls
