"""The graph as a server runs it: objects bound to it, plain data passed and asked for."""

import asyncio

import pytest
from worlds import world_loop

from reflectory.errors import UserError
from reflectory.graphs.reflective_loop import build_reflective_loop
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = {"instruction": "What is known?"}


@pytest.mark.parametrize("context", [None, {}, {"of": "others"}], ids=str)
def test_a_server_may_pass_any_context_that_is_none(context):
    async def run():
        loop = world_loop(WORLD, max_iterations=1)
        graph = build_reflective_loop(loop.config, bound=await loop.acontext())
        return await graph.ainvoke(ASKED, context=context)

    assert asyncio.run(run())["stop"].iterations == 1


def test_a_context_that_is_passed_wins():
    async def run():
        loop, other = world_loop(WORLD, max_iterations=1), world_loop(WORLD, max_iterations=2)
        graph = build_reflective_loop(loop.config, bound=await loop.acontext())
        return await graph.ainvoke(ASKED, context=await other.acontext())

    assert asyncio.run(run())["stop"].iterations == 2


def test_without_models_it_says_so():
    graph = build_reflective_loop(world_loop(WORLD).config)
    with pytest.raises(UserError, match="without its models"):
        asyncio.run(graph.ainvoke(ASKED))


def test_a_server_can_show_what_goes_in_and_what_comes_out():
    async def bound():
        loop = world_loop(WORLD)
        return build_reflective_loop(loop.config, bound=await loop.acontext())

    graph = asyncio.run(bound())
    assert graph.get_input_jsonschema()["properties"]["instruction"]["type"] == "string"
    assert {"responses", "examinations", "stop"} <= set(graph.get_output_jsonschema()["properties"])
