"""What `map` takes beside instructions: a shared cache, a budget, another try of what failed."""

from contextlib import closing

import pytest
from worlds import world_loop

from reflectory.config import BudgetConfig
from reflectory.errors import BackendError, BudgetSpent, RunDirectoryError, UserError
from reflectory.runs import CallCache, RunView
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = ["What is known?", "What is unknown?"]


class Counted:
    """A loop whose models count what they were asked."""

    def __init__(self):
        self.models = (WORLD.teacher(), WORLD.student())
        teacher, student = self.models
        self.loop = world_loop(WORLD, teacher=teacher, student=student, max_iterations=2)

    @property
    def calls(self):
        return sum(len(model.requests) for model in self.models)

    def map(self, **options):
        return {t.id: t.to_json() for t in self.loop.map(ASKED, **options)}


@pytest.mark.parametrize("kept", [True, False])
def test_loops_that_share_a_cache_ask_once(tmp_path, kept):
    def output(name):
        return tmp_path / name if kept else None

    first, second = Counted(), Counted()
    said = first.map(cache=tmp_path / "shared", output=output("one"))
    assert first.calls > 0
    assert second.map(cache=tmp_path / "shared", output=output("two")) == said
    assert second.calls == 0
    with closing(CallCache(tmp_path / "shared" / "calls.sqlite")) as shared:
        assert shared.stats().total.calls == first.calls
    if kept:
        assert RunView.read(tmp_path / "two").config.cache == str(tmp_path / "shared")


def test_a_budget_stops_the_call_and_more_of_it_goes_on(tmp_path):
    whole, limited = Counted(), Counted()
    expected = whole.map(output=tmp_path / "whole")
    with pytest.raises(BudgetSpent, match="10 calls"):
        limited.map(budget=BudgetConfig(calls=10), output=tmp_path / "run")
    assert limited.calls == 10
    assert limited.map(budget=BudgetConfig(calls=1000), output=tmp_path / "run") == expected
    assert limited.calls == whole.calls


def test_without_a_run_directory_a_budget_is_that_of_the_call():
    counted = Counted()
    for times in (1, 2):
        with pytest.raises(BudgetSpent):
            counted.map(budget=BudgetConfig(calls=10))
        assert counted.calls == 10 * times


def test_what_failed_is_tried_again_when_that_is_asked_for(tmp_path):
    broken = True
    student = WORLD.student()

    async def speak(request):
        if broken:
            raise BackendError("the server is away", hint="wait", retryable=False)
        return (await student.complete(request)).text

    loop = world_loop(WORLD, student=ScriptedModel(speak, name="student"), max_iterations=1)
    output = tmp_path / "run"
    assert {t.status for t in loop.map(ASKED, output=output)} == {"failed"}
    broken = False
    assert {t.status for t in loop.map(ASKED, output=output)} == {"failed"}
    assert {t.status for t in loop.map(ASKED, output=output, retry_failed=True)} == {"done"}


def test_what_is_no_budget_and_no_folder_for_a_cache_is_refused(tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    with pytest.raises(UserError, match="budget must be a BudgetConfig, got dict"):
        list(loop.map(ASKED, budget={"calls": 3}))
    list(loop.map(ASKED, output=tmp_path / "run"))
    with pytest.raises(RunDirectoryError, match="is a run directory"):
        list(loop.map(ASKED, cache=tmp_path / "run"))
