"""A round is killed inside each stage, in calls, steps, and between writing and synchronising."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from rounds_target import check, undisturbed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]

STAGES = [f"stage:{s}" for s in ("practise", "reflect", "gather", "curate", "train", "evaluate")]
CALLS = [f"call:{n}" for n in (1, 9, 20, 33)]
STEPS = [f"step:{n}" for n in (1, 5, 24)]
SYNCS = [f"sync:{n}" for n in (3, 20, 60, 75, 90, 105, 120, 130, 138)]
PLACES = [f"place:{n}" for n in (5, 12, 20, 26, 34, 40, 44, 46)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a round that nobody disturbed."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("point", [*STAGES, *CALLS, *STEPS, *SYNCS, *PLACES])
def test_a_killed_round_ends_as_an_undisturbed_one(folder, tmp_path, point):
    check(folder, tmp_path / "killed", point)
