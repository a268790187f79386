"""The page of equations and the code name the same numbers, and its links lead to the code."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "equations.md"
_NAMED = re.compile(r"Equations?[ \n]+(\d+)(?:,? (and|to) (\d+))?")
_LINK = re.compile(r"\]\((reference/\w+\.md)#([\w.]+)\)")


def numbers_in(text: str) -> set[int]:
    """Return the equations that a text names: one, two (and), or all between two (to)."""
    found: set[int] = set()
    for first, word, last in _NAMED.findall(text):
        end = int(last or first)
        found |= set(range(int(first), end + 1)) if word == "to" else {int(first), end}
    return found


def sections() -> dict[str, str]:
    """Return the text below each heading that names equations."""
    parts = re.split(r"^### (Equations? .+)$", PAGE.read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], (p.split("\n## ")[0] for p in parts[2::2]), strict=True))


def thing_at(name: str):
    """Return the module, or the object in a module, of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        home, _, last = name.rpartition(".")
        return getattr(importlib.import_module(home), last)


def test_numbers_are_read_in_all_their_forms():
    said = "Equation 7, Equations 2 and 3, (Equations\n20 to 22) and Equation 12."
    assert numbers_in(said) == {2, 3, 7, 12, 20, 21, 22}


def test_the_page_has_every_equation_that_code_names_and_no_other():
    named = set()
    for file in (ROOT / "reflectory").rglob("*.py"):
        named |= numbers_in(file.read_text("utf-8"))
    headings = [number for heading in sections() for number in sorted(numbers_in(heading))]
    assert sorted(headings) == sorted(named)  # as lists: none stands there twice


@pytest.mark.parametrize("heading", sections())
def test_an_equation_leads_to_code_that_bears_its_number(heading):
    links = _LINK.findall(sections()[heading])
    assert links
    bearing = set()
    for page, name in links:
        blocks = re.findall(r"^::: (\S+)", (ROOT / "docs" / page).read_text("utf-8"), re.M)
        assert any(name == b or name.startswith(f"{b}.") for b in blocks), f"{name} on {page}"
        bearing |= numbers_in(inspect.getsource(thing_at(name)))
    assert bearing >= numbers_in(heading)


@pytest.mark.parametrize("heading", sections())
def test_an_equation_has_symbols_and_words(heading):
    text = sections()[heading]
    assert text.strip().startswith("**")
    assert "```text\n" in text
