"""Runs the graph of rounds: from its checkpoint, through reviews, to the last round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from reflectory.errors import UserError
from reflectory.graphs.round_state import RoundContext, RoundState
from reflectory.graphs.self_improvement import RoundGraph, recursion_limit
from reflectory.models.protocol import content_hash
from reflectory.observability.place import in_run, observing

OnRoundReview = Callable[[Mapping[str, Any]], Any]
"""Given what a person is asked to look at; returns ``True``, ``False`` or ``None`` (the
rule decides). May be a coroutine function."""

_THREAD = "rounds"


class ReviewWaits(UserError):
    """A review waits for a person, and nobody is there to answer.

    Args:
        shown: What the person would be shown.
    """

    exit_code = 1

    def __init__(self, shown: Mapping[str, Any]) -> None:
        what = shown["review"]
        super().__init__(
            f"round {shown['round']} waits for a review of its {what}: {shown['path']}",
            hint=f"look at it, then run the same command with --approve {what} or --refuse "
            f"{what}; in Python pass on_review=",
        )
        self.shown = dict(shown)


async def drive_rounds(
    graph: RoundGraph,
    live: RoundContext,
    run: Path,
    settings: Mapping[str, Any],
    *,
    on_review: OnRoundReview | None = None,
) -> RoundState:
    """Run the rounds to their end and return the last state.

    A call that was killed goes on behind the last stage of its checkpoint, as long as the
    configuration is the same and the files of the stages are there. In every other case
    the graph begins at its entry: the files decide what is left to do, and a stage whose
    file is there does nothing.

    Args:
        graph: Compiled with a checkpointer.
        live: The work.
        run: The run directory, to look for the files of a checkpoint.
        settings: What the stages depend on, as JSON values.
        on_review: Answers reviews.

    Raises:
        ReviewWaits: A review is due and there is no ``on_review``.
    """
    thread = f"{_THREAD}-{content_hash(settings)[:16]}"
    config: RunnableConfig = {
        "configurable": {"thread_id": thread},
        "recursion_limit": recursion_limit(live.rounds),
    }
    saved = await graph.aget_state(config)
    entry: RoundState | Command[Any] | None = RoundState()
    if saved.next and not saved.interrupts and await _stands(saved.values, live, run):
        entry = None
    while True:
        with in_run(run.name), observing("self_improvement"):
            state = cast(RoundState, await graph.ainvoke(entry, config, context=live))
        pending = (await graph.aget_state(config)).interrupts
        if not pending:
            return state
        answers = {}
        for waiting in pending:
            if on_review is None:
                raise ReviewWaits(waiting.value)
            said = on_review(waiting.value)
            answers[waiting.id] = await said if isinstance(said, Awaitable) else said
        entry = Command(resume=answers)


async def _stands(state: Mapping[str, Any], live: RoundContext, run: Path) -> bool:
    """Return whether a checkpoint speaks of the round that is due, and its files are there."""
    if (state.get("round"), state.get("student")) != await live.work.begin():
        return False
    return all((run / file).exists() for file in state.get("files", {}).values())
