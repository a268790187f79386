"""Where in which run a piece of work belongs: run, round, loop, step, iteration, level.

A context variable holds it. Every branch of a graph is a task with a copy of the
context, so many loops at once do not see each other's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from reflectory.observability.listening import current_listener


@dataclass(frozen=True, slots=True)
class Run:
    """What the loops of one session share.

    Attributes:
        name: Name of the run directory.
        record: Told of every finished call: its place, its role and the key under
            which the call cache has it.
    """

    name: str
    record: Callable[[Place, str, str], object] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece of work belongs.

    Attributes:
        run: The run, ``None`` outside of a run directory.
        round: Number of the round of self-improvement, from 0.
        loop: Id of the trajectory; empty between loops.
        step: Name of the node; empty outside of one.
        iteration: t, where the node belongs to one.
        level: Name of the level, where the node belongs to one.
        levels: Names of all levels of the loop, easiest first.
    """

    run: Run | None = None
    round: int | None = None
    loop: str = ""
    step: str = ""
    iteration: int | None = None
    level: str | None = None
    levels: tuple[str, ...] = field(default=(), repr=False)

    def fields(self) -> dict[str, Any]:
        """Return what is known of the place, by name; what is not known is left out."""
        known = {
            "run": self.run.name if self.run is not None else None,
            "round": self.round,
            "loop": self.loop or None,
            "step": self.step or None,
            "iteration": self.iteration,
            "level": self.level,
        }
        return {name: value for name, value in known.items() if value is not None}


NOWHERE = Place()
_place: ContextVar[Place] = ContextVar("place", default=NOWHERE)


def current_place() -> Place:
    """Return the place of what is being done now."""
    return _place.get()


def move_to(place: Place) -> None:
    """Say where what follows in this task belongs."""
    _place.set(place)


@contextmanager
def in_run(name: str, record: Callable[[Place, str, str], object] | None = None) -> Iterator[None]:
    """Say that the block belongs to a run.

    Args:
        name: Name of the run directory.
        record: Told of every finished call, see :class:`Run`.
    """
    token = _place.set(replace(_place.get(), run=Run(name, record)))
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def observing(
    graph: str, *, loop: str = "", levels: Sequence[str] = (), round: int | None = None
) -> Iterator[None]:
    """Observe a graph that is run in the block: its nodes, and the calls they make.

    Args:
        graph: Its name, for spans and logs.
        loop: Id of the trajectory, where the graph is that of one.
        levels: Names of its levels, easiest first.
        round: Number of the round, where it is known.
    """
    from reflectory.observability.nodes import observed_graph

    outer = _place.get()
    place = replace(
        outer,
        loop=loop,
        step="",
        iteration=None,
        level=None,
        levels=tuple(levels),
        round=outer.round if round is None else round,
    )
    token = _place.set(place)
    listener = current_listener() if loop else None
    if listener is not None:
        listener.loop_began(loop)
    try:
        with observed_graph(graph):
            yield
    finally:
        if listener is not None:
            listener.loop_ended(loop)
        _place.reset(token)
