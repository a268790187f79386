"""The factory of langgraph.json: a graph that runs without a context being passed."""

import asyncio
import importlib
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_graph_that_studio_opens_runs(tmp_path, monkeypatch):
    named = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["reflective_loop"]
    file, function = named.split(":")
    module = importlib.import_module(file.removeprefix("./").removesuffix(".py").replace("/", "."))
    (tmp_path / "notes.md").write_text("# The kettle\n\nThe kettle was built in 1871 in Leeds.")
    (tmp_path / "run.yaml").write_text(
        "documents: notes.md\n"
        "loop:\n"
        "  max_iterations: 1\n"
        "  levels: [{name: basic, description: asks for one fact}]\n"
        "  sampling: {question_tokens: 16, answer_tokens: 8, response_tokens: 8}\n"
    )
    monkeypatch.setenv(module.CONFIG_VARIABLE, str(tmp_path / "run.yaml"))

    async def run():
        graph = await getattr(module, function)()
        return await graph.ainvoke({"instruction": "When was the kettle built?"})

    state = asyncio.run(run())
    assert state["stop"].iterations == 1
    assert [r.grade is not None for r in state["responses"].values()] == [True, True]
