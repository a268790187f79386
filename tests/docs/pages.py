"""The fenced blocks of the project's pages, for the tests that run them."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from reflectory.demo.story import data_folder

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
REAL_MODELS = "<!-- real models -->"

_FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=fence)\s*$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, line, language and text, and whether it needs real models."""

    page: Path
    line: int
    language: str
    code: str
    real: bool

    @property
    def name(self) -> str:
        """Page and line, as an editor understands them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            code=found["code"],
            real=text[: found.start()].rstrip().endswith(REAL_MODELS),
        )
        for found in _FENCE.finditer(text)
    ]


def blocks(language: str, *, real: bool = False) -> list[Block]:
    """Return the blocks of one language over all pages."""
    found = (block for page in PAGES for block in blocks_of(page))
    return [block for block in found if block.language == language and block.real is real]


def prose_of(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def make_notes(folder: Path) -> Path:
    """Put two of the packaged documents into ``folder/notes``, which the pages speak of."""
    notes = folder / "notes"
    notes.mkdir()
    for document in sorted((data_folder() / "documents").glob("*.md"))[:2]:
        shutil.copy(document, notes)
    return notes
