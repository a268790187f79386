"""Algorithm 1 as a compiled LangGraph state machine.

::

    preprocess -> retrieve -> aggregate -> respond
        -> [examine x k | grade] -> reflect -> check -> (again | conclude)

``examine`` is one branch (:mod:`reflectory.graphs.examination`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from reflectory.config import LoopConfig
from reflectory.errors import UserError
from reflectory.graphs.examination import StepObserver, build_examination
from reflectory.graphs.nodes import LoopNodes
from reflectory.graphs.state import LoopContext, LoopState

LoopGraph = CompiledStateGraph[LoopState, LoopContext, LoopState, LoopState]

_STEPS_BEFORE = 4
_STEPS_PER_ITERATION = 3
_STEPS_AFTER = 1


def recursion_limit(config: LoopConfig) -> int:
    """Return the most supersteps that Algorithm 1 can take, with room to spare.

    LangGraph raises when its limit is reached. T ends a loop, never this
    limit, so it is computed from T: four nodes before the first iteration,
    three per iteration (the branches are graphs with steps of their own), one
    after the last. Reviews by a person re-enter a step and are covered twice.
    """
    steps = _STEPS_BEFORE + _STEPS_PER_ITERATION * config.max_iterations + _STEPS_AFTER
    return 2 * steps + 10


def build_reflective_loop(
    config: LoopConfig,
    *,
    checkpointer: BaseCheckpointSaver[str] | None = None,
    bound: LoopContext | None = None,
    observer: Callable[[], StepObserver] | None = None,
    branch_checkpoints: bool = True,
) -> LoopGraph:
    """Return the compiled graph of Algorithm 1.

    Args:
        config: Decides the number of branches and whether a person reviews.
        checkpointer: Where the state is kept between steps; needed for resuming
            and for reviews.
        bound: The live objects, for callers that cannot pass them as the
            ``context`` of a run (LangGraph Studio). A context that is passed wins.
        observer: Makes who is told of the steps of a branch; a branch is one node then, which
            takes less time. Without, it is a graph, whose steps are streamed, drawn and kept in
            checkpoints one by one.
        branch_checkpoints: Whether they are kept. A branch that was cut short begins again
            without them, and asks a model nothing twice where calls are recorded; they are four
            fifths of what there is to keep.

    Raises:
        UserError: When run: neither a context nor bound objects are there.
    """

    def context_of(runtime: Runtime[LoopContext]) -> LoopContext:
        # A server that cannot pass them passes an empty dictionary.
        live = runtime.context if isinstance(runtime.context, LoopContext) else bound
        if not isinstance(live, LoopContext):
            raise UserError(
                "the reflective loop was run without its models",
                hint="pass context=LoopContext(...), or use reflectory.ReflectiveLoop",
            )
        return live

    nodes = LoopNodes(context_of, len(config.levels))
    examination: Any = build_examination(
        config, context_of, observer=observer, checkpoints=branch_checkpoints
    )
    # With the schema, LangGraph would make a context of what such a server passes.
    schema = LoopContext if bound is None else None
    builder = StateGraph(LoopState, context_schema=schema)
    for step in (nodes.preprocess, nodes.retrieve, nodes.aggregate, nodes.respond):
        builder.add_node(step.__name__, step)
    builder.add_node("examine", examination)
    builder.add_node("grade", nodes.grade)
    for step in (nodes.reflect, nodes.check, nodes.conclude):
        builder.add_node(step.__name__, step)
    builder.add_edge(START, "preprocess")
    builder.add_edge("preprocess", "retrieve")
    builder.add_edge("retrieve", "aggregate")
    builder.add_edge("aggregate", "respond")
    builder.add_conditional_edges("respond", nodes.fan_out, ["examine", "grade"])
    builder.add_edge("examine", "reflect")
    builder.add_edge("grade", "reflect")
    builder.add_edge("reflect", "check")
    builder.add_conditional_edges("check", nodes.fan_out, ["examine", "grade", "conclude"])
    builder.add_edge("conclude", END)
    return builder.compile(checkpointer=checkpointer, name="reflective_loop")
