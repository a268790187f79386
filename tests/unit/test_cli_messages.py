"""Errors on a terminal: lines end between words at any width, and what is one word stays one."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from reflectory.cli.messages import print_error, wrapped
from reflectory.errors import ConfigError, UserError

LONG = "runs/of/a/very/long/name/that/no/narrow/terminal/has/room/for"


def said(error, *, width=40, terminal=True):
    file = StringIO()
    print_error(error, Console(file=file, force_terminal=terminal, no_color=True, width=width))
    return file.getvalue()


def test_lines_of_an_error_end_between_words_and_go_on_below_what_they_began_with():
    error = UserError(f"{LONG} belongs to another run", hint="choose another folder for this one")
    lines = said(error, width=30).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert lines == [
        "UserError:",
        LONG,
        "belongs to another run",
        "  -> choose another folder for",
        "     this one",
    ]


def test_every_problem_of_a_configuration_keeps_its_dash():
    shown = said(ConfigError(["loop.epsilon: it is too small for what it should mean", "b: c"]))
    assert "  - loop.epsilon: it is too small for\n    what it should mean\n  - b: c\n" in shown


def test_a_file_gets_the_lines_of_the_message():
    error = UserError(f"{LONG} belongs to another run, which has another configuration")
    assert said(error, terminal=False) == f"UserError: {error}\n"


def test_what_a_name_contains_is_no_command_to_the_terminal():
    shown = said(UserError("no [bold]file[/] \x1b]0;title\x07here"), terminal=False)
    assert shown == "UserError: no [bold]file[/] ]0;titlehere\n"


@given(
    st.text(st.sampled_from("ab -\n>日é"), max_size=120),
    st.integers(min_value=1, max_value=60),
)
def test_no_word_is_lost_and_no_line_of_several_words_is_too_long(text, width):
    lines = wrapped(text, width).split("\n")
    assert " ".join(lines).split() == text.split()
    for line in lines:
        words = [word for word in line.split() if word not in ("-", "->")]
        assert cell_len(line) <= width or len(words) <= 1


@pytest.mark.parametrize("text", ["", " ", "a", "  a", "a\n\nb"])
def test_what_fits_stays_as_it_is(text):
    assert wrapped(text, 10) == text
