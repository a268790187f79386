"""What a folder that some command wrote holds: loops, rounds, both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reflectory.errors import RunDirectoryError
from reflectory.runs.directory import RunView
from reflectory.runs.manifest import Manifest
from reflectory.types import Trajectory


@dataclass(frozen=True)
class LoopsPart:
    """Loops that one run directory holds.

    Attributes:
        name: ``round 0`` for those of a round; empty for those of the run itself.
        view: Its directory.
    """

    name: str
    view: RunView

    def __len__(self) -> int:
        return len(self.view.trajectories)


@dataclass(frozen=True)
class RunParts:
    """A run directory and those inside of it.

    Attributes:
        path: The folder.
        manifest: Of the run itself.
        loops: Where trajectories are, at least one part.
    """

    path: Path
    manifest: Manifest
    loops: tuple[LoopsPart, ...]

    @classmethod
    def of(cls, path: str | Path) -> RunParts:
        """Look at a folder of ``run``, ``improve`` or ``demo`` without changing it.

        Raises:
            RunDirectoryError: It is none of these, or of a newer schema.
            IntegrityError: A file in it is damaged.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise RunDirectoryError(
                f"there is no folder {folder}", hint="pass the folder that a run was written to"
            )
        own = RunView.read(folder)
        inner = sorted(folder.glob("rounds/*/loops/manifest.json"))
        parts = [
            LoopsPart(f"round {int(file.parents[1].name)}", RunView.read(file.parent))
            for file in inner
            if file.parents[1].name.isdigit()
        ]
        if len(own.trajectories) or not parts:
            parts.insert(0, LoopsPart("", own))
        return cls(folder, own.manifest, tuple(parts))

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Of the run and of every part that is a folder of its own."""
        inner = [part.view.manifest for part in self.loops if part.name]
        return (self.manifest, *inner)

    def __len__(self) -> int:
        return sum(len(part) for part in self.loops)

    def __iter__(self) -> Iterator[tuple[int, Trajectory]]:
        """Yield every trajectory with the place of its part, each read once."""
        for place, part in enumerate(self.loops):
            for found in part.view.trajectories:
                yield place, found
