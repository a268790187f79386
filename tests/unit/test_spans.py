"""Spans of loops, nodes and calls: each call under its node, also with many loops at once."""

import asyncio
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from worlds import world_loop

from reflectory.errors import BackendError
from reflectory.models.protocol import Completion
from reflectory.observability import spans
from reflectory.observability.calls import ObservedModel
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

pytest.importorskip("opentelemetry.sdk", reason="needs reflectory[otel]")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=3)
ASKED = [f"What is known of number {n}?" for n in range(12)]
LOCAL = {
    "reflectory.loop",
    "reflectory.step",
    "reflectory.iteration",
    "reflectory.level",
    "reflectory.run",
}


@pytest.fixture
def exported(monkeypatch):
    """Give this test a provider of its own: the process's may be set only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


def where(span):
    return {name: value for name, value in span.attributes.items() if name in LOCAL}


def calls_in(finished):
    return [s for s in finished if "reflectory.role" in s.attributes]


def test_every_call_is_under_its_node_of_its_loop_iteration_and_level(exported, tmp_path):
    loop = world_loop(
        WORLD,
        max_iterations=2,
        epsilon=1e-9,
        student=ScriptedModel(_slow(WORLD.student()), name="slow-student"),
        teacher=ScriptedModel(_slow(WORLD.teacher()), name="slow-teacher"),
    )
    done = list(loop.map(ASKED, concurrency=12, output=tmp_path / "run"))
    finished = exported.get_finished_spans()
    by_id = {span.context.span_id: span for span in finished}
    workflows = [s for s in finished if s.name == "invoke_workflow reflective_loop"]
    assert {s.attributes["reflectory.loop"] for s in workflows} == {t.id for t in done}
    assert all(s.parent is None for s in workflows)
    calls = calls_in(finished)
    # R_0; per iteration and level a question and an answer; per iteration a reflection.
    assert len(calls) >= len(ASKED) * (1 + 2 * (3 * 2 + 1))
    expected = {
        "student.respond": "node respond",
        "teacher.ask": "node ask",
        "student.answer": "node answer",
        "student.reflect": "node reflect",
    }
    for call in calls:
        node = by_id[call.parent.span_id]
        assert node.name == expected[call.attributes["reflectory.role"]]
        assert where(call) == where(node)
        assert call.attributes["gen_ai.conversation.id"] == node.attributes["reflectory.loop"]
        around = by_id[node.parent.span_id]
        if node.name in ("node ask", "node answer"):
            assert around.name == "node examine"
            assert around.attributes["reflectory.level"] == node.attributes["reflectory.level"]
            assert (
                node.attributes["reflectory.iteration"] == around.attributes["reflectory.iteration"]
            )
            around = by_id[around.parent.span_id]
        assert around in workflows
        assert around.attributes["reflectory.loop"] == node.attributes["reflectory.loop"]
    seen = {
        (c.attributes["reflectory.iteration"], c.attributes["reflectory.level"])
        for c in calls
        if c.attributes["reflectory.role"] == "teacher.ask"
    }
    assert seen == {(t, level) for t in (0, 1) for level in loop.config.level_names}
    assert {s.end_time is not None for s in finished} == {True}


def _slow(model):
    async def speak(request):
        await asyncio.sleep(0.001 * (request.seed % 7))
        return (await model.complete(request)).text

    return speak


def test_attributes_follow_the_conventions_and_hold_no_text(exported, tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    list(loop.map(ASKED[:1], output=tmp_path / "run"))
    call = next(
        c
        for c in calls_in(exported.get_finished_spans())
        if c.attributes["reflectory.role"] == "student.answer"
    )
    found = dict(call.attributes)
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model"] == found["reflectory.model.fingerprint"] == "world-student"
    assert found["gen_ai.agent.name"] == "student"
    assert found["gen_ai.usage.input_tokens"] > 0 and found["gen_ai.usage.output_tokens"] > 0
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["reflectory.cached"] is False and found["reflectory.seconds"] > 0
    assert found["reflectory.run"] == "run"
    texts = " ".join(str(v) for s in exported.get_finished_spans() for v in s.attributes.values())
    assert "skill" not in texts and "known" not in texts


def test_recorded_calls_are_cached_and_look_the_same(exported, tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    list(loop.map(ASKED[:1], output=tmp_path / "run"))
    first = calls_in(exported.get_finished_spans())
    exported.clear()
    (tmp_path / "run/trajectories.jsonl").unlink()
    list(loop.map(ASKED[:1], output=tmp_path / "run"))
    again = calls_in(exported.get_finished_spans())
    assert {c.attributes["reflectory.cached"] for c in first} == {False}
    assert {c.attributes["reflectory.cached"] for c in again} == {True}

    def without_time(call):
        skipped = {"reflectory.cached", "reflectory.seconds"}
        return sorted((k, str(v)) for k, v in call.attributes.items() if k not in skipped)

    assert sorted(map(without_time, first)) == sorted(map(without_time, again))


def test_a_call_that_two_loops_share_is_made_by_one_of_them(exported, tmp_path):
    loop = world_loop(WORLD, max_iterations=1, student=ScriptedModel(_slow(WORLD.student())))
    list(loop.map(["Why?", "Why?"], concurrency=2, output=tmp_path / "run"))
    calls = calls_in(exported.get_finished_spans())
    responds = [c for c in calls if c.attributes["reflectory.role"] == "student.respond"]
    assert sorted(c.attributes["reflectory.cached"] for c in responds) == [False, True]
    assert len({c.attributes["reflectory.loop"] for c in responds}) == 2


def test_a_failure_is_on_the_call_the_node_and_the_loop_without_its_text(exported, tmp_path):
    def fail(request):
        raise BackendError("the secret text of a server")

    loop = world_loop(WORLD, max_iterations=1, student=ScriptedModel(fail, name="broken"))
    assert [t.status for t in loop.map(ASKED[:1], output=tmp_path / "run")] == ["failed"]
    failed = [s for s in exported.get_finished_spans() if s.attributes.get("error.type")]
    assert {s.name for s in failed} == {
        "chat student.respond",
        "node respond",
        "invoke_workflow reflective_loop",
    }
    assert {s.attributes["error.type"] for s in failed} == {"BackendError"}
    assert "secret" not in "".join(s.to_json() for s in exported.get_finished_spans())


def test_a_review_is_no_failure(exported):
    loop = world_loop(WORLD, max_iterations=1, review=("question",))
    loop.run("What is known?", on_review=lambda shown: None)
    assert not [s for s in exported.get_finished_spans() if s.attributes.get("error.type")]


def test_a_loop_without_a_run_directory_has_spans_too(exported):
    world_loop(WORLD, max_iterations=1).run("What is known?")
    names = {s.name for s in exported.get_finished_spans()}
    assert {"node ask", "chat student.answer", "invoke_workflow reflective_loop"} <= names


def test_the_watcher_forgets_every_node(exported, tmp_path):
    from reflectory.observability.nodes import _the_watcher

    list(world_loop(WORLD, max_iterations=2).map(ASKED, output=tmp_path / "run"))
    assert _the_watcher()._open == {}


def test_nothing_is_imported_and_no_span_made_where_nobody_wants_one(tmp_path):
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("opentelemetry", "psycopg", "mlflow"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(tmp_path.parent)!r})
from worlds import world_loop
from reflectory.testing.world import SyntheticWorld
loop = world_loop(SyntheticWorld(levels=2), max_iterations=1)
print([t.status for t in loop.map(["What?"], output={str(tmp_path / "run")!r})])
print([m for m in sys.modules if m.startswith("opentelemetry")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin"},
    )
    assert done.stdout.splitlines() == ["['done']", "[]"], done.stderr


def test_without_a_provider_a_call_passes_through(monkeypatch):
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: trace.ProxyTracerProvider())
    assert spans.tracer() is None
    answer = asyncio.run(ObservedModel(ScriptedModel(lambda r: "Yes.")).complete(_request()))
    assert isinstance(answer, Completion) and answer.text == "Yes."


def _request():
    from reflectory.models.protocol import Request, Segment

    return Request(segments=(Segment(text="Is it?"),), role="student.answer")


def test_spans_are_sent_where_the_environment_says(tmp_path):
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=server.serve_forever, daemon=True).start()
    code = """
from worlds import world_loop
from reflectory.observability.spans import sent_from_environment
from reflectory.testing.world import SyntheticWorld
with sent_from_environment():
    world_loop(SyntheticWorld(levels=2), max_iterations=1).run("What?")
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, timeout=120, capture_output=True
        )
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert {path for path, _ in got} == {"/v1/traces"}
    body = b"".join(content for _, content in got)
    assert b"chat student.answer" in body and b"invoke_workflow reflective_loop" in body
