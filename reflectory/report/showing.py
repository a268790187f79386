"""What records show of themselves (:class:`reflectory.types.shown.Shown`), by their class."""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, Any

from reflectory.report.sheet import sheet_html, sheet_rich, sheet_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reflectory.report.sheet import Sheet

# Named and not imported, so that showing a data set loads nothing of rounds.
_SHEETS = {
    "DatasetManifest": "reflectory.report.dataset_sheet:manifest_sheet",
    "ImprovementResult": "reflectory.report.round_sheet:result_sheet",
    "OpenedRun": "reflectory.report.run_sheet:run_sheet",
    "ReportComparison": "reflectory.report.changes_sheet:changes_sheet",
    "RoundRecord": "reflectory.report.round_sheet:round_sheet",
    "RowSet": "reflectory.report.dataset_sheet:rows_sheet",
    "RunPlan": "reflectory.report.plan_sheet:plan_sheet",
}


def sheet_of(record: object) -> Sheet:
    """Return what a record shows of itself.

    Raises:
        TypeError: It is none of the records that have a sheet.
    """
    for kind in type(record).__mro__:
        place = _SHEETS.get(kind.__name__)
        if place is not None:
            module, _, name = place.partition(":")
            sheet: Sheet = getattr(importlib.import_module(module), name)(record)
            return sheet
    raise TypeError(f"{type(record).__name__} has no sheet")


def html_of(record: Any) -> str:
    """Return a record as a fragment of HTML."""
    if _is_evaluation(record):
        from reflectory.report.evaluation_page import tables_html

        return tables_html(record)
    return sheet_html(sheet_of(record))


def rich_of(record: Any) -> RenderableType:
    """Return a record as rich prints it."""
    if _is_evaluation(record):
        from reflectory.report.evaluation_table import evaluation_text

        return evaluation_text(record)
    return sheet_rich(sheet_of(record))


def text_of(record: Any, *, width: int = 100) -> str:
    """Return a record as text without colours.

    Args:
        record: What is written.
        width: Columns.
    """
    if not _is_evaluation(record):
        return sheet_text(sheet_of(record), width=width)
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(rich_of(record))
    return captured.get()


def _is_evaluation(record: object) -> bool:
    return any(kind.__name__ == "EvaluationReport" for kind in type(record).__mro__)
