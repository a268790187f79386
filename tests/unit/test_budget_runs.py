"""Budgets of whole runs: they stop cleanly, go on with more, and count what was spent before."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from worlds import world_loop

from reflectory import RunConfig
from reflectory.background import BACKGROUND
from reflectory.config import BudgetConfig
from reflectory.errors import BudgetSpent, UserError
from reflectory.models.prices import PriceList
from reflectory.runner import Runner, run_config_of
from reflectory.runs import CallCache, RunView, read_instructions
from reflectory.runs.manifest import Session
from reflectory.runs.spending import seconds_of
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = [f"What is known of case {n}?" for n in range(6)]
PRICES = """
models:
  world-teacher: {input: 1.0, output: 2.0, source: a contract, date: 2026-11-01}
  world-student: {input: 3.0, output: 4.0}
"""


class Counted:
    """A loop of the world, its models, and its runs under a budget."""

    def __init__(self, folder, **config):
        self.folder = folder
        self.teacher, self.student = WORLD.teacher(), WORLD.student()
        options = {"max_iterations": 2, **config}
        self.loop = world_loop(WORLD, teacher=self.teacher, student=self.student, **options)

    @property
    def calls(self) -> int:
        return len(self.teacher.requests) + len(self.student.requests)

    def run(self, *, concurrency: int = 2, output: bool = True, **budget):
        settings = run_config_of(self.loop.sources, self.loop.config)
        settings = settings.model_copy(update={"budget": BudgetConfig(**budget)})
        self.runner = Runner(self.loop, settings=settings)
        stream = self.runner.stream(
            read_instructions(ASKED),
            concurrency=concurrency,
            output=self.folder if output else None,
        )
        return {t.id: t for t in BACKGROUND.iterate(stream)}

    def manifest(self):
        return json.loads((self.folder / "manifest.json").read_text())


def test_a_run_within_its_budget_is_as_one_without(tmp_path):
    plain = Counted(tmp_path / "plain").run()
    limited = Counted(tmp_path / "limited").run(calls=1000, tokens=10**7, hours=100)
    assert {i: t.to_json() for i, t in plain.items()} == {
        i: t.to_json() for i, t in limited.items()
    }


@pytest.mark.parametrize("concurrency", [1, 2, 6])
def test_a_run_stops_at_its_budget_and_goes_on_with_more(tmp_path, concurrency):
    whole = Counted(tmp_path / "whole")
    expected = {i: t.to_json() for i, t in whole.run().items()}
    counted = Counted(tmp_path / "run")
    budgets = 0
    found = {}
    for calls in range(15, 400, 15):
        budgets += 1
        try:
            found = counted.run(concurrency=concurrency, calls=calls)
            break
        except BudgetSpent as stop:
            assert f"the budget of {calls} calls" in stop.message
            # Nothing in flight was lost: what was made is recorded.
            assert counted.manifest()["totals"]["calls"] == counted.calls == calls
            statuses = {t.status for t in RunView.read(tmp_path / "run").trajectories}
            assert statuses <= {"done"}
    assert budgets > 3 and counted.calls == whole.calls
    assert {i: t.to_json() for i, t in found.items()} == expected
    assert len(counted.manifest()["sessions"]) == budgets


def test_recorded_calls_pass_a_spent_budget(tmp_path):
    counted = Counted(tmp_path / "run")
    first = counted.run()
    assert counted.run(calls=1) == first
    (tmp_path / "run" / "trajectories.jsonl").unlink()
    made = counted.calls
    assert counted.run(calls=1) == first and counted.calls == made


def test_tokens_of_all_agents_stay_below_the_limit(tmp_path):
    counted = Counted(tmp_path / "run")
    with pytest.raises(BudgetSpent, match="tokens"):
        counted.run(concurrency=6, tokens=4000)
    spent = counted.manifest()["totals"]["spent"]
    assert 3000 < spent["tokens"] <= 4000
    by_role = counted.manifest()["totals"]["tokens"].values()
    assert spent["tokens"] == sum(r["prompt_tokens"] + r["completion_tokens"] for r in by_role)
    assert counted.runner.ledger.spent().tokens == spent["tokens"]


def test_money_needs_a_price_for_every_model_before_the_first_call(tmp_path):
    counted = Counted(tmp_path / "run")
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {world-teacher: {input: 1.0, output: 2.0}}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reflectory.models.prices._IN_THIS_PROCESS", ())
        with pytest.raises(UserError, match="what world-student costs") as caught:
            counted.run(cost=1.0, prices=str(prices))
    assert counted.calls == 0 and "budget.prices" in caught.value.hint


def test_money_is_what_the_recorded_tokens_cost(tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    counted = Counted(tmp_path / "run")
    with pytest.raises(BudgetSpent, match=r"\$0.005 is spent"):
        counted.run(concurrency=4, cost=0.005, prices=str(prices))
    with CallCacheOf(tmp_path / "run") as cache:
        sums = cache.by_model()
    teacher, student = sums["world-teacher"], sums["world-student"]
    due = teacher.prompt_tokens + 2 * teacher.completion_tokens
    due += 3 * student.prompt_tokens + 4 * student.completion_tokens
    spent = counted.manifest()["totals"]["spent"]
    assert spent["cost"] == pytest.approx(due / 1e6, abs=1e-6)
    assert 0.004 < spent["cost"] <= 0.005
    assert counted.manifest()["sessions"][-1]["budget"] == {"cost": 0.005}


class CallCacheOf:
    def __init__(self, run):
        self.cache = CallCache(run / "calls.sqlite")

    def __enter__(self):
        return self.cache

    def __exit__(self, *_):
        self.cache.close()


def test_models_that_run_here_cost_nothing(tmp_path):
    counted = Counted(tmp_path / "run")
    counted.run(cost=0.01)
    assert counted.manifest()["totals"]["spent"]["cost"] == 0.0


def test_a_budget_holds_without_a_directory_too(tmp_path):
    counted = Counted(tmp_path / "run")
    with pytest.raises(BudgetSpent):
        counted.run(output=False, calls=7)
    assert counted.calls == 7 and not (tmp_path / "run").exists()


def test_hours_of_earlier_sessions_count(tmp_path):
    counted = Counted(tmp_path / "run")
    with pytest.raises(BudgetSpent):
        counted.run(calls=10)
    file = tmp_path / "run" / "manifest.json"
    data = json.loads(file.read_text())
    # It began earlier and did not end earlier, or its calls would come after its end.
    ended = datetime.fromisoformat(data["sessions"][0]["updated"])
    data["sessions"][0]["started"] = (ended - timedelta(hours=2)).isoformat()
    file.write_text(json.dumps(data))
    with pytest.raises(BudgetSpent, match="2 hours is spent"):
        counted.run(hours=2)
    assert counted.calls == 10
    counted.run(hours=3)
    assert 2.0 <= counted.manifest()["totals"]["spent"]["hours"] < 2.1


def session(start: float, end: float) -> Session:
    def text(moment):
        return datetime.fromtimestamp(moment, UTC).isoformat()

    return Session(
        started=text(start),
        updated=text(end),
        reflectory="0",
        commit=None,
        libraries={},
        python="",
        platform="",
    )


def test_a_killed_session_lasted_until_its_last_call():
    class Calls:
        """Recorded calls at known moments."""

        def __init__(self, *moments):
            self.moments = moments

        def last_created(self, before):
            return max((m for m in self.moments if m < before), default=None)

    killed, ended, idle = session(100, 100), session(300, 350), session(500, 500)
    calls = Calls(110, 160, 320, 340, 700)
    assert seconds_of([], calls, 50) == 0
    assert seconds_of([killed], calls, 300) == 60
    assert seconds_of([killed, ended], calls, 500) == 110
    assert seconds_of([killed, ended, idle], calls, 600) == 110
    assert seconds_of([killed, ended, idle], calls, 800) == 310


def test_the_budget_is_part_of_a_configuration_file(tmp_path):
    (tmp_path / "run.yaml").write_text("budget: {calls: 5, prices: mine.yaml}")
    settings = RunConfig.load(tmp_path / "run.yaml")
    assert settings.budget.limits == {"calls": 5}
    assert settings.budget.prices == str(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match=r"cannot read the prices .*mine\.yaml"):
        PriceList.load(settings.budget.prices)
