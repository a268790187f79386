"""Draw the alignment matrix of every finished loop of a run directory.

Saves one picture per loop, with the curve of its change, and prints their paths. It needs no
model and takes a second or two.

    python examples/plot_matrices.py [RUN] [-o FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reflectory.report.heatmap import save_alignment
from reflectory.runs import RunView


def plot_matrices(run: str | Path, folder: Path) -> list[Path]:
    """Save one PNG per finished loop and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        save_alignment(
            trajectory.alignment, folder / f"{number:04d}.png", title=trajectory.instruction
        )
        for number, trajectory in enumerate(RunView.read(run).trajectories)
        if trajectory.status == "done"
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, draw, and print the paths of the pictures."""
    parser = argparse.ArgumentParser(description="Plot the matrices of a run directory.")
    parser.add_argument("run", nargs="?", default="runs/demo", help="made by `reflectory demo`")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/pictures"))
    given = parser.parse_args(arguments)
    for picture in plot_matrices(given.run, given.output):
        print(picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
