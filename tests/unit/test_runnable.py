"""A loop in chains and graphs of others: LangChain's Runnable, and a node of LangGraph."""

import asyncio
from typing import TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from worlds import world_loop

from reflectory.errors import BackendError, UserError
from reflectory.runnable import LoopRunnable
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Trajectory

WORLD = SyntheticWorld(levels=2)
ASKED = "What is known?"


def same(loop, trajectory, instruction=ASKED):
    return trajectory.to_json() == loop.run(instruction).to_json()


def test_both_doors_give_the_trajectory_of_the_loop():
    loop = world_loop(WORLD, max_iterations=2)
    runnable = loop.as_runnable()
    assert isinstance(runnable, LoopRunnable) and runnable.loop is loop
    assert same(loop, runnable.invoke(ASKED))
    assert same(loop, asyncio.run(runnable.ainvoke({"instruction": ASKED})))


def test_metadata_is_kept_and_what_else_a_state_holds_is_not():
    runnable = world_loop(WORLD, max_iterations=1).as_runnable()
    state = {"instruction": ASKED, "metadata": {"row": 7}, "messages": ["of others"]}
    assert runnable.invoke(state).metadata == {"row": 7}
    assert runnable.invoke({"instruction": ASKED, "metadata": None}).metadata == {}


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ({"question": ASKED}, "'question'"),
        ({}, "nothing"),
        (["a", "b"], "list"),
        (None, "NoneType"),
        ("  ", "not empty"),
        ({"instruction": None}, "not empty"),
        ({"instruction": ["a"]}, "not empty"),
    ],
)
def test_what_holds_no_instruction_is_refused_by_both_doors(given, culprit):
    runnable = world_loop(WORLD, max_iterations=1).as_runnable()
    with pytest.raises(UserError, match=culprit):
        runnable.invoke(given)
    with pytest.raises(UserError, match=culprit):
        asyncio.run(runnable.ainvoke(given))


def test_a_chain_reaches_from_a_question_to_the_response():
    loop = world_loop(WORLD, max_iterations=1)
    chain = (
        {"instruction": RunnablePassthrough()}
        | loop.as_runnable()
        | RunnableLambda(lambda trajectory: trajectory.response)
    )
    assert chain.invoke(ASKED) == loop.run(ASKED).response
    assert asyncio.run(chain.ainvoke(ASKED)) == loop.run(ASKED).response


def test_batches_keep_their_order_and_return_failures_where_asked():
    loop = world_loop(WORLD, max_iterations=1)
    asked = [f"What is known of {n}?" for n in "abc"]
    config = {"max_concurrency": 2}
    found = loop.as_runnable().batch(asked, config)
    assert [t.instruction for t in found] == asked
    found = asyncio.run(loop.as_runnable().abatch([asked[0], ""], config, return_exceptions=True))
    assert same(loop, found[0], asked[0]) and isinstance(found[1], UserError)


def test_streamed_it_gives_the_trajectory_once_and_its_events_name_the_nodes():
    runnable = world_loop(WORLD, max_iterations=1).as_runnable()
    assert [t.instruction for t in runnable.stream(ASKED)] == [ASKED]

    async def events():
        return [e async for e in runnable.astream_events(ASKED, version="v2")]

    found = asyncio.run(events())
    ended = [e["metadata"].get("langgraph_node") for e in found if e["event"] == "on_chain_end"]
    assert {"respond", "ask", "answer", "evaluate", "align", "reflect"} <= set(ended)
    assert found[0]["name"] == found[-1]["name"] == "ReflectiveLoop"
    assert isinstance(found[-1]["data"]["output"], Trajectory)
    root = found[0]["run_id"]
    assert all(root in e["parent_ids"] for e in found if e["run_id"] != root)


class Runs(BaseCallbackHandler):
    def __init__(self):
        self.parents = {}
        self.errors = []

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **known):
        self.parents[run_id] = (known.get("name"), parent_run_id)

    def on_chain_error(self, error, *, run_id, **known):
        self.errors.append((self.parents[run_id][0], type(error).__name__))


