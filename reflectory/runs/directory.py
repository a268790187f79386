"""The run directory: everything of a run in one folder that can be resumed.

``manifest.json`` makes a folder a run directory. Opened again with another
configuration it would mix two experiments, so that is refused with the fields
that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reflectory.config import RunConfig
from reflectory.errors import RunDirectoryError
from reflectory.runs.belonging import refuse_foreign, refuse_other, refuse_secrets
from reflectory.runs.call_cache import CallCache
from reflectory.runs.files import remove_temporaries, storage_errors, write_atomic
from reflectory.runs.lock import FolderLock
from reflectory.runs.manifest import Manifest, ModelRecord, build_manifest
from reflectory.runs.shared_cache import open_shared
from reflectory.runs.trajectories import TrajectoryStore
from reflectory.types import Trajectory


@dataclass(frozen=True)
class RunView:
    """A run directory to look at, also while another process works in it.

    Attributes:
        path: The folder.
        manifest: What the run was made with and what came of it.
        trajectories: What is finished so far; read only.
    """

    path: Path
    manifest: Manifest
    trajectories: TrajectoryStore

    @property
    def config(self) -> RunConfig:
        """The configuration of the run.

        Raises:
            ConfigError: The run was made by a version with other fields.
        """
        return RunConfig.from_dict(self.manifest.config, source=str(self.path))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Open a run directory without a lock and without changing it.

        Raises:
            RunDirectoryError: The folder is none, or of a newer schema.
            IntegrityError: A file in it is damaged.
        """
        folder = Path(path)
        if not (folder / "manifest.json").is_file():
            raise RunDirectoryError(
                f"{folder} is no run directory: it has no manifest.json",
                hint="pass the folder that a run was written to",
            )
        manifest = Manifest.load(folder / "manifest.json")
        return cls(folder, manifest, TrajectoryStore(folder / "trajectories.jsonl", readonly=True))


class RunDirectory:
    """A folder that one process at a time works in; made by :meth:`open`.

    Attributes:
        path: The folder.
        config: The configuration, with absolute paths.
        manifest: What the run was made with, as it was last written.
        calls: The call cache.
        trajectories: The finished loops.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        manifest: Manifest,
        calls: CallCache,
        trajectories: TrajectoryStore,
        resources: ExitStack,
    ) -> None:
        self.path = path
        self.config = config
        self.manifest = manifest
        self.calls = calls
        self.trajectories = trajectories
        self._resources = resources

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: RunConfig,
        *,
        identity: Mapping[str, Any],
        models: Mapping[str, ModelRecord] | None = None,
        device: str = "",
    ) -> Self:
        """Make a run directory, or open one to go on with it.

        Args:
            path: The folder; made with its parents when it is not there.
            config: The configuration.
            identity: What else decides the results, as JSON values: the hash of the
                documents' content and the fingerprints of the models.
            models: The models by the part they play, for the manifest.
            device: What the models run on, in words, for the manifest.

        Raises:
            RunDirectoryError: The folder belongs to another configuration (the fields
                are listed), to a newer schema or to something else, is in use by
                another process, or the configuration holds a secret.
            StorageError: The folder cannot be written.
            IntegrityError: A file in it is damaged.
        """
        folder = Path(path).absolute()
        config = config.anchored(Path.cwd())
        refuse_secrets(config, identity)
        refuse_foreign(folder)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(FolderLock(folder / ".lock").release)
            file = folder / "manifest.json"
            previous = Manifest.load(file) if file.exists() else None
            if previous is not None:
                refuse_other(folder, previous, config, identity)
            remove_temporaries(folder)
            shared = open_shared(config.cache, folder) if config.cache else None
            calls = CallCache(folder / "calls.sqlite", shared=shared)
            stack.callback(calls.close)
            trajectories = TrajectoryStore(folder / "trajectories.jsonl")
            manifest = build_manifest(
                config, identity, models=models, device=device, previous=previous
            )
            write_atomic(folder / "config.yaml", config.to_yaml())
            manifest.save(file)
            return cls(folder, config, manifest, calls, trajectories, stack.pop_all())

    @property
    def checkpoints_path(self) -> Path:
        """Where LangGraph keeps where each loop stands."""
        return self.path / "checkpoints.sqlite"

    def round_path(self, number: int) -> Path:
        """Return the folder of a round, made when it is not there.

        Args:
            number: The round, from 0.

        Raises:
            StorageError: The folder cannot be made.
        """
        folder = self.path / "rounds" / f"{number:03d}"
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def record(self, trajectory: Trajectory) -> bool:
        """Add a finished loop, after the calls that it was made from are on the disk.

        In this order a power cut cannot leave a trajectory whose calls are lost.
        It waits for the disk a few times; better called from a thread.

        Returns:
            Whether it was written; ``False`` when it was there already.

        Raises:
            StorageError: The disk is full; what was written before stays valid.
        """
        self.calls.sync()
        return self.trajectories.append(trajectory)

    def update_manifest(
        self,
        *,
        hits: int = 0,
        engines: Mapping[str, Mapping[str, float]] | None = None,
        spent: Mapping[str, float | None] | None = None,
        finished: bool = False,
    ) -> Manifest:
        """Write the totals so far into the manifest, and return it.

        Args:
            hits: Calls of this session that were answered from the cache.
            engines: What local engines computed in this session.
            spent: What counts against a budget (:mod:`reflectory.runs.spending`).
            finished: Whether all instructions are done.

        Raises:
            StorageError: The disk is full; the old manifest is still there.
        """
        self.manifest = self.manifest.updated_with(
            self.calls.stats(),
            done=self.trajectories.done,
            failed=self.trajectories.failed,
            stops=self.trajectories.stops(),
            hits=hits,
            engines=engines,
            spent=spent,
            finished=finished,
        )
        self.manifest.save(self.path / "manifest.json")
        return self.manifest

    def close(self) -> None:
        """Close the files and let another process in; closing twice is fine."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
