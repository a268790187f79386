"""How compiled loops are called: with a table of numbers, in the threads of torch.

Compiled code that knows no Python object can run in any thread. So a kernel takes the
address of a table of integers (sizes, and addresses of tensors), and every thread of
the team does its share of the rows.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numba import cfunc, types

TEAM_ROWS = 16
"""Of a kernel whose rows are short: to wake others for fewer costs as much as they take."""

_SOURCES = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()[:12]
"""Tells compiled code of one version of these files from that of another."""

_PROCESS = ctypes.CDLL(None)
# Asked for here, because code that is compiled without them ends the process.
_PARALLEL, _, _ = (
    getattr(_PROCESS, name)
    for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
)
_PARALLEL.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_PARALLEL.restype = None


class Kernel:
    """A compiled function of a table, called with what the table holds.

    Args:
        body: Takes a pointer to integers, the first of which is the number of rows.
        team_rows: Fewer rows than this are done by the calling thread.
    """

    def __init__(self, body: Callable[[Any], None], team_rows: int = TEAM_ROWS) -> None:
        self._team_rows = team_rows
        signature = types.void(types.CPointer(types.int64))
        # numba looks at the kernel's own file only before it takes what lies on disk.
        body.__qualname__ += f"_{_SOURCES}"
        try:
            compiled = cfunc(signature, cache=True)(body)
        except RuntimeError:  # No folder can be written to: every process compiles anew.
            compiled = cfunc(signature)(body)
        self._compiled = compiled  # Owns the code.
        self._address = compiled.address
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled.address)

    def __call__(self, rows: int, *table: int | torch.Tensor) -> None:
        """Run on some rows, in torch's threads where that pays.

        ``GOMP_parallel`` is what compilers make of ``#pragma omp parallel``: called from the
        thread that calls torch, it gives the work to the same threads. A pool of its own
        would fight with theirs, which wait spinning.

        Args:
            rows: How many there are.
            table: Sizes, and tensors, of which the address is taken; contiguous and on the
                processor.
        """
        numbers = (x.data_ptr() if isinstance(x, torch.Tensor) else x for x in table)
        values = (ctypes.c_int64 * (len(table) + 1))(rows, *numbers)
        if rows < self._team_rows or torch.get_num_threads() == 1:
            self._alone(ctypes.addressof(values))
        else:
            _PARALLEL(self._address, ctypes.addressof(values), 0, 0)
