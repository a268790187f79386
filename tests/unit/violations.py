"""What a conformance check finds, as a value."""

import asyncio
from typing import Any

from reflectory.testing.conformance import ConformanceError

MISSING = ("members of the protocol are missing",)


def violations(check: Any) -> tuple[str, ...]:
    """Return what a check finds; nothing when the contract is kept."""
    try:
        asyncio.run(check)
    except ConformanceError as error:
        return error.violations
    return ()
