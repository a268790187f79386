"""What a call cache gives out: calls as they were made, and sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RecordedCall:
    """One call as it was made.

    Attributes:
        key: Content hash of model, kind and request.
        kind: ``complete`` or ``score``.
        role: Who asked first and what for; another role may share the call.
        model: Fingerprint of the model that answered.
        request: What the model was given (``Request.content()``), texts included.
        response: What it said, as JSON values.
        seconds: How long the call took.
        created: When it was recorded, in seconds since 1970.
    """

    key: str
    kind: str
    role: str
    model: str
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    seconds: float
    created: float


@dataclass(frozen=True)
class CallTotals:
    """Sums over recorded calls.

    Attributes:
        calls: How many there are.
        prompt_tokens: Tokens that were read.
        reused_tokens: Those of them that came from a prefix cache.
        completion_tokens: Tokens that were written.
        seconds: Time of all calls added up; calls overlap, so this is no duration.
    """

    calls: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CacheStats:
    """What was asked through a call cache.

    Attributes:
        total: Sums over all calls that were made, also over those that were pruned.
        roles: Sums per role, in alphabetical order.
        segments: Number of different prompt segments.
    """

    total: CallTotals = CallTotals()
    roles: Mapping[str, CallTotals] = field(default_factory=dict)
    segments: int = 0
