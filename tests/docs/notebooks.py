"""Runs a notebook of the examples in a folder, for the tests with and without real models."""

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


def shown(content: Any) -> list[dict[str, Any]]:
    """Return what the cells of a notebook show, by MIME type, without what they print."""
    outputs = [o for cell in content.cells for o in cell.get("outputs", [])]
    return [output["data"] for output in outputs if "data" in output]
