"""Pushing a data set: what goes to the hub, and what its refusals become."""

from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from test_dataset_formats import ROWS

from reflectory.errors import BackendError, DatasetError, UserError
from reflectory.training import write_dataset
from reflectory.training.dataset_hub import push_dataset


class Hub:
    """Stands in for HfApi and keeps what it was told."""

    def __init__(self, error=None):
        self.calls, self.error = [], error

    def create_repo(self, name, **options):
        if self.error is not None:
            raise self.error
        self.calls.append(("create_repo", name, options))
        return SimpleNamespace(repo_id=name if "/" in name else f"ada/{name}")

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options))


def refusal(status):
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    Exception.__init__(error, "no")
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "set", ROWS["sft"])
    return tmp_path / "set"


def test_the_folder_goes_up_as_one_commit(folder):
    hub = Hub()
    address = push_dataset(folder, "rows", private=True, api=hub)
    assert address == "https://huggingface.co/datasets/ada/rows"
    (_, name, made), (_, uploaded) = hub.calls
    assert name == "rows"
    assert made == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert uploaded["repo_id"] == "ada/rows" and uploaded["repo_type"] == "dataset"
    assert uploaded["folder_path"] == str(folder)
    assert uploaded["commit_message"] == "2 rows of the format sft"


def test_without_a_token_nothing_is_tried(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="token"):
        push_dataset(folder, "ada/rows")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        push_dataset(folder, "ada/rows", token="hf_x")


def test_only_a_data_set_is_pushed(tmp_path):
    hub = Hub()
    with pytest.raises(DatasetError, match="no data set"):
        push_dataset(tmp_path, "ada/rows", api=hub)
    assert hub.calls == []


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (refusal(403), UserError, None),
        (refusal(401), UserError, None),
        (refusal(503), BackendError, True),
        (refusal(404), BackendError, False),
        (ConnectionError("away"), BackendError, True),
        (HFValidationError("bad name"), UserError, None),
    ],
)
def test_refusals(folder, error, kind, retryable):
    with pytest.raises(kind, match="ada/rows") as caught:
        push_dataset(folder, "ada/rows", api=Hub(error))
    assert getattr(caught.value, "retryable", None) == retryable