def test_callbacks_of_the_caller_see_the_loop_below_the_run_also_from_plain_code():
    runs = Runs()
    world_loop(WORLD, max_iterations=1).as_runnable().invoke(ASKED, {"callbacks": [runs]})
    named = dict(runs.parents.values())
    assert named["ReflectiveLoop"] is None
    assert runs.parents[named["reflective_loop"]][0] == "ReflectiveLoop"


def test_a_failure_is_raised_told_and_tried_again_where_asked():
    normal, calls = WORLD.student(), []

    async def once_down(request):
        calls.append(request.role)
        if len(calls) == 1:
            raise BackendError("the server is down", hint="wait")
        return (await normal.complete(request)).text

    def loop():
        calls.clear()
        student = ScriptedModel(once_down, name="s")
        return world_loop(WORLD, max_iterations=1, student=student).as_runnable()

    runs = Runs()
    with pytest.raises(BackendError, match="down"):
        loop().invoke(ASKED, {"callbacks": [runs]})
    assert ("ReflectiveLoop", "BackendError") in runs.errors
    patient = loop().with_retry(
        retry_if_exception_type=(BackendError,), wait_exponential_jitter=False
    )
    assert patient.invoke(ASKED).status == "done"


def test_keyword_arguments_reach_the_loop():
    steps = []
    bound = (
        world_loop(WORLD, max_iterations=1)
        .as_runnable()
        .bind(on_event=lambda event: steps.append(event.step))
    )
    bound.invoke(ASKED)
    assert "respond" in steps and "conclude" in steps


def test_its_schemas_can_be_shown():
    runnable = world_loop(WORLD).as_runnable()
    kinds = {part["type"] for part in runnable.get_input_jsonschema()["anyOf"]}
    assert kinds == {"string", "object"}
    assert "examinations" in str(runnable.get_output_jsonschema())


class Asked(TypedDict, total=False):
    instruction: str
    answers: list[str]


def graph_with(node, checkpointer=None):
    builder = StateGraph(Asked)
    builder.add_node("examine", node)
    builder.add_edge(START, "examine")
    builder.add_edge("examine", END)
    return builder.compile(checkpointer=checkpointer)


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
def test_a_node_of_another_graph_runs_loops_and_leaves_its_checkpoints_alone(plain):
    """Twice in one node, and twice in one thread: as a subgraph, the second would be refused."""
    loop = world_loop(WORLD, max_iterations=1)
    texts = (ASKED, "What is unknown?")

    async def awaiting(state):
        return {"answers": [(await loop.arun(text)).response for text in texts]}

    def calling(state):
        return {"answers": [loop.run(text).response for text in texts]}

    saver = InMemorySaver()
    graph = graph_with(calling if plain else awaiting, saver)
    thread = {"configurable": {"thread_id": "mine"}}
    expected = [loop.run(text).response for text in texts]
    for _ in range(2):
        state = asyncio.run(graph.ainvoke({"instruction": ASKED}, thread))
        assert state["answers"] == expected
    places = {(c.config["configurable"]["thread_id"], n) for c in saver.list(None) for n in [""]}
    assert places == {("mine", "")}
    assert all(set(c.checkpoint["channel_values"]) <= FIELDS for c in saver.list(None))


FIELDS = {"instruction", "answers", "__start__", "branch:to:examine"}


def test_the_runnable_itself_stands_in_a_graph_behind_a_function_of_the_state():
    loop = world_loop(WORLD, max_iterations=1)
    chain = loop.as_runnable() | (lambda trajectory: {"answers": [trajectory.response]})
    state = graph_with(chain).invoke({"instruction": ASKED})
    assert state["answers"] == [loop.run(ASKED).response]


def test_events_can_be_written_into_the_stream_of_the_other_graph():
    loop = world_loop(WORLD, max_iterations=1)

    async def examine(state):
        write = get_stream_writer()
        trajectory = await loop.arun(
            state["instruction"], on_event=lambda event: write((event.step, event.level))
        )
        return {"answers": [trajectory.response]}

    async def streamed():
        stream = graph_with(examine).astream({"instruction": ASKED}, stream_mode="custom")
        return [chunk async for chunk in stream]

    found = asyncio.run(streamed())
    assert ("ask", WORLD.config().level_names[0]) in found and found[-1][0] == "conclude"
