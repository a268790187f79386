"""Fifty kills at random points, and kills inside every named stage of a run of loops."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from loop_kills import POINTS, check, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]

OFTEN = {"asked": (1, 7, 25, 48), "recorded": (1, 11, 30), "step": (1, 9, 40), "written": (5, 33)}
NAMED = [f"{name}:{n}" for name in POINTS for n in OFTEN.get(name, (1, 2, 3))]
RANDOM = [f"random:{seed}" for seed in range(50)]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Return a folder with a run that nobody disturbed."""
    before = os.environ.get("PYTHONPATH")
    # The server that the processes are forked from imports the target beforehand.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    folder = tmp_path_factory.mktemp("calm")
    assert start(folder / "run", folder / "log") == 0
    yield folder
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.mark.parametrize("point", [*NAMED, *RANDOM])
def test_a_killed_run_ends_as_an_undisturbed_one(calm, tmp_path, point):
    check(calm, tmp_path / "killed", point)
