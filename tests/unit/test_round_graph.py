"""The graph of rounds with work that only writes down what it is asked to do."""

import asyncio
from pathlib import Path

import pytest

from reflectory.errors import DatasetError, StorageError, TrainingError, UserError
from reflectory.graphs.round_state import RoundContext, RoundState, RoundWork, StageOutcome
from reflectory.graphs.self_improvement import STAGES, build_self_improvement, recursion_limit
from reflectory.improvement.driver import ReviewWaits, drive_rounds
from reflectory.runs.checkpoints import memory_checkpointer, open_checkpointer

NOWHERE = Path("no-such-run")


class Log:
    """Does nothing and remembers it; ``better`` says which rounds are better."""

    def __init__(self, better=(), broken=None):
        self.better, self.broken = set(better), broken or {}
        self.done, self.number, self.student = [], 0, 0

    async def begin(self):
        return self.number, self.student

    def __getattr__(self, name):
        if name not in STAGES:
            raise AttributeError(name)

        async def stage(number):
            self.done.append((name, number))
            error = self.broken.get((name, number))
            if error is not None:
                raise error
            counts = {"promote": number in self.better} if name == "evaluate" else {"rows": 3}
            return StageOutcome(f"rounds/{number:03d}/{name}", counts)

        return stage

    def _end(self, *what):
        self.done.append(what)
        self.number += 1

    async def promote(self, number, said):
        self._end("promote", number, dict(said))
        self.student += 1

    async def roll_back(self, number, said):
        self._end("roll_back", number, dict(said))

    async def fail(self, number, failure):
        self._end("fail", number, failure["kind"], failure["stage"])

    def review(self, number, what):
        return {"path": f"rounds/{number:03d}", "rows": 3}


def run(work, rounds=2, review=(), on_review=None, saver=None, settings=(), folder=NOWHERE):
    graph = build_self_improvement(review=review, checkpointer=saver or memory_checkpointer())
    return asyncio.run(
        drive_rounds(
            graph,
            RoundContext(work, rounds),
            folder,
            {"settings": list(settings)},
            on_review=on_review,
        )
    )


def test_the_double_meets_the_protocol():
    # From Python 3.12 on, isinstance does not see what __getattr__ gives.
    methods = [name for name in vars(RoundWork) if not name.startswith("_")]
    assert set(STAGES) < set(methods)
    assert all(callable(getattr(Log(), name)) for name in methods)


def test_stages_run_in_order_and_a_decision_ends_each_round():
    work = Log(better={0})
    state = run(work)
    stages = [(name, 0) for name in STAGES]
    assert work.done == [
        *stages,
        ("promote", 0, {}),
        *((name, 1) for name in STAGES),
        ("roll_back", 1, {}),
    ]
    assert state["decisions"] == {"0": "promoted", "1": "rolled_back"}
    assert (state["round"], state["student"]) == (2, 1)


def test_a_thousand_rounds_stay_below_the_limit_of_steps():
    work = Log()
    assert run(work, rounds=60)["round"] == 60
    assert recursion_limit(1000) > 1000 * (len(STAGES) + 4)


def test_nothing_is_left_to_do_when_all_rounds_are_made():
    work = Log()
    work.number = 2
    run(work)
    assert work.done == []


@pytest.mark.parametrize("error", [TrainingError("nan"), DatasetError("few")])
def test_a_round_that_cannot_learn_fails_and_ends_the_call(error):
    work = Log(broken={("train", 0): error})
    state = run(work)
    assert work.done[-1] == ("fail", 0, type(error).__name__, "train")
    assert ("practise", 1) not in work.done and state["decision"] == "failed"
    run(work)  # the next call makes the next round
    assert work.done[-1] == ("roll_back", 1, {})


def test_a_full_disk_is_no_failed_round():
    saver = memory_checkpointer()
    work = Log(better={0}, broken={("curate", 0): StorageError("full")})
    with pytest.raises(StorageError):
        run(work, saver=saver)
    assert work.done[-1] == ("curate", 0) and work.number == 0
    work.broken.clear()
    run(work, rounds=1, saver=saver)
    assert work.done[-1] == ("promote", 0, {})


