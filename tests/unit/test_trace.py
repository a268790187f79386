"""From a response back to the calls that made it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from holding import held
from kill_target import INSTRUCTIONS, WORLD
from worlds import world_loop

from reflectory.cli.main import run_command
from reflectory.errors import RunDirectoryError, UserError
from reflectory.models.protocol import Request
from reflectory.observability.trace import trace_of
from reflectory.runs import RunView
from reflectory.runs.places import CallPlace, CallPlaces
from reflectory.testing.models import ScriptedModel


@pytest.fixture
def run(tmp_path):
    """Return a folder with two finished loops, and what each model was asked."""
    teacher, student = WORLD.teacher(), WORLD.student()
    loop = world_loop(WORLD, max_iterations=2, epsilon=1e-9, teacher=teacher, student=student)
    list(loop.map(INSTRUCTIONS[:2], concurrency=2, output=tmp_path / "run"))
    return tmp_path / "run", [*teacher.requests, *student.requests]


def texts(prompt):
    return [text for _, text in prompt]


def test_every_call_of_a_trajectory_is_found_and_none_of_another(run):
    folder, requests = run
    traces = [trace_of(folder, name) for name in RunView.read(folder).trajectories.ids()]
    asked = sorted((r.role, r.seed, [s.text for s in r.segments]) for r in requests)
    calls = {c.key: c for t in traces for c in t.calls}  # loops share some of them
    assert sorted((c.role, c.seed, texts(c.prompt)) for c in calls.values()) == asked
    for trace in traces:
        others = {t.trajectory.instruction for t in traces} - {trace.trajectory.instruction}
        for call in trace.calls:
            assert not any(other in "".join(texts(call.prompt)) for other in others)


def test_each_call_has_its_place_output_model_passages_and_grade(run):
    folder, _ = run
    trajectory = next(iter(RunView.read(folder).trajectories))
    trace = trace_of(folder, trajectory.id)
    cells = {(c.iteration, c.level): c for c in trajectory.examinations}
    answers = [c for c in trace.calls if c.role == "student.answer"]
    assert {(c.iteration, c.level) for c in answers} == set(cells)
    for call in answers:
        cell = cells[call.iteration, call.level]
        assert call.output == cell.answer.text and call.grade == cell.feedback.score
        assert set(call.passages) == set(cell.answer.context)
        assert cell.question.text in texts(call.prompt)[-1]
        assert call.model == trajectory.models["student"] and call.step == "answer"
        assert call.usage["completion_tokens"] > 0 and call.kind == "complete"
    for call in trace.calls:
        if call.role == "teacher.ask":
            assert cells[call.iteration, call.level].question.text == call.output
            assert call.model == trajectory.models["teacher"] and call.grade is None
    respond = next(c for c in trace.calls if c.role == "student.respond")
    assert respond.output == trajectory.responses[0].text and respond.iteration == 0
    assert respond.grade == trajectory.grades[0]
    reflections = [c for c in trace.calls if c.role == "student.reflect"]
    assert [c.grade for c in reflections] == trajectory.grades[1:]


def test_scores_of_a_likelihood_are_shown_with_their_continuations(tmp_path):
    from reflectory.models.protocol import Capability, Scores, TokenScores, Usage

    class Scoring(ScriptedModel):
        capabilities = frozenset({Capability.SCORE})

        async def score(self, request):
            scores = tuple(TokenScores(logprobs=(-0.5, -0.25)) for _ in request.continuations)
            return Scores(continuations=scores, usage=Usage(prompt_tokens=3))

    inner = WORLD.teacher()

    async def speak(request: Request) -> str:
        return (await inner.complete(request)).text

    loop = world_loop(WORLD, max_iterations=1, teacher=Scoring(speak, name="t"), grader=None)
    done = list(loop.map(INSTRUCTIONS[:1], output=tmp_path / "run"))
    scored = [c for c in trace_of(tmp_path / "run", done[0].id).calls if c.kind == "score"]
    assert {c.step for c in scored} >= {"evaluate", "grade"}
    assert all("-0.7500" in c.output and c.seed is None for c in scored)


def test_a_killed_and_resumed_run_has_the_trace_of_an_undisturbed_one(tmp_path):
    def start(folder):
        target = Path(__file__).with_name("kill_target.py")
        return subprocess.Popen(
            [sys.executable, target, folder, tmp_path / "log"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    assert start(tmp_path / "whole").wait(120) == 0
    (tmp_path / "log").unlink()
    log = tmp_path / "log"
    with held(log, 14):
        process = start(tmp_path / "run")
        while not log.exists() or len(log.read_text().split("\n")) < 12:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "run").wait(120) == 0

    def places(folder):
        ids = sorted(RunView.read(folder).trajectories.ids())
        found = [trace_of(folder, name).calls for name in ids]
        return [
            sorted((c.key, c.role, c.step, c.iteration or -1, c.level or "") for c in calls)
            for calls in found
        ]

    assert places(tmp_path / "run") == places(tmp_path / "whole")


def test_pruned_calls_are_counted_as_lost(run):
    import sqlite3
    from contextlib import closing

    folder, _ = run
    name = min(RunView.read(folder).trajectories.ids())
    before = trace_of(folder, name)
    with closing(sqlite3.connect(folder / "calls.sqlite")) as connection, connection:
        connection.execute("DELETE FROM calls WHERE role = 'teacher.ask'")
    after = trace_of(folder, name)
    asked = {c.key for c in before.calls if c.role == "teacher.ask"}
    assert set(after.lost) == asked and len(after.calls) == len(before.calls) - len(asked)


def test_ids_may_be_short_and_mistakes_say_what_there_is(run, tmp_path):
    folder, _ = run
    name = min(RunView.read(folder).trajectories.ids())
    assert trace_of(folder, name[:8]).trajectory.id == name
    with pytest.raises(UserError, match="no trajectory") as caught:
        trace_of(folder, "zzz")
    assert name in str(caught.value)
    with pytest.raises(UserError, match="2 trajectories"):
        trace_of(folder, "0")
    with pytest.raises(UserError, match="2 trajectories"):
        trace_of(folder, "")
    with pytest.raises(RunDirectoryError):
        trace_of(tmp_path, "x")
    (folder / "places.sqlite").unlink()
    with pytest.raises(RunDirectoryError, match=r"places\.sqlite"):
        trace_of(folder, name)


def test_a_place_is_noted_once_and_survives_closing(tmp_path):
    place = CallPlace("ab" * 32, "teacher.ask", "ask", 0, "basic")
    for _ in range(2):
        places = CallPlaces(tmp_path / "places.sqlite")
        places.add("one", place)
        places.add("one", CallPlace("cd" * 32, "student.respond", "respond"))
        places.close()
        places.close()
    places = CallPlaces(tmp_path / "places.sqlite")
    assert places.of("one") == [place, CallPlace("cd" * 32, "student.respond", "respond")]
    assert places.of("two") == []


def test_the_command_shows_the_trace_to_people_and_machines(run, capsys):
    folder, _ = run
    trajectory = next(iter(RunView.read(folder).trajectories))
    assert run_command(["trace", str(folder), trajectory.id, "--prompts"]) == 0
    shown = capsys.readouterr().out
    assert "student.answer" in shown and trajectory.response in shown
    assert "graded" in shown and "world-teacher" in shown
    assert run_command(["trace", str(folder), trajectory.id, "--role", "student.", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["response"] == trajectory.response
    assert {c["role"].split(".")[0] for c in data["calls"]} == {"student"}
    assert set(data["passages"]) == set(trajectory.passages)
    assert run_command(["trace", str(folder), "zzz"]) == 2
