"""Nodes as LangGraph runs them: each sets the place of its calls, and may be a span.

LangGraph tells its callbacks of every node, so no node knows of this. The handler is
found through a context variable (LangChain's own hook for that), so it hears of the
graphs of this package and of no other one in the process. Only a node that runs several
steps says itself which one it is at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from reflectory.observability import spans
from reflectory.observability.listening import Listener, current_listener
from reflectory.observability.place import Place, current_place, move_to

_log = logging.getLogger(__name__)
_NODE_TAG = "graph:step:"


@dataclass(slots=True)
class _Open:
    """A node that has begun, or a part of a graph under one."""

    place: Place | None
    began: float
    span: spans.Span | None
    listener: Listener | None = None


class NodeWatcher(AsyncCallbackHandler):
    """Hears of every node of a graph that is observed; one object for all of them."""

    run_inline = True  # in the task of the node, whose context it changes

    def __init__(self) -> None:
        self._open: dict[UUID, _Open] = {}

    @property
    def ignore_llm(self) -> bool:
        """Models of this package are observed where they are called."""
        return True

    @property
    def ignore_chat_model(self) -> bool:
        """The same."""
        return True

    @property
    def ignore_retriever(self) -> bool:
        """Retrieval is a node."""
        return True

    async def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note where a node begins; other parts of a graph (routes, branches) are passed over."""
        around = None if parent_run_id is None else self._open.get(parent_run_id)
        if not tags or not any(tag.startswith(_NODE_TAG) for tag in tags):
            if around is not None and around.span is not None:
                # A branch is a graph: its nodes are under the node that it is.
                self._open[run_id] = _Open(None, 0.0, around.span)
            return
        step = str((metadata or {}).get("langgraph_node", kwargs.get("name") or ""))
        node = _begin(step, inputs, around.span if around is not None else None)
        if node is not None:
            self._open[run_id] = node

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a node is done."""
        _end(self._open.pop(run_id, None), outputs)

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a node failed; waiting for a person is no failure."""
        from langgraph.errors import GraphBubbleUp

        _close(self._open.pop(run_id, None), None if isinstance(error, GraphBubbleUp) else error)


class ObservedSteps:
    """The steps of a node that LangGraph sees as one: each is observed as a node under it.

    Made within the node; where its graph is not observed, nothing is.
    """

    def __init__(self) -> None:
        self._wanted = _watcher.get() is not None
        self._node = spans.current_node() if self._wanted else None

    @contextmanager
    def step(self, name: str, state: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
        """Observe the block as a step.

        Args:
            name: Of the step.
            state: What the step is given.

        Yields:
            Takes what the step returns.
        """
        told: list[Any] = []
        node = _begin(name, state, self._node) if self._wanted else None
        try:
            yield told.append
        except BaseException as error:
            _close(node, error)
            raise
        _end(node, told[0] if told else None)


def _begin(step: str, inputs: Any, under: spans.Span | None) -> _Open | None:
    """Say that a node begins; return what :func:`_close` takes, if anybody wants to know."""
    # LangGraph may run a node in the task of the one before it, and tells of a node's
    # end in another task: so nothing is taken back, and each node says all there is.
    place = _place_of(step, inputs, current_place())
    move_to(place)
    span = spans.begin_node(place, under=under)
    listener = current_listener() if place.loop else None
    if listener is not None:
        listener.node_began(place, inputs if isinstance(inputs, Mapping) else {})
    if span is None and listener is None and not _log.isEnabledFor(logging.DEBUG):
        return None
    return _Open(place, time.perf_counter(), span, listener)


def _end(node: _Open | None, outputs: Any) -> None:
    """Say that a node is done."""
    _close(node, None)
    if node is not None and node.listener is not None and node.place is not None:
        node.listener.node_ended(node.place, outputs if isinstance(outputs, Mapping) else {})


def _close(node: _Open | None, error: BaseException | None) -> None:
    """End the span of a node that is done, has failed or waits for a person."""
    if node is None or node.place is None:
        return
    spans.end(node.span, error)
    if _log.isEnabledFor(logging.DEBUG):
        fields = {"seconds": round(time.perf_counter() - node.began, 6)}
        how = "finished" if error is None else "failed"
        _log.debug("node %s", how, extra={"place": node.place, "fields": fields})


def _place_of(step: str, inputs: Any, outer: Place) -> Place:
    """Return the place of a node from what it is given."""
    state = inputs if isinstance(inputs, Mapping) else {}
    t, j, response = state.get("t"), state.get("level"), state.get("response")
    if t is None and response is not None:  # the grade of R_t
        t = getattr(response, "iteration", None)
    if t is None and step == "respond":  # R_0
        t = 0
    named = isinstance(j, int) and 0 <= j < len(outer.levels)
    return replace(
        outer,
        step=step,
        iteration=t if isinstance(t, int) else None,
        level=outer.levels[j] if named and j is not None else None,
        round=state["round"] if isinstance(state.get("round"), int) else outer.round,
    )


_watcher: ContextVar[NodeWatcher | None] = ContextVar("node_watcher", default=None)


@cache
def _the_watcher() -> NodeWatcher:
    register_configure_hook(_watcher, inheritable=True)
    return NodeWatcher()


@contextmanager
def observed_graph(name: str) -> Iterator[None]:
    """Observe the graph that is run in the block, at the current place.

    Args:
        name: Name of the graph, for its span.
    """
    place, began = current_place(), time.perf_counter()
    # A handler costs a tenth of a graph's own work: where no run notes its calls and
    # nobody listens or wants spans or logs, there is none.
    wanted = place.run is not None or not place.loop or spans.tracer() is not None
    wanted = wanted or _log.isEnabledFor(logging.INFO) or current_listener() is not None
    token = _watcher.set(_the_watcher() if wanted else _watcher.get())
    _log.info("%s started", name, extra={"place": place, "fields": {}})
    try:
        with spans.graph(name, place):
            yield
    except BaseException as error:
        fields = {"seconds": time.perf_counter() - began, "error": type(error).__name__}
        _log.info("%s stopped", name, extra={"place": place, "fields": fields})
        raise
    else:
        fields = {"seconds": time.perf_counter() - began}
        _log.info("%s finished", name, extra={"place": place, "fields": fields})
    finally:
        _watcher.reset(token)
