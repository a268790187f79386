"""Ten thousand damaged inputs: nothing comes out but errors that were raised on purpose.

Four kinds of input come from outside: configurations, documents, run directories, and what
models say. Each case is decided by its kind and its number, so that a fault is found again by
running ``run_cases(kind, range(number, number + 1), ...)``.
"""

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from fuzzing import configurations, directories, documents, outputs
from fuzzing.tally import Tally, run_cases

pytestmark = pytest.mark.slow

CASES = {"configurations": 3500, "documents": 4000, "directories": 800, "outputs": 1700}
"""How many there are of each kind."""


@pytest.fixture(scope="module")
def tallies():
    """Return what came of the cases, by kind; filled by the tests before the last one."""
    return {}


@pytest.fixture(scope="module")
def quiet_git():
    """Keep 300 resumed runs from asking git for the commit; that it works is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reflectory.runs.manifest.working_copy_commit", lambda folder: None)
        yield


@pytest.fixture
def fuzz(tallies, capsys):
    """Return what runs all cases of a kind, prints what came of them, and finds no fault."""

    def run_all(kind: str, run) -> Tally:
        tally = tallies[kind] = Tally()
        run_cases(kind, range(CASES[kind]), run, tally)
        share = tally.past / tally.cases
        with capsys.disabled():
            print(f"\n{kind}: {tally.cases} cases, {share:.0%} past the first parser: ", end="")
            print(", ".join(f"{n} {name}" for name, n in tally.outcomes.most_common()))
        faults = [f"{len(cases)}: {fault} ({cases[0]})" for fault, cases in tally.faults.items()]
        assert not faults, "\n".join(faults)
        return tally

    return run_all


def test_configurations_are_loaded_and_planned_or_refused(tmp_path, fuzz):
    tally = fuzz("configurations", partial(configurations.run_case, folder=tmp_path))
    assert tally.outcomes["planned"] > 400  # not all are refused


def test_documents_are_read_and_cut_or_refused(tmp_path, fuzz):
    tally = fuzz("documents", partial(documents.run_case, folder=tmp_path))
    read = {name for name in tally.outcomes if name.startswith("read ")}
    assert len(read) == len(documents.SAMPLES)


def test_run_directories_are_read_and_resumed_or_refused(tmp_path, fuzz, quiet_git):
    runs = directories.prepare(tmp_path)
    tally = fuzz("directories", partial(directories.run_case, folder=runs))
    assert tally.outcomes["fine"] > 300


def test_what_models_say_is_understood_or_recorded_as_a_failure(tmp_path, fuzz):
    tally = fuzz("outputs", partial(outputs.run_case, folder=tmp_path))
    assert tally.outcomes["loop done"] > 500


def test_half_of_ten_thousand_cases_get_past_the_first_parser(tallies):
    if tallies.keys() != CASES.keys():
        pytest.skip("counts the cases of the other tests of this file")
    assert sum(tally.cases for tally in tallies.values()) >= 10_000
    assert sum(tally.past for tally in tallies.values()) >= 5_000
