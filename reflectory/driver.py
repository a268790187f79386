"""Runs one instruction through the compiled graph: resuming, reviews, events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from reflectory.errors import IntegrityError, UserError
from reflectory.graphs.reflective_loop import LoopGraph, recursion_limit
from reflectory.graphs.state import LoopContext, LoopState
from reflectory.observability import callbacks
from reflectory.observability.place import observing
from reflectory.runs.checkpoints import UNREADABLE, damaged_checkpoint

Review = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class LoopEvent:
    """Something that has just been done in a loop.

    Attributes:
        trajectory_id: Which loop.
        step: Name of the node: ``respond``, ``ask``, ``answer``, ``evaluate``,
            ``align``, ``grade``, ``reflect``, ``check``, ``conclude`` ...
        iteration: t, where the step belongs to one.
        level: Name of the level, where the step belongs to one.
        update: What the node wrote into the state.
    """

    trajectory_id: str
    step: str
    iteration: int | None
    level: str | None
    update: Mapping[str, Any]


OnEvent = Callable[[LoopEvent], None]


def steps_are_told(on_event: OnEvent | None) -> bool:
    """Return whether anybody is told of the steps of a branch by LangGraph itself.

    Then a branch must be a graph. Spans, logs, listeners and the trace of calls need none.

    Args:
        on_event: Who wants events, if anybody does.
    """
    return on_event is not None or callbacks.are_configured()


def thread_config(trajectory_id: str, live: LoopContext) -> RunnableConfig:
    """Return LangGraph's configuration for the loop of this id."""
    return {
        "configurable": {"thread_id": trajectory_id},
        "recursion_limit": recursion_limit(live.config),
    }


def check_instruction(instruction: object) -> str:
    """Return the instruction, stripped.

    Raises:
        UserError: It is not a text or is empty.
    """
    if not isinstance(instruction, str) or not instruction.strip():
        raise UserError(
            f"an instruction must be a text that is not empty, got {instruction!r}",
            hint="say what the student is to answer",
        )
    # Half a surrogate pair, as JSON can hold, fits into no file and no request.
    return instruction.strip().encode("utf-8", "replace").decode("utf-8")


async def drive(
    graph: LoopGraph,
    live: LoopContext,
    instruction: str,
    trajectory_id: str,
    *,
    on_event: OnEvent | None = None,
    on_review: Review | None = None,
) -> LoopState:
    """Run a loop to its end and return the last state.

    With a checkpointer, a loop that was stopped goes on where it was; one that
    stands at a review asks ``on_review`` and goes on with what it returns.

    Args:
        graph: From :func:`reflectory.graphs.reflective_loop.build_reflective_loop`.
        live: Models and budgets.
        instruction: I.
        trajectory_id: Names the loop among the checkpoints.
        on_event: Told of every finished node.
        on_review: Given what a person is asked to look at (question or grade);
            returns the change, or ``None`` to keep it. May be a coroutine function.

    Raises:
        UserError: The configuration asks for reviews and nobody answers them.
        IntegrityError: A checkpoint is damaged.
    """
    config = thread_config(trajectory_id, live)
    entry: LoopState | Command[Any] | None = LoopState(instruction=instruction)
    state = LoopState()
    if graph.checkpointer:
        saved = await _saved(graph, config)
        if saved.get("instruction") == instruction:
            state, entry = cast(LoopState, saved), None
    levels = live.config.level_names
    while True:
        with observing("reflective_loop", loop=trajectory_id, levels=levels):
            async for updated, chunk in _chunks(graph, entry, config, live, on_event is not None):
                if not updated:
                    state = cast(LoopState, chunk)
                elif on_event is not None:
                    _tell(on_event, trajectory_id, chunk)
        if "stop" in state and not (graph.checkpointer and live.config.review):
            return state
        pending = (await graph.aget_state(config)).interrupts if graph.checkpointer else ()
        if not pending:
            if "stop" not in state:  # nothing is left to do, and yet the loop has not ended
                raise IntegrityError(
                    f"the checkpoint of the loop {trajectory_id} is damaged",
                    hint="run it again with --retry-failed; it begins anew on recorded calls",
                )
            return state
        if on_review is None:
            raise UserError(
                "the loop waits for a review and nobody answers",
                hint="pass on_review=..., or leave `review` empty",
            )
        entry = Command(resume={i.id: await _answer(on_review, i.value) for i in pending})


async def _saved(graph: LoopGraph, config: RunnableConfig) -> Mapping[str, Any]:
    """Return where a loop stands by its checkpoint; nothing but reading is done for it."""
    try:
        return cast(Mapping[str, Any], (await graph.aget_state(config)).values)
    except UNREADABLE as error:
        raise damaged_checkpoint(error) from error


async def _chunks(
    graph: LoopGraph,
    entry: LoopState | Command[Any] | None,
    config: RunnableConfig,
    live: LoopContext,
    updates: bool,
) -> AsyncIterator[tuple[bool, Mapping[str, Any]]]:
    """Yield the states of a loop, and what every node wrote where somebody wants to know.

    Being told of every node makes graphs of branches, which is half as much work again.
    """
    if not updates:
        async for chunk in graph.astream(entry, config, context=live, stream_mode="values"):
            yield False, cast(Mapping[str, Any], chunk)
        return
    async for namespace, mode, chunk in graph.astream(
        entry, config, context=live, stream_mode=["updates", "values"], subgraphs=True
    ):
        if mode == "updates" or not namespace:
            yield mode == "updates", cast(Mapping[str, Any], chunk)


async def _answer(on_review: Review, value: Mapping[str, Any]) -> Any:
    said = on_review(value)
    return await said if isinstance(said, Awaitable) else said


def _tell(on_event: OnEvent, trajectory_id: str, chunk: Mapping[str, Any]) -> None:
    for step, update in chunk.items():
        if not isinstance(update, Mapping) or step == "examine":
            continue  # an interrupt, or a branch whose nodes were told one by one
        cell = update.get("cell")
        responses = update.get("responses") or {}
        iteration = cell.iteration if cell is not None else max(responses, default=None)
        level = cell.level if cell is not None else None
        on_event(LoopEvent(trajectory_id, step, iteration, level, update))
