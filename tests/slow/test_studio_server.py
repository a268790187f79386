"""LangGraph Studio's server opens ``langgraph.json`` and runs a loop with the default models.

The server's licence is Elastic's, so it is no dependency of the project: it is put into an
environment of its own, beside the packages of this one.
"""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START, RUN = 120, 300  # seconds


@pytest.fixture(scope="module")
def langgraph(tmp_path_factory):
    """Return the server's command, installed beside what is installed here."""
    home = tmp_path_factory.mktemp("studio")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=120)
    python = home / "bin" / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True)
    here = sysconfig.get_path("purelib")
    paths = f"{here}\n{ROOT}\n"  # the hooks of editable packages are not read from there
    (Path(found.stdout.strip()) / "others.pth").write_text(paths, encoding="utf-8")
    words = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    pip = subprocess.run([*words, "langgraph-cli[inmem]"], capture_output=True, text=True)
    if pip.returncode != 0:
        pytest.skip(f"the server cannot be installed here: {pip.stderr.strip()[-300:]}")
    return python.with_name("langgraph")


def ask(address, body=None):
    """Return what the server says to a request, as a stream of lines."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=RUN) as answer:
        return answer.read().decode("utf-8")


@pytest.fixture(scope="module")
def server(langgraph, tmp_path_factory):
    """Return the address of the server, started as a user would and stopped at the end."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notes.md").write_text("# The kettle\n\nThe kettle was built in 1871 in Leeds.")
    (folder / "run.yaml").write_text(
        "documents: notes.md\n"
        "loop:\n"
        "  max_iterations: 1\n"
        "  levels: [{name: basic, description: asks for one fact}]\n"
        "  sampling: {question_tokens: 16, answer_tokens: 8, response_tokens: 8}\n"
    )
    # The file of the repository, with its path to the factory, where the server may write.
    settings = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    (name, place) = next(iter(settings["graphs"].items()))
    settings["graphs"][name] = str(ROOT / place)
    settings["graphs"]["installed"] = "reflectory.studio:make_graph"
    (folder / "langgraph.json").write_text(json.dumps(settings), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"}
    environment = {k: v for k, v in os.environ.items() if k not in keys} | {
        "REFLECTORY_CONFIG": str(folder / "run.yaml"),
        "LANGSMITH_TRACING": "false",
    }
    words = ("dev", "--no-browser", "--no-reload", "--port", str(port))
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [langgraph, *words], cwd=folder, env=environment, stdout=out, stderr=out
        )
    address = f"http://127.0.0.1:{port}"
    try:
        limit = time.monotonic() + START
        while True:
            try:
                assert json.loads(ask(f"{address}/ok"))["ok"]
                break
            except urllib.error.URLError:
                assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert time.monotonic() < limit, log.read_text(encoding="utf-8")[-3000:]
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_the_server_knows_the_graph_and_draws_it(server):
    found = json.loads(ask(f"{server}/assistants/search", {}))
    by_name = {a["graph_id"]: a["assistant_id"] for a in found}
    assert set(by_name) == {"reflective_loop", "installed"}
    drawn = json.loads(ask(f"{server}/assistants/{by_name['reflective_loop']}/graph?xray=true"))
    nodes = {str(node["id"]) for node in drawn["nodes"]}
    assert {"respond", "reflect", "examine:ask", "examine:align"} <= nodes
    shown = json.loads(ask(f"{server}/assistants/{by_name['reflective_loop']}/schemas"))
    assert "instruction" in shown["input_schema"]["properties"]


@pytest.mark.parametrize("graph", ["reflective_loop", "installed"])
def test_a_loop_runs_on_the_server_without_blocking_it(server, graph):
    """Its event loop serves others, too: it ends runs that read or import on it."""
    state = json.loads(
        ask(
            f"{server}/runs/wait",
            {"assistant_id": graph, "input": {"instruction": "When was the kettle built?"}},
        )
    )
    assert "__error__" not in state, state
    assert state["stop"]["iterations"] == 1
    assert [r["grade"] is not None for r in state["responses"].values()] == [True, True]


def test_what_happens_is_streamed_as_studio_shows_it(server):
    said = ask(
        f"{server}/runs/stream",
        {
            "assistant_id": "reflective_loop",
            "input": {"instruction": "Where was the kettle built?"},
            "stream_mode": ["updates", "events"],
            "stream_subgraphs": True,
        },
    )
    kinds = {x.removeprefix("event: ").strip() for x in said.splitlines() if x.startswith("event")}
    assert not any("error" in kind for kind in kinds), said[-2000:]
    assert {"metadata", "updates", "events"} <= kinds
    assert '"conclude"' in said
