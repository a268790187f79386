"""Run loops into a run directory and make a data set of what was learnt.

Prints how many rows of which kind lie where. The eight packaged instructions take
about five minutes on two cores; the same command again resumes.

    python examples/make_dataset.py [DOCUMENTS] [-i INSTRUCTION ...] [-o FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reflectory import ReflectiveLoop
from reflectory.config import CurationConfig
from reflectory.demo.story import data_folder
from reflectory.training import DatasetManifest, curate, prompter_for, write_dataset


def make_dataset(
    loop: ReflectiveLoop, instructions: str | Path | Sequence[str], folder: Path
) -> DatasetManifest:
    """Fill ``folder/run`` (again: resume) and write ``folder/dataset``."""
    trajectories = list(loop.map(instructions, output=folder / "run"))
    rule = CurationConfig(minimum_grade=0.5, minimum_score=0.5)
    curated = curate(trajectories, rule, prompter_for(loop.config))
    return write_dataset(folder / "dataset", curated.rows, rule=rule, counts=curated.counts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, make the data set and say where it is."""
    parser = argparse.ArgumentParser(description="Make a data set from reflective loops.")
    parser.add_argument("documents", nargs="?", default=str(data_folder() / "documents"))
    parser.add_argument("-i", "--instruction", action="append")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/make_dataset"))
    given = parser.parse_args(arguments)
    with ReflectiveLoop(given.documents) as loop:
        source = given.instruction or data_folder() / "practice.jsonl"
        manifest = make_dataset(loop, source, given.output)
    print(f"{manifest.rows} rows of {manifest.kinds} in {given.output / 'dataset'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
