"""A snapshot of a run as a person sees it: a few lines that fit into any terminal.

Facts are short pieces that are never cut; where they do not fit beside one another they
flow onto the next line, so 40 columns show what 140 do. Meaning never rests on colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from reflectory.cli.progress_snapshot import LoopNow, Snapshot
from reflectory.cli.progress_words import budget_words, head_words, model_words, steps_of
from reflectory.report.terminal import matrix_table, plain

_ORANGE = Style(color="#d94801")
_LABEL = 9
_BAR = (8, 40)  # columns of a bar, at least and at most
_FOR_NAMES = 0.6  # share of the width that the levels of a loop may take to be named
_ROWS_FOR_MATRIX = 16  # rows of a terminal from which the matrix is drawn

Piece = str | Text


class ProgressView:
    """Draws what :class:`~reflectory.cli.progress_activity.Activity` says at the moment.

    Args:
        snapshot: Called whenever the view is drawn.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._drawn: tuple[int, ...] = ()

    def rows_at(self, width: int) -> int:
        """Return how many rows what was drawn last takes where the terminal is ``width`` wide.

        Terminals wrap long lines anew when they get narrower.
        """
        return sum(max(1, -(-cells // width)) for cells in self._drawn)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # One column stays free: a full line makes some terminals begin another one.
        width = max(10, options.max_width - 1)
        height = max(3, console.height - 1)
        rows = self._rows(console, options.update_width(width), width, height)[:height]
        self._drawn = tuple(_cells(row) for row in rows)
        for number, row in enumerate(rows):
            if number:
                yield Segment.line()
            yield from row

    def _rows(
        self, console: Console, options: ConsoleOptions, width: int, height: int
    ) -> list[list[Segment]]:
        now = self._snapshot()
        lines = list(_facts(now, width, ascii_only=options.ascii_only))
        drawn = [_segments(console, line) for line in lines]
        matrix: list[list[Segment]] = []
        if now.matrix is not None and height >= _ROWS_FOR_MATRIX - 1:
            matrix = [
                [],
                _segments(
                    console, _clipped(f"matrix of: {plain(_one_line(now.title))}", width, "dim")
                ),
                *(_bare(row) for row in console.render_lines(matrix_table(now.matrix), options)),
            ]
        room = height - len(drawn) - len(matrix)
        loops = _loops(now, width, max(1, room))
        drawn += [_segments(console, line) for line in loops]
        if len(drawn) + len(matrix) <= height:
            drawn += matrix
        return drawn


def _facts(now: Snapshot, width: int, *, ascii_only: bool) -> Iterator[Text]:
    """Yield the lines about the whole: how far, how fast, what is spent."""
    label = "training" if now.training is not None else now.unit or "time"
    yield from _flow(label, _progress(now, width, ascii_only), width)
    if now.training is None:
        models = [*model_words(now)]
        if models:
            yield from _flow("models", models, width)
    spent = [*budget_words(now.budget)]
    if spent:
        yield from _flow("budget", spent, width)
    if now.stopping:
        said = "Finishing what is in flight and beginning nothing more;"
        yield from _flow(
            "", [Text(said, "bold"), Text("Ctrl-C once more stops at once", "bold")], width
        )


def _progress(now: Snapshot, width: int, ascii_only: bool) -> list[Piece]:
    words: list[Piece] = [*head_words(now)]
    training = now.training
    if training is not None:
        done, total = training.step, training.steps
    elif now.total:
        done, total = now.done, now.total
    else:
        return words
    # What is left of the first line is the bar's.
    room = width - _LABEL - len(str(words[0])) - 2
    least, most = _BAR
    if room >= least:
        words.insert(0, _bar(done, total, min(room, most), ascii_only))
    return words


def _bar(done: int, total: int, width: int, ascii_only: bool) -> Text:
    full = width if done >= total else int(width * done / max(1, total))
    mark, rest = ("=", "-") if ascii_only else ("━", "╌")
    return Text.assemble((mark * full, _ORANGE), (rest * (width - full), "dim"))


def _loops(now: Snapshot, width: int, room: int) -> Iterator[Text]:
    """Yield a line for each loop in the making, as many as there is room for."""
    shown = now.running if len(now.running) <= room else now.running[: max(0, room - 1)]
    said, longest = _steps(shown, named=True)
    if longest > _FOR_NAMES * width:
        said, longest = _steps(shown, named=False)
    places = [_place(loop, now.iterations) for loop in shown]
    margin = max(map(len, places), default=0)
    for loop, place, steps in zip(shown, places, said, strict=True):
        # Padded, so that everything stands below its like.
        padding = " " * (min(longest, width // 2) - cell_len(steps))
        yield _loop(loop, place.ljust(margin), f"{steps}{padding}", width)
    rest = len(now.running) - len(shown)
    if rest:
        more = f"and {rest} more" if shown else f"{rest} loops"
        yield _clipped(f"  {more}: {_crowd(now.running[len(shown) :])}", width, "dim")


def _steps(loops: Sequence[LoopNow], *, named: bool) -> tuple[list[str], int]:
    """Return where loops are, and the columns of the longest one."""
    said = [plain(_one_line(steps_of(loop, named=named))) for loop in loops]
    return said, max((cell_len(steps) for steps in said), default=0)


def _place(loop: LoopNow, iterations: int | None) -> str:
    """Return the iteration of a loop, of at most T; it counts from 0, as the equations do."""
    if loop.iteration is None:
        return ""
    return f"t={loop.iteration} " if iterations is None else f"t={loop.iteration}/{iterations} "


def _loop(loop: LoopNow, place: str, steps: str, width: int) -> Text:
    line = Text(f"  {place}", style="bold", no_wrap=True)
    line.append(steps, style="not bold")
    left = width - line.cell_len - 2
    if left >= 12 and loop.instruction:
        asked = Text(plain(_one_line(loop.instruction)), style="not bold dim")
        if asked.cell_len > left:
            asked.truncate(left - 2)
            asked.append("..")
        line.append("  ").append_text(asked)
    return _cut(line, width)


def _crowd(loops: Sequence[LoopNow]) -> str:
    """Return at which iterations many loops are: ``12 at t=0, 3 at t=1``."""
    at = Counter(-1 if loop.iteration is None else loop.iteration for loop in loops)
    said = [f"{n} beginning" if t < 0 else f"{n} at t={t}" for t, n in sorted(at.items())]
    return ", ".join(said)


def _flow(label: str, pieces: Sequence[Piece], width: int) -> Iterator[Text]:
    """Yield lines of pieces, two columns apart, under one label; no piece is broken."""
    indent = _LABEL if width >= 48 else 2
    head = label.ljust(indent) if len(label) < indent else f"{label} "
    line = Text(head, style="bold", no_wrap=True)
    begun = False
    for piece in pieces:
        text = Text(piece, style="not bold") if isinstance(piece, str) else piece
        gap = 2 if begun else 0
        if begun and line.cell_len + gap + text.cell_len > width:
            yield _cut(line, width)
            line, gap = Text(" " * indent, style="bold", no_wrap=True), 0
        line.append(" " * gap).append_text(text)
        begun = True
    yield _cut(line, width)


def _clipped(text: str, width: int, style: str) -> Text:
    return _cut(Text(_one_line(text), style=style, no_wrap=True), width)


def _cut(line: Text, width: int) -> Text:
    if line.cell_len > width:
        line.truncate(max(1, width - 2))
        line.append("..")
    return line


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _segments(console: Console, line: Text) -> list[Segment]:
    return [s for s in line.render(console) if s.text]


def _bare(row: list[Segment]) -> list[Segment]:
    """Return a row without the blanks that fill it up: they wrap when the terminal shrinks."""
    bare = list(row)
    while bare and not bare[-1].text.strip() and not (bare[-1].style and bare[-1].style.bgcolor):
        bare.pop()
    return bare


def _cells(row: Sequence[Segment]) -> int:
    return sum(segment.cell_length for segment in row)
