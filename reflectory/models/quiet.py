"""Loading without the libraries' progress bars, which say nothing where loading takes a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_BLOCKS = 0
"""Blocks that want no bars at the moment, of all threads: there is one switch for all of them."""
_SHOWN = False
"""Whether there were bars before the first of them."""


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch the bars of transformers off, and back to what they were when nobody is loading.

    Several threads load at the same time (a model and an embedder), so the switch is turned
    back by whoever is the last.
    """
    global _BLOCKS, _SHOWN
    from transformers.utils import logging

    with _LOCK:
        if _BLOCKS == 0:
            _SHOWN = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()
        _BLOCKS += 1
    try:
        yield
    finally:
        with _LOCK:
            _BLOCKS -= 1
            if _BLOCKS == 0 and _SHOWN:
                logging.enable_progress_bar()


@contextmanager
def no_gguf_bar() -> Iterator[None]:
    """Switch off the bar with which transformers unpacks a GGUF file; it has no switch."""
    from transformers import modeling_gguf_pytorch_utils as reader

    given = getattr(reader, "tqdm", None)
    if given is None:  # a version without that bar
        yield
        return
    reader.tqdm = lambda *args, **options: given(*args, **{**options, "disable": True})
    try:
        yield
    finally:
        reader.tqdm = given
