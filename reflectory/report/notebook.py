"""How records that know nothing of pictures are shown in a notebook."""

from __future__ import annotations

import io
from dataclasses import dataclass

from reflectory.evaluation.records import EvaluationReport


@dataclass(frozen=True, repr=False)
class ShownEvaluation:
    """An evaluation as a notebook shows it: HTML where there is a browser, else text.

    Attributes:
        report: What is shown.
    """

    report: EvaluationReport

    def _repr_html_(self) -> str:
        from reflectory.report.evaluation_page import tables_html

        return tables_html(self.report)

    def __repr__(self) -> str:
        from rich.console import Console

        from reflectory.report.evaluation_table import evaluation_text

        console = Console(file=io.StringIO(), width=100, color_system=None, force_jupyter=False)
        with console.capture() as captured:
            console.print(evaluation_text(self.report))
        return captured.get()


def show(report: EvaluationReport) -> ShownEvaluation:
    """Return what shows an evaluation when it is the last line of a notebook's cell.

    Args:
        report: As :class:`~reflectory.evaluation.records.EvaluationReport` or read from an
            ``evaluation.json``.
    """
    return ShownEvaluation(report)
