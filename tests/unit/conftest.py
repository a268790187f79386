"""The fast tier: no network, no downloads, no real models."""

import pytest


@pytest.fixture(autouse=True)
def _no_real_models(monkeypatch, tmp_path_factory):
    """Make every way to a real model an error, and keep the cache away from the user's."""
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REFLECTORY_CACHE", str(tmp_path_factory.mktemp("cache")))
