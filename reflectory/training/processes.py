"""Which of the processes of `accelerate launch` or `torchrun` this one is.

The launchers say it by environment variables, so it is known before torch is
imported. Without a launcher there is one process, and it is the main one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        index: Its number over all machines, from 0.
        local_index: Its number on this machine, from 0.
        count: How many there are.
        local_count: How many of them are on this machine.
    """

    index: int = 0
    local_index: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.index == 0


def processes() -> Processes:
    """Return what the launcher says; one process without a launcher."""

    def number(name: str, default: int) -> int:
        text = os.environ.get(name, "")
        return int(text) if text.isdecimal() else default

    count = max(number("WORLD_SIZE", 1), 1)
    if count == 1:
        return Processes()
    local = max(number("LOCAL_WORLD_SIZE", count), 1)
    return Processes(number("RANK", 0), number("LOCAL_RANK", 0), count, local)


def from_main(value: Any, group: Processes) -> Any:
    """Return the main process's value in every process; plain data only."""
    if group.count == 1:
        return value
    from accelerate.utils import broadcast_object_list

    box = [value]
    broadcast_object_list(box, from_process=0)
    return box[0]
