"""A trajectory to read in the terminal, drawn with rich.

Meaning never rests on colour alone: what was removed stands in ``[-...-]``, what was added in
``{+...+}``, and only ASCII is added to the texts, for consoles that know no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reflectory.report.reading import words
from reflectory.report.reading.changes import WordChange
from reflectory.report.reading.marks import Mark, Piece, Source
from reflectory.report.reading.reader import reading_of
from reflectory.report.reading.view import (
    Iteration,
    ReadAddition,
    ReadAnswer,
    ReadCell,
    ReadGrade,
    Reading,
    ReadPassage,
    ReadResponse,
)
from reflectory.types import Failure, Trajectory

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_DRAFTS = 5  # that are printed of each response, besides the one that was taken
_SOFT, _BAD, _HEAD = "dim", "red", "bold"


def trajectory_text(
    trajectory: Trajectory,
    *,
    width: int = 100,
    passages: bool = True,
    facts: Mapping[str, str] | None = None,
) -> RenderableType:
    """Return a trajectory as text for a terminal: what stands on the page, unfolded.

    Signals of the grades, raw outputs and thinking are left to the page.

    Args:
        trajectory: What is shown; it may have failed.
        width: Columns that the text takes at most.
        passages: Whether the passages are printed, with what answers rest on in ``*...*``.
        facts: What else is known of it, such as its calls and tokens, by name.
    """
    from rich.console import Group
    from rich.constrain import Constrain

    reading = reading_of(trajectory)
    parts = [*_head(reading, facts or {}), *_course(reading)]
    if passages and reading.passages:
        parts += [_line(), _line(("Passages", _HEAD))]
        for passage in reading.passages:
            parts += _passage(passage)
    return Constrain(Group(*parts), width)


def plain_text(trajectory: Trajectory, *, width: int = 100) -> str:
    """Return :func:`trajectory_text` as lines without colours.

    Args:
        trajectory: Also one that failed.
        width: Most characters in a line.
    """
    from rich.console import Console

    console = Console(width=width, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(trajectory_text(trajectory, width=width))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _head(reading: Reading, facts: Mapping[str, str]) -> Iterator[RenderableType]:
    from reflectory.report.terminal import matrix_table

    known = reading.trajectory
    yield _line((known.instruction or "(no instruction)", _HEAD))
    yield _line(("trajectory ", _SOFT), (known.id, ""))
    yield _line(("ended      ", _SOFT), (words.stop_words(known), ""))
    if len(known.responses) > 1:
        yield _line(("grades G   ", _SOFT), (words.grades_words(known), ""))
    for name, value in facts.items():
        yield _line((f"{name:<11}", _SOFT), (value, ""))
    if known.error is not None:
        yield from _failure(known.error, 0)
    for flag in known.flags:
        yield _line(("look twice ", "bold yellow"), (words.FLAGS[flag], ""))
    if reading.returned is not None:
        yield _line()
        yield _line(("What it answers", _HEAD), (f" ({words.returned_words(known)})", _SOFT))
        yield from _answer(reading.returned.said, "G", 2)
    if reading.alignment is not None:
        yield _line()
        yield matrix_table(reading.alignment)


def _course(reading: Reading) -> Iterator[RenderableType]:
    if reading.first is not None:
        yield from _response(reading.first)
    for iteration in reading.iterations:
        if iteration.cells or iteration.additions:
            yield from _iteration(iteration)
        if iteration.following is not None:
            yield from _response(iteration.following)


def _response(read: ReadResponse) -> Iterator[RenderableType]:
    mark = " (returned, see above)" if read.returned else ""
    yield _line()
    yield _line((read.name, _HEAD), (mark, _SOFT))
    yield _indented(_line((read.origin, _SOFT)), 2)
    if read.changes and not read.same:
        yield _indented(_changes(read.changes), 2)
    if not read.returned:
        yield from _answer(read.said, "G", 2, text=not read.changes)
    if read.response.failure is not None:
        yield from _failure(read.response.failure, 2)
    if len(read.drafts) > 1:
        yield from _drafts(read)


def _drafts(read: ReadResponse) -> Iterator[RenderableType]:
    shown = [(d, taken) for n, (d, taken) in enumerate(read.drafts) if n < _DRAFTS or taken]
    for draft, taken in shown:
        mark = ", taken" if taken else ""
        agree = "" if draft.agreement is None else f", {draft.agreement:.0%} agree"
        source = "" if draft.passage is None else f" from {draft.passage} alone"
        counts = draft.channel is not None and draft.agreement is not None
        asks = f", question {draft.channel:+.1f} nats" if counts else ""
        head = f"draft {words.number(draft.score)} {draft.origin}{source}{agree}{asks}{mark}: "
        yield _indented(_line((head, _SOFT), (draft.text, "")), 2)
    if rest := len(read.drafts) - len(shown):
        yield _indented(_line((f"and {words.counted(rest, 'draft')} more", _SOFT)), 2)


def _iteration(read: Iteration) -> Iterator[RenderableType]:
    held = words.iteration_words([c.cell for c in read.cells], len(read.additions))
    yield _line()
    yield _line((f"Iteration t = {read.t}", _HEAD), (f" {held}", _SOFT))
    for cell in read.cells:
        yield from _cell(cell)
    for added in read.additions:
        yield _indented(_addition(added), 2)


def _cell(read: ReadCell) -> Iterator[RenderableType]:
    cell = read.cell
    yield _indented(_line((cell.level, _HEAD)), 2)
    if cell.question is not None:
        edited = " (changed by a person)" if cell.question.edited else ""
        yield _indented(_line((f"asked{edited}: ", _SOFT), (cell.question.text, "")), 4)
    if read.said is not None:
        yield from _answer(read.said, "grade", 4, before="said: ")
    if said := words.alignment_words(cell):
        yield _indented(_line((said.replace("\N{MULTIPLICATION SIGN}", "x"), "")), 4)
    if cell.failure is not None:
        yield from _failure(cell.failure, 4)


def _answer(
    read: ReadAnswer, symbol: str, indent: int, *, before: str = "", text: bool = True
) -> Iterator[RenderableType]:
    """Yield the words of an answer, its grade with the reason, and what it was written from."""
    if text:
        said = _pieces(read.pieces) if read.answer.text else _line(("(empty)", _SOFT))
        yield _indented(_line((before, _SOFT)).append_text(said), indent)
    if read.grade is not None:
        yield _indented(_grade(read.grade, symbol), indent)
    if read.sources:
        yield _indented(_sources(read.sources), indent)


def _grade(read: ReadGrade, symbol: str) -> Text:
    edited = " (changed by a person)" if read.feedback.edited else ""
    head = _line((f"{symbol} = {words.number(read.feedback.score)}{edited} ", _HEAD))
    return head.append_text(_pieces(read.reason))


def _sources(sources: Sequence[Source]) -> Text:
    line = _line((f"read {words.counted(len(sources), 'passage')}", _SOFT))
    for place, source in enumerate(s for s in sources if s.cited):
        before = "; " if place else "; rests on "
        line.append_text(_line((f"{before}[{source.number}] {source.title}", _SOFT)))
    return line


def _addition(read: ReadAddition) -> Text:
    because = words.addition_words(read.added)
    line = _line(("joined the context: ", _SOFT), (read.source.title, ""), (f", {because}", _SOFT))
    for step, name in read.path[1:]:
        edge = words.step_words(step)
        line.append_text(_line((f" -> {edge + ': ' if edge else ''}{name}", _SOFT)))
    return line


def _passage(read: ReadPassage) -> Iterator[RenderableType]:
    origin = f" ({read.origin})" if read.origin else ""
    yield _indented(_line((read.title, _HEAD), (origin, _SOFT)), 2)
    yield _indented(_marks(read.marks), 4)


def _marks(marks: Sequence[Mark]) -> Text:
    line = _line()
    for mark in marks:
        if mark.users:
            names = ", ".join(name for name, _ in mark.users)
            line.append_text(_line((f"*{mark.text}*", "bold"), (f" <for {names}>", _SOFT)))
        else:
            line.append_text(_line((mark.text, "")))
    return line


def _pieces(pieces: Sequence[Piece]) -> Text:
    line = _line()
    for piece in pieces:
        line.append_text(_line((piece.text, "")))
        if piece.supported is False:
            line.append_text(_line((" <no passage supports this>", _BAD)))
        elif piece.supported:
            numbers = "".join(f"[{source.number}]" for source in piece.sources)
            line.append_text(_line((f" {numbers}" if numbers else "", _SOFT)))
    return line


def _changes(changes: Sequence[WordChange]) -> Text:
    line = _line()
    for change in changes:
        text = change.text
        if change.kind == "same":
            line.append_text(_line((text, "")))
            continue
        # The brackets stand right at the words, with the white space around them.
        bare = text.strip()
        before, _, behind = text.partition(bare)
        marks, style = (
            (("[-", "-]"), "red") if change.kind == "removed" else (("{+", "+}"), "green")
        )
        line.append_text(_line((before, ""), (f"{marks[0]}{bare}{marks[1]}", style), (behind, "")))
    return line


def _failure(failure: Failure, indent: int) -> Iterator[RenderableType]:
    yield _indented(_line(("failed: ", "bold red"), (words.failure_words(failure), "")), indent)


def _line(*parts: tuple[str, str]) -> Text:
    """Return text of several styles; what cannot be shown is taken out here."""
    from rich.text import Text

    return Text.assemble(*((words.clean(text), style) for text, style in parts))


def _indented(renderable: RenderableType, columns: int) -> RenderableType:
    from rich.padding import Padding

    return Padding(renderable, (0, 0, 0, columns))
