"""The rounds of self-improvement as a compiled LangGraph state machine.

::

    begin -> practise -> reflect -> gather -> curate -> [review_rows]
        -> train -> evaluate -> [review_promotion] -> promote | roll_back -> begin

``fail`` ends a round in which nothing could be learnt. What a node does is done by the
:class:`~reflectory.graphs.round_state.RoundWork` of the run context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from reflectory.errors import DatasetError, TrainingError, UserError
from reflectory.graphs.round_state import (
    REVIEWS,
    RoundContext,
    RoundState,
    RoundWork,
    StageOutcome,
)

RoundGraph = CompiledStateGraph[RoundState, RoundContext, RoundState, RoundState]

STAGES = ("practise", "reflect", "gather", "curate", "train", "evaluate")
"""The stages that make files, in order."""

_REVIEW_AFTER = {"rows": "curate", "promotion": "evaluate"}


class Node(Protocol):
    """A node of the graph, as LangGraph calls it."""

    def __call__(
        self, state: RoundState, runtime: Runtime[RoundContext]
    ) -> Awaitable[dict[str, Any]]:
        """Return the part of the state that changes."""
        ...


def recursion_limit(rounds: int) -> int:
    """Return the most supersteps that so many rounds can take, with room to spare.

    A round has its beginning, six stages, two reviews (which re-enter a step) and a decision.
    """
    return 2 * rounds * (len(STAGES) + 2 * len(REVIEWS) + 2) + 10


def build_self_improvement(
    *,
    review: Collection[str] = (),
    checkpointer: BaseCheckpointSaver[str] | None = None,
) -> RoundGraph:
    """Return the compiled graph of rounds.

    Args:
        review: Where a person is asked: ``rows``, ``promotion``.
        checkpointer: Where the state is kept between steps; needed for reviews.

    Raises:
        UserError: ``review`` names something else; or, when run: no context was passed.
    """
    unknown = sorted(set(review) - set(REVIEWS))
    if unknown:
        raise UserError(
            f"there is no review of {', '.join(unknown)}", hint=f"choose of {', '.join(REVIEWS)}"
        )
    builder = StateGraph(RoundState, context_schema=RoundContext)
    builder.add_node("begin", begin)
    order: list[str] = []
    for stage in STAGES:
        builder.add_node(stage, _stage(stage))
        order.append(stage)
        for what in REVIEWS:
            if what in review and _REVIEW_AFTER[what] == stage:
                builder.add_node(f"review_{what}", _review(what))
                order.append(f"review_{what}")
    for decision in (promote, roll_back, fail):
        builder.add_node(decision.__name__, decision)
    builder.add_edge(START, "begin")
    builder.add_conditional_edges("begin", _more, ["practise", END])
    for name, following in zip(order, [*order[1:], ""], strict=True):
        targets = [following] if following else ["promote", "roll_back"]
        if name.startswith("review_"):
            targets = sorted({*targets, "roll_back"})
        else:
            targets = [*targets, "fail"]
        builder.add_conditional_edges(name, _after(following), targets)
    builder.add_edge("promote", "begin")
    builder.add_edge("roll_back", "begin")
    builder.add_edge("fail", END)
    return builder.compile(checkpointer=checkpointer, name="self_improvement")


async def begin(state: RoundState, runtime: Runtime[RoundContext]) -> dict[str, Any]:
    """Find out which round comes next, and with which student it begins."""
    live = _context(runtime)
    number, student = await live.work.begin()
    return {
        "round": number,
        "student": student,
        "last": live.rounds - 1,
        "counts": {},
        "files": {},
        "failure": {},
        "said": {},
        "promote": False,
        "decision": "",
    }


async def promote(state: RoundState, runtime: Runtime[RoundContext]) -> dict[str, Any]:
    """The new adapter is the student from here on."""
    await _context(runtime).work.promote(state["round"], state["said"])
    return _decided(state, "promoted")


async def roll_back(state: RoundState, runtime: Runtime[RoundContext]) -> dict[str, Any]:
    """The student stays as it was."""
    await _context(runtime).work.roll_back(state["round"], state["said"])
    return _decided(state, "rolled_back")


async def fail(state: RoundState, runtime: Runtime[RoundContext]) -> dict[str, Any]:
    """Nothing could be learnt; the student stays, and the call ends here.

    What made this round fail (a learning rate, thresholds) would very likely make the
    next one fail as well, after hours; so somebody looks at it first.
    """
    await _context(runtime).work.fail(state["round"], state["failure"])
    return _decided(state, "failed")


def _stage(name: str) -> Node:
    """Return the node of a stage."""

    async def node(state: RoundState, runtime: Runtime[RoundContext]) -> dict[str, Any]:
        work: RoundWork = _context(runtime).work
        run: Callable[[int], Awaitable[StageOutcome]] = getattr(work, name)
        try:
            outcome = await run(state["round"])
        except (TrainingError, DatasetError) as error:
            kind = type(error).__name__
            return {
                "failure": {
                    "stage": name,
                    "kind": kind,
                    "message": error.message,
                    "hint": error.hint,
                }
            }
        counts = dict(outcome.counts)
        update: dict[str, Any] = {
            "counts": {**state["counts"], name: counts},
            "files": {**state["files"], name: outcome.file},
        }
        if name == "evaluate":
            update["promote"] = bool(counts["promote"])
        return update

    node.__name__ = name
    return node


def _review(what: str) -> Node:
    """Return the node that asks a person; ``None`` leaves it to the rule."""

    async def node(state: RoundState, runtime: Runtime[RoundContext]) -> dict[str, Any]:
        shown = dict(_context(runtime).work.review(state["round"], what))
        said = interrupt({"review": what, "round": state["round"], **shown})
        if said is not None and not isinstance(said, bool):
            raise UserError(
                f"a review of {what} was answered with {said!r}",
                hint="answer True to go on, False to keep the student, None for the rule",
            )
        if said is None:
            return {}
        update: dict[str, Any] = {"said": {**state["said"], what: said}}
        if what == "promotion":  # a person may see more than the rule, in either direction
            update["promote"] = said
        return update

    node.__name__ = f"review_{what}"
    return node


def _after(following: str) -> Callable[[RoundState], str]:
    """Return the router behind a stage or review; ``following`` is empty behind the last."""

    def route(state: RoundState) -> str:
        if state["failure"]:
            return "fail"
        if False in state["said"].values():
            return "roll_back"
        if following:
            return following
        return "promote" if state["promote"] else "roll_back"

    return route


def _more(state: RoundState) -> str:
    return "practise" if state["round"] <= state["last"] else END


def _decided(state: RoundState, decision: str) -> dict[str, Any]:
    decisions = {**state.get("decisions", {}), str(state["round"]): decision}
    return {"decision": decision, "decisions": decisions}


def _context(runtime: Runtime[RoundContext]) -> RoundContext:
    live = runtime.context
    if not isinstance(live, RoundContext):
        raise UserError(
            "the graph of rounds was run without its work",
            hint="pass context=RoundContext(...), or use reflectory.SelfImprovement",
        )
    return live
