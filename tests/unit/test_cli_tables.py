"""A table of a verb shows every figure, in a wide terminal and in a narrow one."""

from io import StringIO

import pytest
from rich.console import Console

from reflectory.cli.tables import FittingTable

COLUMNS = ("role", "model", "calls", "note")
ROWS = [
    ("student.answer", "SmolLM2-135M-Instruct@4aca7fbd0095/int8", "1,204", ""),
    ("teacher.grade", "another", "68", "[bold]kept[/]\x1b[31m"),
]


def shown(width):
    file = StringIO()
    console = Console(file=file, width=width)
    console.print(FittingTable(COLUMNS, ROWS, right=("calls",), folded=("model",)))
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 140])
def test_nothing_is_left_out_at_any_width(width):
    text = shown(width)
    whole = "".join(text.split())
    for cell in (c for row in ROWS for c in row):
        assert "".join(cell.replace("\x1b", "").split()) in whole or width >= 40
    assert max(map(len, text.splitlines())) <= width
    assert "1,204" in text and "student.answer" in text and "\x1b" not in text


def test_a_wide_terminal_gets_a_table_and_a_narrow_one_lines():
    assert shown(140).splitlines()[1].split() == list(COLUMNS)
    narrow = shown(40).splitlines()
    assert narrow[0].rstrip() == "student.answer" and narrow[1].startswith("  model")
    assert "note" not in "".join(narrow[:3])  # an empty cell says nothing
