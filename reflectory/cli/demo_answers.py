"""The held-out answers that training changed most, side by side or below one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from reflectory.demo.checked import CheckedAnswer, most_changed
from reflectory.report.terminal import plain

SHOWN = 4
"""Questions that are written out; the others are in ``evaluation.json`` and in the report."""


class AnswersView:
    """Draws a few held-out questions, each with its right answer and both of the student's.

    Args:
        checked: All of them.
    """

    def __init__(self, checked: Sequence[CheckedAnswer]) -> None:
        self._checked = checked

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = most_changed(self._checked, SHOWN)
        if not shown:
            yield Text("No answer's F1 changed.")
            return
        changed = sum(1 for answer in self._checked if answer.change)
        some = f"the {len(shown)} that changed most" if changed > len(shown) else "these"
        yield Text(f"F1 changed for {changed} of {len(self._checked)} answers, {some}:")
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for answer in shown:
            for label, words in _lines(answer):
                table.add_row(label, words)
        yield table


def _lines(answer: CheckedAnswer) -> Iterator[tuple[str, Text]]:
    before, after = answer.f1
    yield "", Text("")
    yield "question", Text(plain(answer.question), style="bold")
    yield "right", Text(plain(answer.references[0] if answer.references else "-"))
    yield "before", _said(answer.before, before)
    yield "after", _said(answer.after, after)


def _said(text: str | None, f1: float) -> Text:
    words = " ".join(plain(text or "").split()) or "no answer"
    return Text.assemble(words, (f"  (F1 {f1:.2f})", "dim"))
