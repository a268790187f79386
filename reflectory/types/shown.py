"""Records that show themselves: as HTML in a notebook, as text in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


class Shown:
    """Mixed into a record whose class :mod:`reflectory.report.showing` knows.

    What it looks like is the report's business, which is loaded when something is shown;
    records know nothing of it.
    """

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from reflectory.report.showing import html_of

        return html_of(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows in a terminal, and keeps beside the HTML."""
        printer.text(str(self))

    def __rich__(self) -> RenderableType:
        """What rich prints, as in ``rich.print(record)``."""
        from reflectory.report.showing import rich_of

        return rich_of(self)

    def __str__(self) -> str:
        from reflectory.report.showing import text_of

        return text_of(self)

    def __repr__(self) -> str:
        # The fields would fill pages; what identifies the record is enough, and its first line.
        return f"<{type(self).__name__}: {str(self).partition(chr(10))[0].strip()}>"
