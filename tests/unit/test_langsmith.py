"""LangSmith by its ordinary variables: nodes arrive, and calls of every model under them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from langsmith_server import LangSmithServer

PROGRAM = """
import sys
from worlds import world_loop
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.tracers.langchain import wait_for_all_tracers
from reflectory.errors import BackendError
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
world = SyntheticWorld(levels=2)
models = {}
if sys.argv[1] == "langchain":
    models["student"] = FakeListChatModel(responses=["I answer with skill 1.0"])
if sys.argv[1] == "broken":
    def fail(request):
        raise BackendError("down")
    models["student"] = ScriptedModel(fail, name="broken")
loop = world_loop(world, max_iterations=1, **models)
for name in sys.argv[2:]:
    done = list(loop.map(["What is known?", "What is not?"], concurrency=2, output=name))
    assert {t.status for t in done} == {"failed" if sys.argv[1] == "broken" else "done"}, done
wait_for_all_tracers()
"""


@pytest.fixture
def server():
    found = LangSmithServer()
    yield found
    found.close()


def traced(server, *arguments):
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH", "LANGCHAIN"))},
        "PYTHONPATH": str(Path(__file__).parent),
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": server.address,
        "LANGSMITH_API_KEY": "lsv2-of-this-test",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return list(server.runs.values())


def named(runs, name):
    return [run for run in runs if run.get("name") == name]


def test_nodes_and_calls_of_a_model_that_is_none_of_langchains_arrive(server, tmp_path):
    runs = traced(server, "scripted", str(tmp_path / "run"))
    assert server.keys == {"lsv2-of-this-test"}
    assert len(named(runs, "reflective_loop")) == 2 and len(named(runs, "ask")) == 4
    by_id = {run["id"]: run for run in runs}
    answers = named(runs, "student.answer")
    assert len(answers) == 4 and {run["run_type"] for run in answers} == {"llm"}
    for run in answers:
        assert by_id[run["parent_run_id"]]["name"] == "answer"
        assert "skill" in str(run["outputs"]) and "known" in str(run["inputs"])
        assert run["extra"]["metadata"]["ls_model_name"] == "world-student"
        assert run["extra"]["invocation_params"]["seed"] >= 0
        assert run["end_time"] and not run.get("error")
        assert "input_tokens" in str(run["outputs"])


def test_recorded_calls_arrive_as_such(server, tmp_path):
    folder = tmp_path / "run"
    traced(server, "scripted", str(folder))
    (folder / "trajectories.jsonl").unlink()
    server.runs.clear()
    answers = named(traced(server, "scripted", str(folder)), "student.answer")
    assert len(answers) == 4 and all("'cached': True" in str(run["outputs"]) for run in answers)


def test_langchains_own_models_arrive_once(server, tmp_path):
    runs = traced(server, "langchain", str(tmp_path / "run"))
    by_id = {run["id"]: run for run in runs}
    chats = named(runs, "FakeListChatModel")
    parents = {by_id[run["parent_run_id"]]["name"] for run in chats}
    assert parents == {"respond", "answer", "reflect"}
    assert not named(runs, "student.answer") and named(runs, "teacher.ask")


def test_a_failed_call_arrives_as_failed(server, tmp_path):
    runs = traced(server, "broken", str(tmp_path / "run"))
    failed = named(runs, "student.respond")
    assert len(failed) == 2 and all("down" in run["error"] for run in failed)
