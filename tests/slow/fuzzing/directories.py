"""Run directories: damaged files, lines and database cells, through every door to them."""

import contextlib
import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from worlds import world_loop

from fuzzing.commands import run_verb
from fuzzing.damage import NUMBERS, TEXTS, damaged_bytes, damaged_json, damaged_text
from fuzzing.tally import Case, Unhandled
from reflectory.errors import ReflectoryError
from reflectory.runs import RunView
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=2)
ASKED = ["What is known?", "What is unknown?"]
FORMATS = ("sft", "dpo", "kto", "feedback", "prompts")


@dataclass(frozen=True)
class Runs:
    """Two run directories as files in memory, and where copies of them go.

    Attributes:
        place: Folder for the copies.
        finished: The files of a run that ended.
        cut: Those of a run that was killed in its last loop.
        ids: The ids of the trajectories.
        keys: Some keys of calls.
    """

    place: Path
    finished: dict[str, bytes]
    cut: dict[str, bytes]
    ids: tuple[str, ...]
    keys: tuple[str, ...]


def _loop():
    return world_loop(WORLD, max_iterations=2, epsilon=1e-9)


def prepare(folder: Path) -> Runs:
    """Make the run directories that are damaged."""
    cut: list[dict[str, bytes]] = []

    def keep(event):
        done = (folder / "run" / "trajectories.jsonl").exists()
        if done and event.step == "reflect" and event.iteration == 2 and not cut:
            cut.append(_files(folder / "run"))

    found = list(_loop().map(ASKED, concurrency=1, output=folder / "run", on_event=keep))
    finished = _files(folder / "run")
    with contextlib.closing(sqlite3.connect(folder / "run" / "calls.sqlite")) as connection:
        keys = tuple(key for (key,) in connection.execute("SELECT key FROM calls LIMIT 5"))
    shutil.rmtree(folder / "run")
    return Runs(folder, finished, cut[0], tuple(t.id for t in found), keys)


def _files(run: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in sorted(run.iterdir())
        if file.name != ".lock" and not file.name.endswith("-shm")
    }


def run_case(case: Case, folder: Runs) -> None:
    """Damage one copy of a run directory, look at it, and go through two more doors."""
    run = folder.place / "copy"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    for name, data in case.dice.choice((folder.finished, folder.cut)).items():
        (run / name).write_bytes(data)
    for _ in range(case.dice.choice((1, 1, 2, 3))):
        case.dice.choice((_outside, _lines, _cells, _cells))(case, run)
    refused: list[ReflectoryError] = []
    doors = (_trace, _cache, _plan, _dataset, _resume, _resume)
    for door in (_view, *case.dice.sample(doors, 2)):
        try:
            door(case, run, folder)
        except ReflectoryError as error:
            case.refused(error)
            refused.append(error)
    case.outcome = type(refused[0]).__name__ if refused else "fine"


def _outside(case: Case, run: Path) -> None:
    """Damage a file without knowing what is in it."""
    dice = case.dice
    files = sorted(path for path in run.iterdir() if path.is_file())
    if not files:
        return
    file, other = dice.choice(files), dice.choice(files)
    way = dice.randrange(8)
    if way == 0:
        file.unlink()
    elif way == 1:
        file.write_bytes(b"")
    elif way == 2:
        file.write_bytes(other.read_bytes())
    elif way == 3 and dice.random() < 0.3:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damaged_bytes(dice, file.read_bytes(), most=dice.choice((1, 4, 30))))


def _lines(case: Case, run: Path) -> None:
    """Damage the values in a file of JSON, which stays JSON."""
    name = case.dice.choice(("manifest.json", "plan.json", *["trajectories.jsonl"] * 2))
    file = run / name
    try:
        values = [json.loads(line) for line in _texts(file)]
    except (OSError, ValueError):
        return  # another damage was faster
    if not values:
        return
    number = case.dice.randrange(len(values))
    values[number] = damaged_json(case.dice, values[number], most=2)
    try:
        lines = [json.dumps(value, ensure_ascii=case.dice.random() < 0.5) for value in values]
    except ValueError:
        return  # a number that Python does not write
    file.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogatepass"))


