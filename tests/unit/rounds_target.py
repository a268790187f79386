"""Rounds that a test kills: ``play(folder, run, log, point)`` in a process of its own.

A point is ``stage:NAME`` (as its work begins), ``step:N`` (of the training), ``call:N`` (a
call of the student's that was not recorded yet), ``sync:N`` (a file is written and not
synchronised) or ``place:N`` (the N-th file or folder has just been put in place).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import improving
from improving import Told

from reflectory.models.local import LocalModel
from reflectory.models.protocol import content_hash


class Killer:
    """Ends this very process, as the operating system would, at a point."""

    def __init__(self, point: str) -> None:
        self.kind, _, at = point.partition(":")
        self.at = at
        self.seen: dict[str, int] = {}

    def pass_by(self, kind: str, name: str | None = None) -> None:
        self.seen[kind] = self.seen.get(kind, 0) + 1
        here = name if name is not None else str(self.seen[kind])
        if kind == self.kind and here == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Watched(Told):
    """Writes down which stages begin, and may be the end of them."""

    def __init__(self, killer: Killer, log: Path) -> None:
        super().__init__()
        self.killer, self.log = killer, log

    def stage(self, number, name, text):
        write(self.log, f"stage\t{number}\t{name}")
        self.killer.pass_by("stage", name)

    def training(self):
        return lambda step, steps, loss, seconds: self.killer.pass_by("step", str(step))


def write(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def play(folder: Path, run: Path, log: Path, point: str = "") -> None:
    """Make a round and write down every stage and every call that a model is asked to make."""
    os.environ["REFLECTORY_FORBID_MODELS"] = "0"
    improving.few_general_instructions()
    killer = Killer(point)
    _log_calls(killer, log)
    _count_files(killer)
    rounds = improving.rounds(folder, run)
    teacher = rounds._sources.teacher
    asked = teacher.complete

    async def complete(request):
        write(log, f"call\t{content_hash(teacher.fingerprint, 'complete', request.content())}")
        return await asked(request)

    teacher.complete = complete
    rounds.run(watcher=Watched(killer, log))
    write(log, f"seen\t{killer.seen}")


def _log_calls(killer: Killer, log: Path) -> None:
    ask = LocalModel._ask

    async def logged(self, request):
        kind = "score" if hasattr(request, "continuations") else "complete"
        write(log, f"call\t{content_hash(self.fingerprint, kind, request.content())}")
        killer.pass_by("call")
        return await ask(self, request)

    LocalModel._ask = logged


def _count_files(killer: Killer) -> None:
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def counted(descriptor):
        killer.pass_by("sync")
        fsync(descriptor)

    def placed(move):
        def moved(self, target):
            result = move(self, target)
            killer.pass_by("place")
            return result

        return moved

    os.fsync = counted
    Path.replace, Path.rename = placed(replace), placed(rename)


def kill_and_resume(folder: Path, at: Path, point: str) -> Ending:
    """Kill a round at a point, resume it, and return how it ended.

    The processes are forked from one that has imported everything, so that a try costs
    seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["improving", "peft", "trl", "transformers"])
    at.mkdir()
    first = context.Process(target=play, args=(folder, at / "run", at / "first.log", point))
    first.start()
    first.join(120)
    finished = finished_stages(at / "run")
    recorded = recorded_calls(at / "run")
    second = context.Process(target=play, args=(folder, at / "run", at / "second.log"))
    second.start()
    second.join(120)
    return Ending(first.exitcode, second.exitcode, finished, recorded, at)


@dataclass(frozen=True)
class Ending:
    """What a kill left, and what was done again after it."""

    killed: int | None
    resumed: int | None
    finished: set[str]
    recorded: set[str]
    at: Path

    def lines(self, log: str, kind: str) -> list[str]:
        file = self.at / log
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [line.split("\t")[-1] for line in lines if line.startswith(kind + "\t")]


def finished_stages(run: Path) -> set[str]:
    """Return the stages whose output is in place."""
    round_folder = run / "rounds" / "000"
    outputs = {
        "practise": "practice.jsonl",
        "gather": "candidates.jsonl",
        "curate": "dataset",
        "train": "adapter",
        "evaluate": "evaluation.json",
    }
    done = {stage for stage, name in outputs.items() if (round_folder / name).exists()}
    loops = round_folder / "loops" / "trajectories.jsonl"
    if loops.exists() and loops.read_bytes().count(b"\n") == len(improving.ASKED):
        done.add("reflect")
    return done


def recorded_calls(run: Path) -> set[str]:
    """Return the keys of all calls that are recorded in a run of rounds."""
    keys: set[str] = set()
    for file in run.rglob("calls.sqlite"):
        with closing(sqlite3.connect(file)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            if ("calls",) in tables:
                keys |= {key for (key,) in connection.execute("SELECT key FROM calls")}
    return keys


def outcome(run: Path) -> dict[str, object]:
    """Return what a disturbed and an undisturbed round must have in common."""
    folder = run / "rounds" / "000"
    adapter = folder / "adapter" / "adapter_model.safetensors"
    record = json.loads((folder / "round.json").read_text())
    students = json.loads((run / "students.json").read_text())
    return {
        "rows": hashlib.sha256((folder / "dataset" / "train.jsonl").read_bytes()).hexdigest(),
        "adapter": hashlib.sha256(adapter.read_bytes()).hexdigest(),
        "evaluation": (folder / "evaluation.json").read_text(),
        "decision": (record["decision"], record["reason"], record["trained"]),
        "current": students["current"],
        "students": len(students["students"]),
    }


def undisturbed(folder: Path) -> Path:
    """Fill a folder with a round that nobody disturbed, and return it."""
    improving.prepare(folder)
    ending = kill_and_resume(folder, folder / "whole", "never:0")
    assert (ending.killed, ending.resumed) == (0, 0)
    assert ending.lines("second.log", "stage") == []  # the second call finds all of it done
    return folder


def check(folder: Path, at: Path, point: str) -> None:
    """Kill a round at a point and hold what comes of it against the undisturbed one."""
    ending = kill_and_resume(folder, at, point)
    assert ending.killed == -signal.SIGKILL, f"the round was not killed at {point}"
    assert ending.resumed == 0
    assert outcome(at / "run") == outcome(folder / "whole" / "run")
    assert not ending.finished & set(ending.lines("second.log", "stage"))
    assert not ending.recorded & set(ending.lines("second.log", "call"))
    leftovers = [p for p in (at / "run").rglob(".*") if p.name != ".lock"]
    assert leftovers == []
