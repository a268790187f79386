"""reflectory run as a process: signals, events, failures, and what a killed reader does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import run_target
from holding import held

from reflectory.cli.run_summary import Tally
from reflectory.runs import RunView
from reflectory.runs.stopping import Stoppable
from reflectory.types import Failure, Trajectory

HERE = Path(__file__).parent
COUNT = 12
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def folder(tmp_path):
    lines = [json.dumps({"instruction": f"What is thing {n}?"}) for n in range(COUNT)]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    return tmp_path


def verb(folder, *options):
    return [
        *("run", "-d", "nothing", "--instructions", str(folder / "asked.jsonl")),
        *("-o", str(folder / "run"), "--max-iterations", "1", "--concurrency", "2"),
        *options,
    ]


def start(folder, *options, delay):
    target = [str(HERE / "run_target.py"), str(folder / "log"), str(delay)]
    return subprocess.Popen(
        [sys.executable, *target, *verb(folder, *options)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def here(folder, capfd, monkeypatch):
    """Return a function that runs the command in this process."""
    monkeypatch.setattr(run_target.run, "loop_from", run_target.run.loop_from)

    def run_here(*options):
        code = run_target.main(folder / "log", 0.0, verb(folder, *options))
        said = capfd.readouterr()
        return code, said.out, said.err

    return run_here


def wait_for_calls(folder, number):
    deadline = time.monotonic() + 60
    log = folder / "log"
    while time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= number:
            return
        time.sleep(0.01)
    raise AssertionError("the run made no calls")


def wait_for_the_answer(process):
    """Wait until the process says that it has seen the signal."""
    assert process.stderr.readline() == "\n"
    assert "Finishing what is in flight" in process.stderr.readline()


def calls(folder):
    return (folder / "log").read_text().splitlines()


def kept(folder):
    return {t.id: t.status for t in RunView.read(folder / "run").trajectories}


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_what_is_in_flight_and_the_same_command_goes_on(folder, number, here):
    with held(folder / "log", 3):
        process = start(folder, "--quiet", delay=0.1)
        wait_for_calls(folder, 3)
        process.send_signal(number)
        wait_for_the_answer(process)
    code, out, err = end(process)
    assert code == 130 and "goes on from there" in err
    assert "Traceback" not in err
    assert 2 <= len(kept(folder)) < COUNT and set(kept(folder).values()) == {"done"}
    # What was begun is recorded as a whole: no loop stands half-way.
    first = calls(folder)
    assert RunView.read(folder / "run").manifest.totals.calls == len(first)
    assert RunView.read(folder / "run").manifest.finished is None
    assert out == ""  # quiet says nothing but errors, and the results are there
    code, _, _ = here("--quiet")
    assert code == 0 and len(kept(folder)) == COUNT
    assert len(set(calls(folder))) == len(calls(folder))  # nothing was asked twice
    assert RunView.read(folder / "run").manifest.finished is not None


@posix
def test_a_second_signal_stops_at_once_and_the_same_command_goes_on(folder, here):
    with held(folder / "log", 4):
        process = start(folder, "--quiet", delay=0.1)
        wait_for_calls(folder, 5)
        process.send_signal(signal.SIGINT)
        wait_for_the_answer(process)  # or the two would arrive as one
        process.send_signal(signal.SIGINT)
        code, _, err = end(process)  # while what is in flight will never be answered
    assert code == 130 and "goes on from there" in err and "Traceback" not in err
    assert kept(folder) == {}
    asked, recorded = len(calls(folder)), RunView.read(folder / "run").manifest.totals.calls
    code, _, _ = here("--quiet")
    assert code == 0 and len(kept(folder)) == COUNT
    repeated = len(calls(folder)) - len(set(calls(folder)))
    assert repeated <= asked - recorded <= 4  # only those that were in flight


def test_items_that_end_on_request_know_whether_any_were_left():
    asked = threading.Event()
    items = Stoppable(iter(range(3)), asked)
    assert next(items) == 0
    asked.set()
    assert list(items) == [] and items.left and list(items) == []
    asked.clear()
    items = Stoppable(range(1), asked)
    assert next(items) == 0
    asked.set()
    assert list(items) == [] and not items.left  # the last one had been given out


def test_events_are_json_lines_that_add_up(folder, here):
    (folder / "log.broken").write_text("thing 3?")
    code, out, _ = here("--events")
    assert code == 1
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started" and kinds[-1] == "summary"
    assert events[0]["instructions"] == COUNT
    assert set(kinds) == {"started", "step", "finished", "failed", "summary"}
    finished = [event for event in events if event["event"] == "finished"]
    (failed,) = (event for event in events if event["event"] == "failed")
    assert len(finished) == COUNT - 1 and failed["error"]["kind"] == "BackendError"
    assert "does not like" in failed["error"]["message"]
    summary = events[-1]
    assert (summary["done"], summary["failed"], summary["interrupted"]) == (COUNT - 1, 1, False)
    # Loops share calls of the teacher, and what is shared counts in each of them.
    assert {event["tokens"]["calls"] for event in finished} == {6}
    assert failed["tokens"]["calls"] == 0 and summary["totals"]["calls"] < 6 * COUNT
    assert all(event["tokens"]["prompt"] > 0 < event["tokens"]["completion"] for event in finished)
    steps = {}
    for event in events:
        if event["event"] == "step":
            steps.setdefault(event["id"], []).append(event["step"])
    assert all(steps[event["id"]][-1] == "conclude" for event in finished)
    assert {event["stop"]["rule"] for event in finished} and all(e["time"] > 0 for e in events)
    levels = {event["level"] for event in events if event.get("step") == "answer"}
    assert levels == {"level 1", "level 2"}


def test_a_failure_is_listed_and_only_failures_run_again_on_request(folder, here):
    broken = folder / "log.broken"
    broken.write_text("thing 3?")
    code, out, err = here("--quiet")
    assert code == 1 and out == "" and "does not like 'thing 3?'" in err and "-> wait" in err
    code, out, _ = here()
    assert code == 1 and "does not like 'thing 3?'" in out.replace("\n", "")
    assert f"{COUNT - 1} done, 1 failed" in out.replace("\n", " ") and "--retry-failed" in out
    assert sorted(kept(folder).values()).count("failed") == 1
    broken.unlink()
    before = len(calls(folder))
    code, _, _ = here("--quiet")  # not without being asked
    assert code == 1 and len(calls(folder)) == before
    code, _, _ = here("--quiet", "--retry-failed")
    assert code == 0 and set(kept(folder).values()) == {"done"} and len(kept(folder)) == COUNT
    assert len(calls(folder)) > before and len(set(calls(folder))) == len(calls(folder))
    lines = (folder / "run" / "trajectories.jsonl").read_text().splitlines()
    assert len(lines) == COUNT + 1  # the failure stays in the file, and the later line counts


def test_json_is_one_list_as_before(folder, here):
    code, out, _ = here("--json")
    plan = json.loads((folder / "run" / "plan.json").read_text())
    assert plan["instructions"] == COUNT
    rows = json.loads(out)
    assert code == 0 and len(rows) == COUNT
    assert {row["status"] for row in rows} == {"done"} and all("alignment" in row for row in rows)
    code, out, _ = here("--json", "--events")
    assert code == 2 and out == ""


@posix
def test_a_run_outlives_the_reader_of_its_events(folder):
    process = start(folder, "--events", delay=0.02)
    assert json.loads(process.stdout.readline())["event"] == "started"
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert "Traceback" not in process.stderr.read() and len(kept(folder)) == COUNT
    process.stderr.close()


@posix
def test_the_synchronous_door_finishes_what_is_in_flight(folder):
    code = (
        "import signal, sys, pathlib\n"
        "from kill_target import WORLD, logged\n"
        "from worlds import world_loop\n"
        # Whoever runs tests in the background hands on that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "log, run = map(pathlib.Path, sys.argv[1:])\n"
        "loop = world_loop(WORLD, max_iterations=1, teacher=logged(WORLD.teacher(), log, 0.1),\n"
        "                  student=logged(WORLD.student(), log, 0.1))\n"
        "asked = [f'What is thing {n}?' for n in range(12)]\n"
        "seen = []\n"
        "try:\n"
        "    for found in loop.map(asked, concurrency=2, output=run):\n"
        "        seen.append(found.id)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', len(seen))\n"
    )
    with held(folder / "log", 3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "log"), str(folder / "run")],
            env={**os.environ, "PYTHONPATH": str(HERE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_calls(folder, 3)
        process.send_signal(signal.SIGINT)
    returned, out, err = end(process)
    assert returned == 0 and "interrupted" in out, err
    seen = int(out.split()[1])
    assert 2 <= seen < COUNT and len(kept(folder)) == seen
    assert RunView.read(folder / "run").manifest.totals.calls == len(calls(folder))


def test_a_tally_keeps_counts_and_a_few():
    tally = Tally()
    for number in range(1000):
        error = Failure(step="loop", kind="E", message=f"m{number}") if number % 2 else None
        tally.add(Trajectory(id=f"{number}", instruction="i", levels=("basic",), error=error))
        if number == 2:
            assert len(tally.few) == 3
    assert (tally.done, tally.failed, tally.count) == (500, 500, 1000)
    assert tally.few == [] and len(tally.causes) == 20 and tally.share_ungraded == 0.0
