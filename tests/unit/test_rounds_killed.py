"""A round is killed and resumed: the same rows, adapter and decision, and nothing twice.

Two points here; ``tests/slow/test_rounds_killed_everywhere.py`` has many more.
"""

import sys

import pytest
from rounds_target import check, undisturbed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a round that nobody disturbed."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("point", ["step:12", "sync:40"])
def test_a_killed_round_ends_as_an_undisturbed_one(folder, tmp_path, point):
    check(folder, tmp_path / "killed", point)
