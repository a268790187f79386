"""The one thread in which torch computes.

OpenMP keeps a pool of workers for every thread that has ever computed. As soon as
two pools together have more workers than the machine has cores, GNU's runtime stops
spinning between operations and every operation waits for a wake-up: measured on two
cores, an operation of 20 microseconds took 44 as soon as a second thread had
computed once. So the engines and the embedder, which take turns anyway, share one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_EXECUTOR = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reflectory-torch")
_inside = threading.local()


def _marked(work: Callable[[], T]) -> T:
    _inside.here = True
    return work()


def run_in_torch_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in the torch thread and wait; at once when this is that thread.

    Work of different callers takes turns, so it should be short or have the
    thread to itself (a step of decoding, a batch of texts, a round of training).
    """
    if getattr(_inside, "here", False):
        return work()
    return _EXECUTOR.submit(_marked, work).result()


async def in_torch_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in the torch thread without blocking the event loop."""
    return await asyncio.wrap_future(_EXECUTOR.submit(_marked, work))
