"""Models that give their memory to something else for a while, and take it back.

Imports nothing heavy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def sleeping(models: Iterable[Any]) -> AsyncIterator[None]:
    """Free the memory of local models while the block runs, on a GPU for training.

    Their running calls end first. A call that comes while the block runs wakes its model
    and is answered; after the block, the next call of each loads the weights again. Models
    without weights in this process, as those of a server, are left alone.

    Args:
        models: Meet :class:`~reflectory.models.protocol.Model`; one that wraps another
            (``inner``), as the call cache does, stands for it.
    """
    innermost = [_innermost(model) for model in models]
    waiting = [m.sleep for m in {id(m): m for m in innermost}.values() if hasattr(m, "sleep")]
    for sleep in waiting:
        await asyncio.to_thread(sleep)
    yield


def _innermost(model: Any) -> Any:
    while hasattr(model, "inner"):
        model = model.inner
    return model
