"""reflectory cache: what is in it, one call in full, and pruning."""

import json

import pytest
from worlds import world_loop

from reflectory.cli.cache import seconds_of
from reflectory.cli.main import run_command
from reflectory.errors import UserError
from reflectory.runs.lock import FolderLock
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)


@pytest.fixture
def run(tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    found = list(loop.map(["What is known?", "What is unknown?"], output=tmp_path / "run"))
    return tmp_path / "run", [t.id for t in found]


def said(capfd, *arguments):
    code = run_command(["cache", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_calls_are_shown_by_role_and_model(capfd, run):
    folder, _ = run
    code, out, _ = said(capfd, folder, "--json")
    view = json.loads(out)
    roles = {group["role"]: group["totals"]["calls"] for group in view["groups"]}
    assert code == 0 and set(roles) == {
        "student.answer",
        "student.reflect",
        "student.respond",
        "teacher.ask",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sum(roles.values()) == manifest["totals"]["calls"] and view["file_bytes"] > 0
    code, out, _ = said(capfd, folder)
    assert code == 0 and "teacher.ask" in out and "prompt segments" in out
    _, out, _ = said(capfd, folder, "--role", "teacher.", "--json")
    assert [group["role"] for group in json.loads(out)["groups"]] == ["teacher.ask"]


def test_a_loop_leads_to_its_calls_and_these_to_what_was_said(capfd, run):
    folder, ids = run
    _, out, _ = said(capfd, folder, "--trajectory", ids[0], "--json")
    calls = json.loads(out)
    assert {call["role"] for call in calls} >= {"student.respond", "student.reflect"}
    code, out, _ = said(capfd, folder, "--trajectory", ids[0])
    assert code == 0 and calls[0]["key"][:12] in out
    call = next(call for call in calls if call["role"] == "student.respond")
    code, out, _ = said(capfd, folder, "--key", call["key"][:20])
    assert code == 0 and call["response"]["text"] in out
    assert call["request"]["segments"][-1]["text"].splitlines()[0] in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--key", "zzzz"), "no call has a key"),
        (("--trajectory", "nobody"), "no calls are noted"),
        (("--prune",), "without saying which"),
        (("--prune", "--key", "a"), "without saying which"),
        (("--older-than", "yesterday"), "is no age"),
    ],
)
def test_mistakes_are_one_message(capfd, run, options, says):
    code, out, err = said(capfd, run[0], *options)
    assert code == 2 and says in err.replace("\n", " ") and out == ""


def test_a_folder_that_is_no_run_is_left_alone(capfd, tmp_path):
    code, _, err = said(capfd, tmp_path)
    assert code == 2 and "calls.sqlite" in err and not list(tmp_path.iterdir())


def test_pruning_takes_out_what_was_named_and_not_while_a_run_goes_on(capfd, run):
    folder, _ = run
    lock = FolderLock(folder / ".lock")
    code, _, err = said(capfd, folder, "--prune", "--role", "teacher.")
    assert code == 2 and "in use" in err
    lock.release()
    code, out, _ = said(capfd, folder, "--prune", "--role", "teacher.", "--older-than", "1h")
    assert code == 0 and "0 calls" in out
    code, out, _ = said(capfd, folder, "--prune", "--role", "teacher.", "--json")
    gone = json.loads(out)
    assert code == 0 and gone["calls"] > 0
    _, out, _ = said(capfd, folder)
    assert "teacher.ask" not in out and f"{gone['calls']} calls were pruned" in out
    code, out, _ = said(capfd, folder, "--prune", "--older-than", "0s", "--json")
    assert code == 0 and json.loads(out)["calls"] > 0


def test_ages():
    assert [seconds_of(age) for age in ("90m", "1.5h", "30d", "2 w")] == [
        5400,
        5400,
        2_592_000,
        1_209_600,
    ]
    for wrong in ("", "5", "d", "-1d", "1y"):
        with pytest.raises(UserError, match="no age"):
            seconds_of(wrong)