def test_a_call_goes_on_behind_the_last_stage_of_its_checkpoint(tmp_path):
    for name in ("practise", "reflect", "gather"):
        (tmp_path / "rounds/000").mkdir(parents=True, exist_ok=True)
        (tmp_path / "rounds/000" / name).touch()
    work = Log(broken={("curate", 0): StorageError("full")})

    async def twice():
        async with open_checkpointer(tmp_path / "c.sqlite") as saver:
            graph = build_self_improvement(checkpointer=saver)
            live = RoundContext(work, 1)
            with pytest.raises(StorageError):
                await drive_rounds(graph, live, tmp_path, {"a": 1})
            work.broken.clear()
            work.done.clear()
            await drive_rounds(graph, live, tmp_path, {"a": 1})
        return [name for name, *_ in work.done]

    assert asyncio.run(twice()) == ["curate", "train", "evaluate", "roll_back"]


@pytest.mark.parametrize("what", ["settings", "file", "student"])
def test_a_checkpoint_that_no_longer_holds_is_not_gone_on_from(tmp_path, what):
    (tmp_path / "rounds/000").mkdir(parents=True)
    for name in ("practise", "reflect"):
        (tmp_path / "rounds/000" / name).touch()
    work = Log(broken={("gather", 0): StorageError("full")})
    saver = memory_checkpointer()
    with pytest.raises(StorageError):
        run(work, 1, saver=saver, folder=tmp_path)
    work.broken.clear()
    work.done.clear()
    if what == "file":
        (tmp_path / "rounds/000/practise").unlink()
    if what == "student":
        work.student = 7
    run(work, 1, saver=saver, folder=tmp_path, settings=["new"] if what == "settings" else [])
    assert work.done[0] == ("practise", 0)


def test_a_person_is_asked_before_training_and_before_promotion():
    asked = []

    def answer(shown):
        asked.append((shown["review"], shown["round"], shown["path"]))
        return {"rows": True, "promotion": None}[shown["review"]]

    work = Log(better={0})
    run(work, review=("rows", "promotion"), on_review=answer)
    assert asked == [(what, n, f"rounds/{n:03d}") for n in (0, 1) for what in ("rows", "promotion")]
    assert [d for d in work.done if len(d) == 3] == [
        ("promote", 0, {"rows": True}),
        ("roll_back", 1, {"rows": True}),
    ]
    assert [name for name, *_ in work.done].count("train") == 2  # asking repeats no stage


@pytest.mark.parametrize("said", [True, False])
def test_a_person_may_decide_against_the_rule(said):
    work = Log(better=() if said else {0})
    run(work, 1, review=("promotion",), on_review=lambda shown: said)
    assert work.done[-1] == ("promote" if said else "roll_back", 0, {"promotion": said})


def test_refused_rows_are_not_trained_on():
    async def no(shown):
        return False

    work = Log(better={0})
    run(work, 1, review=("rows",), on_review=no)
    assert ("train", 0) not in work.done
    assert work.done[-1] == ("roll_back", 0, {"rows": False})


def test_a_review_that_nobody_answers_waits_and_says_how_to_go_on(tmp_path):
    saver = memory_checkpointer()
    (tmp_path / "rounds/000").mkdir(parents=True)
    for name in STAGES:
        (tmp_path / "rounds/000" / name).touch()
    work = Log(better={0})
    for _ in range(2):
        with pytest.raises(ReviewWaits, match="--approve rows"):
            run(work, 1, review=("rows",), saver=saver, folder=tmp_path)
    run(work, 1, review=("rows",), saver=saver, folder=tmp_path, on_review=lambda shown: True)
    assert work.done[-1] == ("promote", 0, {"rows": True})


def test_an_answer_that_is_none_of_the_three_is_refused():
    with pytest.raises(UserError, match="'maybe'"):
        run(Log(), 1, review=("rows",), on_review=lambda shown: "maybe")


def test_an_unknown_review_and_a_missing_context_are_refused():
    with pytest.raises(UserError, match="grades"):
        build_self_improvement(review=["grades"])
    graph = build_self_improvement()
    with pytest.raises(UserError, match="without its work"):
        asyncio.run(graph.ainvoke(RoundState()))
