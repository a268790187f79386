"""Runs a notebook of the examples in a folder, for the tests with and without real models."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
DOUBLES = "import notebook_doubles"


def execute(notebook: Path, folder: Path, *, doubles: bool, timeout_s: int) -> Any:
    """Run all cells and return the notebook with its outputs; a cell that raises is an error.

    Args:
        notebook: The file; it is left as it is.
        folder: Where the cells run, and what they write lies.
        doubles: Whether doubles stand in the place of the default models.
        timeout_s: Longest time of one cell.
    """
    import nbformat
    from nbclient import NotebookClient

    if sys.platform == "win32":
        pytest.skip("the kernel needs another event loop there")
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    if doubles:
        content.cells.insert(0, nbformat.v4.new_code_cell(DOUBLES))
    NotebookClient(
        content,
        kernel_name="python3",
        timeout=timeout_s,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return content


def check(content: Any) -> None:
    """Fail where a notebook that was run shows too little, an empty box, or a library's noise."""
    cells = [cell for cell in content.cells if cell["source"] != DOUBLES]
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    noise = [o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == "stderr"]
    assert not noise, noise
    seen = [output["data"] for output in outputs if "data" in output]
    assert sum("text/html" in data or "image/png" in data for data in seen) >= 3
    for data in seen:
        if "text/html" in data:
            text = re.sub(r"<style.*?</style>|<[^>]+>", "", data["text/html"], flags=re.DOTALL)
            assert text.strip(), data["text/html"][:200]
