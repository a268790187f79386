"""What lies between the products, each in one pass over memory, by numba.

An optional part: with the extra ``fast`` the rows of a pass are scaled, normalised,
turned, gated and rounded by loops that LLVM compiles on first use and numba keeps on
disk. The torch operations of ``quantized.py``, ``llama.py`` and ``attention.py`` say
the same and serve where numba is missing; the tests hold one against the other.
"""

from reflectory.models.engine.kernels.attention import shared_attention
from reflectory.models.engine.kernels.between import absorb, gate, turn
from reflectory.models.engine.kernels.halves import gate_halves, norm_halves, turn_halves

__all__ = [
    "absorb",
    "gate",
    "gate_halves",
    "norm_halves",
    "shared_attention",
    "turn",
    "turn_halves",
]
