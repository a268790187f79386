"""reflectory show: the list of a run's trajectories, and one to read."""

import json

import pytest
from readable import whole_trajectory
from worlds import world_loop

from reflectory.cli.main import run_command
from reflectory.runs import RunView
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Failure, Trajectory

WORLD = SyntheticWorld(levels=2)
ASKED = ("What is known?", "Why [bold]not[/]? " + "And more. " * 60)


@pytest.fixture
def run(tmp_path):
    """Return a folder with two finished loops and one that failed."""
    folder = tmp_path / "run"
    list(world_loop(WORLD, max_iterations=1).map(ASKED, output=folder))
    error = Failure(step="respond", kind="BackendError", message="no answer")
    failed = Trajectory(id="zz-failed", instruction="\x1b[31mHow?", levels=("a",), error=error)
    with (folder / "trajectories.jsonl").open("a", encoding="utf-8") as file:
        file.write(failed.to_json() + "\n")
    return folder


def said(capfd, *arguments):
    code = run_command(["show", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def first_of(folder):
    return next(t for t in RunView.read(folder).trajectories if t.instruction == ASKED[0])


def test_without_an_id_the_trajectories_are_listed(capfd, run):
    code, out, err = said(capfd, run)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 6 and "\x1b" not in out
    listed = dict(zip(lines[1::2], lines[::2], strict=True))
    first = first_of(run)
    assert listed["    What is known?"] == (
        f"{first.id}  {first.grades[0]:.2f} > {first.grades[-1]:.2f}, max_iterations"
    )
    assert listed["    [31mHow?"] == "zz-failed  failed"
    long = next(line for line in listed if "[bold]not[/]?" in line)
    assert len(long) < 170 and long.endswith(" ...")
    assert "3 trajectories" in err


def test_the_list_is_one_json_document(capfd, run):
    code, out, _ = said(capfd, run, "--json")
    rows = {row["id"]: row for row in json.loads(out)}
    first = first_of(run)
    assert code == 0 and len(rows) == 3
    assert rows[first.id]["grades"] == first.grades and rows[first.id]["instruction"] == ASKED[0]
    assert rows["zz-failed"] == {
        "id": "zz-failed",
        "instruction": "\x1b[31mHow?",
        "status": "failed",
        "grades": [],
        "chosen": 0,
        "iterations": None,
        "stop": None,
        "failed_cells": 0,
        "flags": [],
    }


def test_one_is_read_by_the_beginning_of_its_id_with_its_calls(capfd, run):
    first = first_of(run)
    code, out, _ = said(capfd, run, first.id[:6])
    assert code == 0 and out.splitlines()[0] == ASKED[0]
    assert "What it answers" in out and "Iteration t = 0" in out and "Passages" in out
    # Two responses, two questions, two answers; the grader of the world asks no model.
    calls = next(line for line in out.splitlines() if line.startswith("Calls"))
    assert calls.split()[1] == "6," and "tokens read" in calls
    _, short, _ = said(capfd, run, first.id, "--no-passages")
    assert "Passages" not in short


def test_a_failed_one_is_read_too(capfd, run):
    code, out, _ = said(capfd, run, "zz")
    assert code == 0 and "failed: BackendError in the step respond: no answer" in out


def test_a_page_is_written_and_json_is_the_record(capfd, run, tmp_path):
    first, page = first_of(run), tmp_path / "new folder" / "first.html"
    code, out, err = said(capfd, run, first.id, "--html", page)
    assert code == 0 and out == "" and str(page) in err
    assert "<!doctype html>" in page.read_text("utf-8") and "tokens read" in page.read_text("utf-8")
    _, out, _ = said(capfd, run, first.id, "--json")
    assert Trajectory.model_validate_json(out) == first


def test_what_is_not_there_is_said_with_a_remedy(capfd, run, tmp_path):
    code, _, err = said(capfd, run, "nobody")
    assert code == 2 and "no trajectory with the id 'nobody'" in err and "ids look like" in err
    code, _, err = said(capfd, tmp_path / "none")
    assert code != 0 and "is no run directory" in err
    code, _, err = said(capfd, run, "--html", tmp_path / "x.html")
    assert code == 2 and "name its id" in err and not (tmp_path / "x.html").exists()


def test_a_run_that_has_finished_nothing_says_so(capfd, run):
    (run / "trajectories.jsonl").unlink()
    code, out, err = said(capfd, run)
    assert code == 0 and out == "" and "No loop has finished yet." in err
    _, out, _ = said(capfd, run, "--json")
    assert json.loads(out) == []


def test_a_run_without_places_shows_a_trajectory_without_its_calls(capfd, run):
    (run / "places.sqlite").unlink()
    code, out, _ = said(capfd, run, first_of(run).id)
    assert code == 0 and "What it answers" in out and "Calls" not in out


def test_cells_that_failed_and_flags_are_counted_in_the_list(capfd, run):
    with (run / "trajectories.jsonl").open("a", encoding="utf-8") as file:
        file.write(whole_trajectory().to_json() + "\n")
    _, out, _ = said(capfd, run)
    assert "000000-abc  0.41 > 0.82, epsilon, 1 cell failed, constant judge" in out
