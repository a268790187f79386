"""Figures that a notebook shows although pyplot does not know of them.

Imports matplotlib; it is imported itself when something is drawn.
"""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


class ShownFigure(Figure):
    """A figure with a canvas of its own, registered nowhere, that shows itself as PNG.

    So ``ax.figure`` on the last line of a notebook's cell is a picture, without
    ``%matplotlib inline``. It is freed with its axes and may be drawn in any thread.

    Args:
        width: In inches.
        height: In inches.
        spacing: Between axes, as a share of their size.
    """

    def __init__(self, width: float, height: float, *, spacing: float = 0.02) -> None:
        engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=spacing)
        super().__init__(figsize=(width, height), layout=engine)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()
