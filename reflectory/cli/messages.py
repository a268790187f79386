"""Sentences for a terminal of any width: lines end between words, and paths stay whole."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from reflectory.cli.common import err
from reflectory.errors import ReflectoryError
from reflectory.report.terminal import plain

_MARKS = ("->", "-")
"""What begins a line of an error; the lines that go on stand below what follows it."""


def print_error(error: ReflectoryError, console: Console = err) -> None:
    """Write an error: its kind, what is wrong, and what helps.

    Only a terminal gets lines of its width. A file gets those of the message, which other
    programs can search.

    Args:
        error: What was raised.
        console: Where to.
    """
    kind = type(error).__name__
    text = plain(f"{kind}: {error}")
    if console.is_terminal:
        text = wrapped(text, console.width)
    shown = Text(text)
    shown.stylize("bold red", 0, len(kind))
    console.print(shown, soft_wrap=True)


def wrapped(text: str, width: int) -> str:
    """Return a text with line breaks between its words, where a line is longer than ``width``.

    A word that is longer itself is left whole, so that what is copied from the terminal is
    still the path or the name that it was.

    Args:
        text: Of any number of lines. The blanks that a line begins with, and a dash or an
            arrow after them, indent the lines it is broken into.
        width: Columns of the terminal.
    """
    return "\n".join(line for given in text.split("\n") for line in _wrapped_line(given, width))


def _wrapped_line(given: str, width: int) -> Iterator[str]:
    if cell_len(given) <= width:
        yield given
        return
    words = given.split(" ")
    line, *rest = words
    indent = ""
    while rest and not line.strip():  # the blanks at the beginning
        line = f"{line} {rest.pop(0)}"
    if line.strip() in _MARKS:
        indent = " " * (cell_len(line) + 1)
    else:
        indent = " " * (len(line) - len(line.lstrip()))
    for word in rest:
        if cell_len(line) + 1 + cell_len(word) <= width or line.strip() in _MARKS:
            line = f"{line} {word}"
        else:
            yield line.rstrip()
            line = indent + word
    yield line
