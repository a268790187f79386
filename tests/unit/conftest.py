"""The fast tier: no network, no downloads, no real models."""

import os
import sys

# The hub's client reads this once, when it is imported, so it is set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import settings

# The same examples every time, and no limit that a busy machine could pass.
settings.register_profile("reflectory", derandomize=True, deadline=None)
settings.load_profile("reflectory")

HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}
_guarded: list[bool] = []


def _refuse_the_network(event, arguments):
    """Raise on every name that is looked up and every connection that leaves this machine."""
    if not _guarded:
        return
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if (host.decode() if isinstance(host, bytes) else host) not in HERE:
        pytest.fail(f"a test of the fast tier wants to reach {host!r}")


sys.addaudithook(_refuse_the_network)


@pytest.fixture(scope="module", autouse=True)
def _no_network_and_no_real_models(tmp_path_factory):
    """Hold for the fixtures of whole modules too, and not for the tests of other folders.

    Their cache is nobody else's. Folders without ``__init__.py`` are no packages to pytest:
    what had that scope ended with the session, and the slow tier behind got no models.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFLECTORY_FORBID_MODELS", "1")
        patch.setenv("REFLECTORY_CACHE", str(tmp_path_factory.mktemp("cache")))
        _guarded.append(True)
        yield
        _guarded.clear()


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("REFLECTORY_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """Return the folders of a saved tiny model and of two adapters for it."""
    import torch
    from peft import LoraConfig, get_peft_model

    from reflectory.testing.tiny import save_tiny_model, tiny_model

    root = tmp_path_factory.mktemp("models")
    base = save_tiny_model(root / "base")
    for number, extra in enumerate(
        ({}, {"use_rslora": True, "alpha_pattern": {"q_proj": 3}, "rank_pattern": {"v_proj": 2}})
    ):
        model, _ = tiny_model(0)
        model.config._name_or_path = str(base)
        torch.manual_seed(number)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", **extra))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(root / f"adapter{number}")
    return base, root / "adapter0", root / "adapter1"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Let the real pip see one local folder and nothing else; return the folder."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")
    monkeypatch.delenv("REFLECTORY_MODEL_SOURCE", raising=False)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder
