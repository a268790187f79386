"""Ending a run early and cleanly: what is in flight is finished, nothing more is begun."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Stoppable(Iterator[Item]):
    """Items of work that end when somebody asks for it.

    Args:
        items: What there is to do.
        asked: Set, by whatever thread, when no more of them may be begun.

    Attributes:
        total: How many there are, where ``items`` says so; else ``None``.
        left: Whether items were left because it was asked for; ``False`` where the
            last one had been given out by then.
    """

    def __init__(self, items: Iterable[Item], asked: threading.Event) -> None:
        self.total: int | None = getattr(items, "total", None)
        self.left = False
        self._items = iter(items)
        self._asked = asked

    def __next__(self) -> Item:
        if self.left:
            raise StopIteration
        item = next(self._items)
        if self._asked.is_set():
            self.left = True
            raise StopIteration
        return item