def _texts(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    return text.splitlines() if file.suffix == ".jsonl" else [text]


def _cells(case: Case, run: Path) -> None:
    """Damage cells, rows and tables of a database, which stays one."""
    dice = case.dice
    file = run / dice.choice(("calls.sqlite", "checkpoints.sqlite", "places.sqlite"))
    if not file.is_file():
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as opened:
        opened.execute("PRAGMA synchronous=OFF")
        opened.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        names = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if not names:
            return
        (table,) = dice.choice(names)
        way = dice.randrange(20)
        if way == 0:
            opened.execute(f'DROP TABLE "{table}"')
        elif way == 1:
            opened.execute(f"PRAGMA user_version={dice.choice((0, 2, 99, -1))}")
        elif way == 2:
            opened.execute(f'DELETE FROM "{table}"')
        elif way == 3:
            opened.execute(f'ALTER TABLE "{table}" ADD COLUMN further TEXT')
        else:
            _cell(case, opened, table)
        opened.commit()


def _cell(case: Case, opened: sqlite3.Connection, table: str) -> None:
    """Put an odd value into one column: of all rows, or of those that have the same there."""
    dice = case.dice
    column = dice.choice([row[1] for row in opened.execute(f'PRAGMA table_info("{table}")')])
    count = opened.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
    if not count:
        return
    place = f"ORDER BY 1 LIMIT 1 OFFSET {dice.randrange(count)}"
    old = opened.execute(f'SELECT "{column}" FROM "{table}" {place}').fetchone()[0]
    new = _odd_cell(case, old)
    # A text that is no UTF-8 gets into a table only as bytes that are called a text.
    value = "CAST(? AS TEXT)" if isinstance(new, bytes) and dice.random() < 0.3 else "?"
    change = f'UPDATE OR IGNORE "{table}" SET "{column}" = {value}'
    if dice.random() < 0.6:
        opened.execute(f'{change} WHERE "{column}" IS ?', [new, old])
    else:
        opened.execute(change, [new])


def _odd_cell(case: Case, old: object) -> object:
    dice = case.dice
    if isinstance(old, bytes) and dice.random() < 0.8:
        return damaged_bytes(dice, old)
    if isinstance(old, str) and dice.random() < 0.7:
        try:
            value = json.loads(old)
            text = json.dumps(damaged_json(dice, value), ensure_ascii=True)
        except (ValueError, RecursionError):
            text = damaged_text(dice, old)
        return text.encode("utf-8", "replace").decode()
    text = dice.choice(TEXTS).encode("utf-8", "replace")
    number = dice.choice(NUMBERS)
    small = isinstance(number, float) or abs(number) < 2**63
    return dice.choice((text.decode(), text, None, b"\xff\xfe\0", number if small else -1))


def _view(case: Case, run: Path, runs: Runs) -> None:
    view = RunView.read(run)
    case.past = True
    if not view.config.loop.levels:
        raise Unhandled("a loop without levels")
    for trajectory in view.trajectories:
        trajectory.to_json().encode()
        shape = trajectory.alignment.values.shape
        if trajectory.status not in {"done", "failed"} or len(shape) != 2:
            raise Unhandled("a trajectory without a status or a matrix")
        if len(trajectory.grades) != len(trajectory.groundedness):
            raise Unhandled("a trajectory with more grades than responses")
        if trajectory.response and not trajectory.responses:
            raise Unhandled("a response out of nothing")
        for passage in trajectory.context:
            passage.model_dump_json().encode()


def _trace(case: Case, run: Path, runs: Runs) -> None:
    flags = case.dice.sample(("--json", "--prompts"), case.dice.randint(0, 2))
    run_verb("trace", str(run), case.dice.choice(runs.ids), *flags)


def _cache(case: Case, run: Path, runs: Runs) -> None:
    ways = (
        [],
        ["--key", case.dice.choice(runs.keys)],
        ["--trajectory", case.dice.choice(runs.ids)],
        ["--role", "teacher.", "--older-than", "0s", "--prune"],
    )
    flags = ["--json"] if case.dice.random() < 0.5 else []
    run_verb("cache", str(run), *case.dice.choice(ways), *flags)


def _plan(case: Case, run: Path, runs: Runs) -> None:
    run_verb("plan", str(run), *(["--json"] if case.dice.random() < 0.5 else []))


def _dataset(case: Case, run: Path, runs: Runs) -> None:
    made = runs.place / "dataset"
    shutil.rmtree(made, ignore_errors=True)
    kind = case.dice.choice(FORMATS)
    code, _ = run_verb("dataset", str(run), "--format", kind, "-o", str(made), "--json")
    if code == 0 and not any(made.iterdir()):
        raise Unhandled("a data set without files")


def _resume(case: Case, run: Path, runs: Runs) -> None:
    found = list(_loop().map(ASKED, concurrency=2, output=run))
    if sorted(t.id for t in found) != sorted(runs.ids):
        raise Unhandled("a resumed run loses or doubles an instruction")
    if len(RunView.read(run).trajectories) < len(ASKED):
        raise Unhandled("a resumed run keeps fewer loops than there are instructions")
