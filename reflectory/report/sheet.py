"""A sheet: a title, sentences and tables, as a notebook and a terminal show a record.

What a record says is put together once (:mod:`reflectory.report.sheets`) and shown in both
places. Everything in it is text: the template escapes it, and control characters are taken
out in the terminal.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflectory.alignment import AlignmentMatrix

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: Stands above.
        heads: Names of the columns; the first one names the rows.
        rows: Cells as they are written, as many per row as there are heads.
        bars: A share in [0, 1] per row, drawn beside it; none when empty.
        words: Heads of the columns that hold words and not numbers.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[float, ...] = ()
    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sheet:
    """What a record shows of itself.

    Attributes:
        title: One line.
        lines: Sentences.
        warnings: What a reader should know before believing a number.
        grids: Tables; those without rows are left out.
        matrix: A matrix below the sentences.
        matrix_caption: What it is.
        folded: Longer texts by their label, folded where that is possible; left out in the
            terminal.
    """

    title: str
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    matrix: AlignmentMatrix | None = None
    matrix_caption: str = ""
    folded: tuple[tuple[str, str], ...] = ()


def sheet_html(sheet: Sheet) -> str:
    """Return a sheet as a fragment of HTML that is readable on light and dark pages."""
    from reflectory.report.html import environment
    from reflectory.report.matrix_html import matrix_html, whole_characters

    matrix = ""
    if sheet.matrix is not None:
        matrix = matrix_html(sheet.matrix, caption=sheet.matrix_caption)
    return whole_characters(
        environment()
        .get_template("sheet.html.j2")
        .render(sheet=sheet, matrix=matrix, grids=[grid for grid in sheet.grids if grid.rows])
    )


def sheet_rich(sheet: Sheet) -> RenderableType:
    """Return a sheet as rich prints it."""
    from rich.console import Group
    from rich.text import Text

    from reflectory.report.terminal import matrix_table, plain

    parts: list[RenderableType] = [Text(plain(sheet.title), style="bold")]
    parts += [Text(plain(line)) for line in sheet.lines]
    parts += [Text(f"note: {plain(line)}", style="yellow") for line in sheet.warnings]
    if sheet.matrix is not None:
        parts += ["", Text(plain(sheet.matrix_caption)), matrix_table(sheet.matrix)]
    parts += [_table(grid) for grid in sheet.grids if grid.rows]
    return Group(*parts)


def sheet_text(sheet: Sheet, *, width: int = 100) -> str:
    """Return a sheet as text without colours.

    Args:
        sheet: What is written.
        width: Columns.
    """
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(sheet_rich(sheet))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().split("\n"))


def _table(grid: Grid) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from reflectory.report.terminal import plain

    caption = Text(plain(grid.caption)) if grid.caption else None
    table = Table(box=box.SIMPLE, title=caption, title_justify="left", pad_edge=False)
    for place, head in enumerate(grid.heads):
        left = not place or head in grid.words
        table.add_column(Text(plain(head)), justify="left" if left else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return table
