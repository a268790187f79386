"""The page of troubleshooting has every error class, with its exit code and nothing invented."""

import inspect
import re
from pathlib import Path

import pytest

from reflectory import errors

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == errors.__name__
]


def sections() -> dict[str, str]:
    parts = re.split(r"^### (\w+)$", PAGE.read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], (p.split("\n## ")[0] for p in parts[2::2]), strict=True))


def words_of(text: str) -> str:
    """Return a message as it stands in code or on the page, without what is filled in."""
    return " ".join(re.sub(r'"\s*f?"|\{[^}]*\}|\.\.\.', " ", text).split())


CODE = words_of(
    " ".join(file.read_text("utf-8") for file in sorted(Path(errors.__file__).parent.rglob("*.py")))
)


def test_every_class_has_a_section_and_every_section_a_class():
    assert sorted(sections()) == sorted(kind.__name__ for kind in CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_section_says_exit_code_cause_and_remedy(kind):
    text = sections()[kind.__name__]
    assert f"Exit code {kind.exit_code}." in text
    assert "**Why.**" in text
    assert "**What to do.**" in text


@pytest.mark.parametrize("name", sections())
def test_messages_on_the_page_stand_in_the_code(name):
    for message in re.findall(r"^\| `([^`]+)` \|", sections()[name], re.M):
        pieces = [" ".join(piece.split()) for piece in message.split("...")]
        for piece in filter(None, pieces):
            assert piece in CODE, f"no error says: {piece}"
