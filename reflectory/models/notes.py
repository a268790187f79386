"""What is found out on the way of a call, for whoever observes it from outside.

What stands in front of a model may know more of a call than its answer says: that
it was recorded before, and under which key. It writes that down here; an observer
reads it when the answer has come.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class CallNotes:
    """What was found out about one call.

    Attributes:
        key: Content hash under which the call is recorded; empty without a call cache.
        cached: Whether it was answered without asking the model for it.
    """

    key: str = ""
    cached: bool = False


CALL_NOTES: ContextVar[CallNotes | None] = ContextVar("call_notes", default=None)
"""The notes of the call that is being made; ``None`` when nobody observes it."""
