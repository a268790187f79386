"""A finished data set on the Hugging Face hub; only when somebody asks for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from reflectory.errors import BackendError, DatasetError, UserError
from reflectory.models.hub import network_errors
from reflectory.training.dataset import read_manifest

_OFFLINE = ("1", "true", "yes", "on")


def push_dataset(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    token: str | None = None,
    api: Any = None,
) -> str:
    """Upload a folder that :func:`~reflectory.training.dataset.write_dataset` wrote.

    The repository is made when it is not there. Card, manifest and rows go up in one
    commit; files of an earlier data set are removed in it.

    Args:
        folder: The data set.
        name: ``OWNER/NAME``, or ``NAME`` for one of the token's owner.
        private: Whether only the owner sees it, where the repository is made.
        token: Instead of the one that ``hf auth login`` left or ``HF_TOKEN`` holds.
        api: Instead of :class:`huggingface_hub.HfApi`.

    Returns:
        Address of the data set.

    Raises:
        DatasetError: The folder holds no data set.
        UserError: There is no token, it may not write there, the name is none, or the
            hub was switched off.
        BackendError: The hub cannot be reached or refused.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError

    manifest = read_manifest(folder)
    if manifest is None:
        raise DatasetError(
            f"{folder} holds no data set to push", hint="write it with `reflectory dataset` first"
        )
    if api is None:
        token = token or get_token()
        if not token:
            raise UserError(
                "pushing to the hub needs a token, and there is none",
                hint="run `hf auth login`, or set HF_TOKEN to a token that may write",
            )
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in _OFFLINE:
            raise UserError(
                "the hub is switched off by HF_HUB_OFFLINE", hint="unset it to push a data set"
            )
        api = HfApi(token=token)
    try:
        repository = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id,
            repo_type="dataset",
            folder_path=str(folder),
            commit_message=f"{manifest.rows} rows of the format {manifest.format}",
            delete_patterns=["train.*", "train/*", "dataset_dict.json"],
        )
    except HFValidationError as error:
        raise UserError(
            f"{name!r} is no name of a data set: {error}", hint="write OWNER/NAME"
        ) from error
    except network_errors() as error:
        raise _refused(name, error) from error
    return f"https://huggingface.co/datasets/{repository.repo_id}"


def _refused(name: str, error: Exception) -> UserError | BackendError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return UserError(
            f"the hub does not let this token write to {name}: {error}",
            hint="use a token with the right to write there, or another name",
        )
    return BackendError(
        f"the data set could not be pushed to {name}: {error}",
        hint="it lies in its folder; push it again when the hub can be reached",
        retryable=status is None or status >= 500,
    )
