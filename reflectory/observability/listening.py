"""Being told, in this process and at once, of what a run does.

Spans, logs and traces are for later; a listener is for whoever shows a run while it goes
on. It is found through a context variable, as the place is, so nothing between the verb
and the model has to hand it on. Where nobody listens, each of these costs one look-up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reflectory.models.protocol import Usage
    from reflectory.observability.place import Place
    from reflectory.runs.budget import Ledger


class Listener:
    """Told of what happens; override what is of interest. All methods do nothing here.

    Contract: called on the thread of the event loop, between two steps of all loops, so a
    method returns at once and raises nothing. What is handed over is not changed.
    """

    def loop_began(self, loop: str) -> None:
        """A loop is begun or goes on; ``loop`` is the id of its trajectory."""

    def node_began(self, place: Place, state: Mapping[str, Any]) -> None:
        """A node of a loop begins, and this is the state that it is given.

        Args:
            place: Which loop, node, iteration and level.
            state: By channel, as the graph holds it.
        """

    def node_ended(self, place: Place, update: Mapping[str, Any]) -> None:
        """A node of a loop is done, and this is what it writes into the state.

        Args:
            place: Which loop, node, iteration and level.
            update: By channel.
        """

    def loop_ended(self, loop: str) -> None:
        """A loop is at its end, whether it is done, has failed or was stopped."""

    def call_ended(self, usage: Usage, *, cached: bool) -> None:
        """A call was answered.

        Args:
            usage: Tokens of the call.
            cached: Whether no model was asked, because it was recorded.
        """

    def budget_opened(self, ledger: Ledger) -> None:
        """A run has a ledger now; it may be read at any time, from any thread."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def current_listener() -> Listener | None:
    """Return who is told of what is being done now; ``None`` when nobody is."""
    return _LISTENER.get()


@contextmanager
def listened_by(listener: Listener | None) -> Iterator[None]:
    """Let somebody be told of what the block does, also of what it begins in other tasks.

    Args:
        listener: Who is told; ``None`` for nobody.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
