"""Checkpoints of a training, in a work folder beside its output.

A checkpoint is filled under another name and renamed when it is on the disk, so
a kill at any moment leaves the one before. The work folder belongs to one set of
inputs: the same call goes on from it, another call clears it away. torch is
imported inside the functions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.errors import StorageError
from reflectory.runs.files import storage_errors, sync_folder, write_atomic
from reflectory.training.lineage import file_sha256
from reflectory.training.processes import Processes

if TYPE_CHECKING:
    from reflectory.config import TrainingConfig
    from reflectory.training.steps import NotedTrainer

_log = logging.getLogger(__name__)

_KEY, _WHOLE, _BOOKS = "key.json", "whole.json", "books.json"
_WEIGHTS, _BEST = "trained.safetensors", "best.safetensors"
_FINISHED = "finished"


def key_of(inputs: dict[str, Any]) -> str:
    """Return a hash of everything that decides how a training goes."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


class WorkFolder:
    """Where the checkpoints of one training lie.

    Args:
        output: Where the adapter will lie.
        key: What :func:`key_of` says about the inputs.
        group: The processes that train together; the main one writes.
    """

    def __init__(self, output: Path, key: str, group: Processes) -> None:
        self.path = output.parent / f".{output.name}.work"
        self._key = key
        self.group = group

    def open(self) -> None:
        """Clear away what belongs to other inputs, and what was being written when it ended."""
        if not self.group.main or not self.path.is_dir():
            return
        if self._kept_key() != self._key:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        for leftover in self.path.glob("*/.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def prepare(self) -> None:
        """Make the folder and say which inputs it belongs to.

        Raises:
            StorageError: It cannot be written.
        """
        if self._kept_key() == self._key:
            return
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / _KEY, json.dumps({"key": self._key}) + "\n")

    def remove(self) -> None:
        """Delete everything: the training is done, or there is nothing to go on from."""
        if self.group.main:
            shutil.rmtree(self.path, ignore_errors=True)

    def stage(self, name: str) -> StageFolder:
        """Return the part that belongs to one objective."""
        return StageFolder(self, self.path / name)

    def _kept_key(self) -> str | None:
        try:
            return str(json.loads((self.path / _KEY).read_bytes())["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class StageFolder:
    """Checkpoints of one objective: the last whole one, and the outcome when it is done."""

    def __init__(self, work: WorkFolder, path: Path) -> None:
        self._work = work
        self._path = path

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint; damaged ones do not count."""
        whole = [folder for folder in self._path.glob("step-*") if _is_whole(folder)]
        return max(whole, default=None, key=lambda folder: folder.name)

    def finished(self) -> Path | None:
        """Return what :meth:`finish` wrote, if the objective is done."""
        folder = self._path / _FINISHED
        return folder if _is_whole(folder) else None

    def discard(self) -> None:
        """Delete the checkpoints of this training: nobody shall go on from them."""
        self._work.remove()

    def write(self, trainer: NotedTrainer) -> None:
        """Write a checkpoint; a disk that takes none is said and does not end the training."""
        step = len(trainer.books.losses)

        def fill(folder: Path) -> None:
            import torch

            any_trainer: Any = trainer
            if self._work.group.main:
                write_weights(trainer, folder)
                torch.save(any_trainer.optimizer.state_dict(), folder / "optimizer.pt")
                torch.save(any_trainer.lr_scheduler.state_dict(), folder / "scheduler.pt")
                any_trainer._save_scaler(str(folder))
                any_trainer.state.save_to_json(str(folder / "trainer_state.json"))
            any_trainer._save_rng_state(str(folder))

        try:
            self._write(f"step-{step:09d}", fill, trainer)
        except StorageError as error:
            _log.warning("no checkpoint at step %d: %s", step, error.message)

    def finish(self, trainer: NotedTrainer) -> None:
        """Keep the outcome of a finished objective, if there is a checkpoint that it follows."""
        if not self._path.is_dir():
            return
        try:
            self._write(_FINISHED, lambda folder: self._fill_outcome(trainer, folder), trainer)
        except StorageError as error:
            _log.warning("the outcome of %s is not kept: %s", self._path.name, error.message)

    def _fill_outcome(self, trainer: NotedTrainer, folder: Path) -> None:
        if self._work.group.main:
            write_weights(trainer, folder)

    def read(self, trainer: NotedTrainer, folder: str | Path) -> None:
        """Put weights, books and measurements of a checkpoint back."""
        from safetensors.torch import load_file

        from reflectory.training.watch import copy_weights

        place = Path(folder)
        copy_weights(load_file(place / _WEIGHTS), trainer.trained())
        state = json.loads((place / _BOOKS).read_bytes())
        for name, value in state["books"].items():
            setattr(trainer.books, name, value)
        if trainer.watch is not None:
            trainer.watch.load(state["watch"], load_file(place / _BEST))

    def _write(self, name: str, fill: Any, trainer: NotedTrainer) -> None:
        """Fill a folder under another name, see it onto the disk, and rename it.

        Every process comes here at the same step; each has its own random state.
        """
        group, accelerator = self._work.group, trainer.accelerator
        new, place = self._path / f".new-{name}", self._path / name
        problem: StorageError | None = None
        try:
            if group.main:
                self._work.prepare()
                with storage_errors(new):
                    shutil.rmtree(new, ignore_errors=True)
                    new.mkdir(parents=True)
            accelerator.wait_for_everyone()
            with _torch_errors(new):
                fill(new)
        except StorageError as error:
            problem = error
        accelerator.wait_for_everyone()
        try:
            if problem is None and group.main:
                self._settle(new, place)
        finally:
            if group.main:
                shutil.rmtree(new, ignore_errors=True)
        if problem is not None:
            raise problem

    def _settle(self, new: Path, place: Path) -> None:
        files = {file.name: file_sha256(file) for file in sorted(new.iterdir())}
        write_atomic(new / _WHOLE, json.dumps(files, indent=2) + "\n")
        with storage_errors(new):
            for file in new.iterdir():
                with file.open("rb+") as stream:  # Windows wants it open for writing
                    os.fsync(stream.fileno())
            sync_folder(new)
            shutil.rmtree(place, ignore_errors=True)
            new.rename(place)
            sync_folder(self._path)
        for old in self._path.glob("step-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)


def write_weights(trainer: NotedTrainer, folder: Path) -> None:
    """Write what is trained, the books, and the best weights so far."""
    from safetensors.torch import save_file

    def plain(tensors: Any) -> dict[str, Any]:
        return {n: t.detach().contiguous().cpu() for n, t in tensors.items()}

    save_file(plain(trainer.trained()), folder / _WEIGHTS)
    watch = trainer.watch
    if watch is not None:
        save_file(plain(watch.weights), folder / _BEST)
    state = {
        "books": trainer.books.state(),
        "watch": None if watch is None else watch.state(),
    }
    (folder / _BOOKS).write_text(json.dumps(state) + "\n", encoding="utf-8")


class Schedule:
    """Says when a checkpoint is due: by steps, else by seconds.

    With several processes only steps count, because their clocks differ.
    """

    def __init__(self, config: TrainingConfig, group: Processes) -> None:
        self._steps = config.checkpoint_steps
        by_time = config.checkpoint_seconds if group.count == 1 and self._steps is None else None
        self._seconds = by_time
        self._last = time.monotonic()

    @property
    def writes(self) -> bool:
        """Whether any checkpoint is ever due."""
        return self._steps is not None or self._seconds is not None

    def __call__(self, step: int, now: float) -> bool:
        """Return whether one is due after this step."""
        if self._steps is not None:
            return step % self._steps == 0
        if self._seconds is None or now - self._last < self._seconds:
            return False
        self._last = now
        return True


def _is_whole(folder: Path) -> bool:
    """Return whether every file is there and holds what was written."""
    try:
        files = json.loads((folder / _WHOLE).read_bytes())
        return bool(files) and all(file_sha256(folder / n) == h for n, h in files.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


@contextlib.contextmanager
def _torch_errors(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors say about a full disk into a :class:`StorageError`."""
    from safetensors import SafetensorError

    try:
        with storage_errors(path):
            yield
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "write" not in str(error).lower():
            raise
        raise StorageError(
            f"cannot write {path}: {error}", hint="free some space on the disk"
        ) from error
