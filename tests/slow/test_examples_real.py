"""The examples and the marked blocks of the pages with the real default models."""

import subprocess
import sys
from pathlib import Path

import pytest

from reflectory.training import read_dataset

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "docs"))
from pages import blocks, make_notes  # noqa: E402

pytestmark = pytest.mark.slow

QUESTION = "Explain why scientists disagree about what exploded over Tunguska."


def run(*arguments: str, folder: Path) -> str:
    """Run Python in a process of its own, which gives the models' memory back at its end."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("block", [pytest.param(b, id=b.name) for b in blocks("python", real=True)])
def test_marked_blocks_run_as_written(block, tmp_path):
    make_notes(tmp_path)
    assert run("-c", block.code, folder=tmp_path).strip()


def test_run_loops(tmp_path):
    notes = make_notes(tmp_path)
    script = str(ROOT / "examples" / "run_loops.py")
    said = run(script, str(notes), "-i", QUESTION, "-t", "1", folder=tmp_path)
    assert QUESTION in said
    assert "R_final:" in said
    assert "expert" in said


def test_a_data_set_and_its_pictures(tmp_path):
    notes = make_notes(tmp_path)
    script = str(ROOT / "examples" / "make_dataset.py")
    said = run(script, str(notes), "-i", QUESTION, "-o", "made", folder=tmp_path)
    rows = read_dataset(tmp_path / "made" / "dataset").training_rows()
    assert f"{len(rows)} rows" in said
    plot = str(ROOT / "examples" / "plot_matrices.py")
    printed = run(plot, "made/run", "-o", "pictures", folder=tmp_path).split()
    assert [Path(p).name for p in printed] == ["0000.png"]
    assert (tmp_path / printed[0]).read_bytes().startswith(b"\x89PNG")
