"""Tables that stay whole in a narrow terminal: what does not fit side by side stands in lines."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reflectory.report.terminal import plain


class FittingTable:
    """A table, or a few lines per row where the terminal is too narrow for its columns.

    Args:
        columns: Their names; the first one names a row.
        rows: Texts, as many in each as there are columns.
        right: Columns whose cells stand at the right, as numbers do.
        folded: Columns of which a long cell may be broken into several lines.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[str] = (),
        folded: Sequence[str] = (),
    ) -> None:
        self._columns = columns
        self._rows = [[plain(cell) for cell in row] for row in rows]
        self._right = frozenset(right)
        self._folded = frozenset(folded)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        boundless = options.update_width(1000)  # a measure is never wider than the console
        table = self._table()
        if Measurement.get(console, boundless, table).minimum <= options.max_width:
            yield table
            return
        for row in self._rows:
            yield Text(row[0], style="bold", overflow="fold")
            facts = zip(self._columns[1:], row[1:], strict=True)
            said = ", ".join(f"{name} {cell}" for name, cell in facts if cell)
            yield Padding(Text(said, overflow="fold"), (0, 0, 0, 2))

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE, pad_edge=False)
        for name in self._columns:
            table.add_column(
                name,
                justify="right" if name in self._right else "left",
                overflow="fold",
                no_wrap=name not in self._folded,
                min_width=12 if name in self._folded else None,
            )
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table
