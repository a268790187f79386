"""Lines of trajectories that are JSON, and yet no whole trajectories."""

import json

import pytest
from worlds import world_loop

from reflectory.errors import IntegrityError
from reflectory.runs import RunView
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines") / "run"
    list(world_loop(WORLD, max_iterations=1).map(["What is known?"], output=folder))
    return folder


def another_level(line):
    line["examinations"][0]["level"] = "no level"


def a_late_cell(line):
    line["examinations"][0]["iteration"] = 2**62


def no_passages(line):
    line["passages"] = {}


def another_choice(line):
    line["chosen"] = 7


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        (another_level, "the level 'no level'"),
        (a_late_cell, "the iterations before t"),
        (no_passages, "the passage"),
        (another_choice, "the response R_7"),
    ],
)
def test_a_trajectory_that_refers_to_what_it_does_not_hold_is_damage(run, change, lacks):
    file = run / "trajectories.jsonl"
    before = file.read_text()
    line = json.loads(before)
    change(line)
    file.write_text(json.dumps(line) + "\n")
    try:
        kept = RunView.read(run).trajectories
        for read in (lambda: list(kept), lambda: kept.get(line["id"])):
            with pytest.raises(IntegrityError, match=lacks) as caught:
                read()
            assert line["id"] in caught.value.message and "delete its line" in caught.value.hint
    finally:
        file.write_text(before)
