"""What a loop leaves out where nobody needs it: threads, handlers, checkpoints of branches."""

import asyncio
import sqlite3
from collections import Counter

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config
from worlds import world_loop

from reflectory.driver import drive, steps_are_told
from reflectory.errors import BudgetSpent
from reflectory.observability import in_run
from reflectory.observability.listening import Listener, listened_by
from reflectory.observability.nodes import NodeWatcher
from reflectory.runner import Runner
from reflectory.runs import read_instructions
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.types import ScoredPassage

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=3)


class Watched(ScriptedModel):
    """A model that notes who is told of the nodes that call it."""

    def __init__(self, model):
        super().__init__(model._script, name=model.fingerprint)
        self.handlers = []

    async def complete(self, request):
        config = var_child_runnable_config.get() or {}
        self.handlers += getattr(config.get("callbacks"), "handlers", [])
        return await super().complete(request)


class AtOnce:
    """A retriever that asks no thread."""

    fingerprint = "at once"

    async def prepare(self):
        return 1

    async def retrieve(self, query, *, per_document, limit) -> list[ScoredPassage]:
        return []


def test_a_loop_asks_no_thread(monkeypatch):
    async def run():
        loop = world_loop(WORLD, documents=AtOnce(), max_iterations=2)
        live = await loop.acontext()

        def refuse(*arguments):
            raise AssertionError(f"a thread was asked for {arguments[1:]}")

        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
        state = await drive(loop.graph(), live, "What?", "loop")
        monkeypatch.undo()
        return state

    assert asyncio.run(run())["stop"].iterations == 2


@pytest.mark.parametrize("in_a_run", [False, True])
def test_nodes_are_watched_only_where_a_run_notes_its_calls(in_a_run):
    student = Watched(WORLD.student())
    loop = world_loop(WORLD, student=student, max_iterations=1)
    if in_a_run:
        with in_run("here"):
            asyncio.run(loop.arun("What?"))
    else:
        asyncio.run(loop.arun("What?"))
    assert len(student.requests) > 3
    assert any(isinstance(h, NodeWatcher) for h in student.handlers) is in_a_run


def test_whoever_is_told_of_nodes_changes_nothing():
    events = []
    told = world_loop(WORLD, max_iterations=2).run("What?", on_event=events.append)
    assert told == world_loop(WORLD, max_iterations=2).run("What?")
    steps = Counter(event.step for event in events)
    assert steps["ask"] == steps["align"] == 2 * WORLD.levels
    assert steps["conclude"] == 1


class Heard(Listener):
    """Notes what a listener is told of nodes."""

    def __init__(self):
        self.said = []

    def node_began(self, place, state):
        self.said.append(("began", place.step, place.iteration, place.level, sorted(state)))

    def node_ended(self, place, update):
        self.said.append(("ended", place.step, place.iteration, place.level, sorted(update)))


class Silent(BaseCallbackHandler):
    """Somebody who is told by LangChain, and does nothing with it."""


@pytest.mark.parametrize("fails", [False, True])
def test_a_branch_of_one_node_tells_the_same_as_a_graph(fails):
    def teach(request):
        if fails and request.role == "teacher.ask" and "difficulty 2" in str(request.segments):
            return ""
        return WORLD.teacher()._script(request)

    def run(**options):
        heard = Heard()
        teacher = ScriptedModel(teach, name="teacher")
        loop = world_loop(WORLD, teacher=teacher, max_iterations=2)
        with listened_by(heard):
            trajectory = loop.run("What is known?", **options)
        # A graph is given its channels, a node its Send; in which order branches run is free.
        said = Counter((how, step, t, level) for how, step, t, level, _ in heard.said)
        steps = [names for how, step, *_, names in heard.said if (how, step) == ("ended", "align")]
        return trajectory, said, steps

    (lean, told, wrote), (whole, as_graph, by_graph) = run(), run(on_event=lambda event: None)
    assert lean == whole
    assert told == as_graph
    assert told["ended", "ask", 1, WORLD.config().levels[0].name] == 1
    assert wrote == by_graph
    failed = [cell for cell in lean.examinations if cell.failure is not None]
    assert bool(failed) is fails


def test_a_branch_is_a_graph_where_callbacks_are_told():
    assert not steps_are_told(None)
    assert steps_are_told(print)

    def run(given):
        return steps_are_told(None)

    assert RunnableLambda(run).invoke("", {"callbacks": [Silent()]})


def kept(path):
    """Return how many checkpoints of the loop and of its branches a run has."""
    connection = sqlite3.connect(path / "checkpoints.sqlite")
    rows = connection.execute("SELECT checkpoint_ns FROM checkpoints").fetchall()
    connection.close()
    return Counter(bool(name) for (name,) in rows)


@pytest.mark.parametrize("on_event", [None, str])
def test_a_branch_that_was_cut_short_begins_again_on_recorded_calls(tmp_path, on_event):
    whole = asyncio.run(world_loop(WORLD, max_iterations=2).arun("What is known?"))
    teacher, student = WORLD.teacher(), WORLD.student()
    calls, stop_at = [], 6

    def failing(script):
        def speak(request):
            calls.append((request.role, request.seed, request.segments[-1].text))
            if len(calls) == stop_at:
                calls.pop()
                raise BudgetSpent("enough", hint="go on")
            return script(request)

        return speak

    def run():
        loop = world_loop(
            WORLD,
            teacher=ScriptedModel(failing(teacher._script), name=teacher.fingerprint),
            student=ScriptedModel(failing(student._script), name=student.fingerprint),
            max_iterations=2,
        )

        async def collect():
            stream = Runner(loop, on_event=on_event).stream(
                read_instructions(["What is known?"]), concurrency=1, output=tmp_path / "run"
            )
            return [trajectory async for trajectory in stream]

        return asyncio.run(collect())

    with pytest.raises(BudgetSpent):
        run()
    found = kept(tmp_path / "run")
    assert found[False] == 1 and not found[True]  # the newest; those before it were superseded
    stop_at = 0
    (resumed,) = run()
    assert resumed.responses == whole.responses
    assert resumed.examinations == whole.examinations
    assert max(Counter(calls).values()) == 1  # nothing was asked twice
    assert not kept(tmp_path / "run")


def test_where_a_person_reviews_the_steps_of_branches_are_kept(tmp_path):
    reviewed = []

    def review(value):
        reviewed.append(value["text"])
        return

    async def collect():
        loop = world_loop(WORLD, review=("question",), max_iterations=1)
        stream = Runner(loop, on_review=review).stream(
            read_instructions(["What is known?"]), concurrency=1, output=tmp_path / "run"
        )
        return [trajectory async for trajectory in stream]

    (done,) = asyncio.run(collect())
    assert len(reviewed) == WORLD.levels
    assert done.status == "done"
