"""Pages and examples without real models: no network, no downloads."""

import os

# The hub's client reads this once, when it is imported, so it is set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest


@pytest.fixture(autouse=True)
def _no_real_models(monkeypatch, tmp_path_factory):
    """Make every way to a real model an error, and keep the cache away from the user's."""
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "1")
    monkeypatch.setenv("REFLECTORY_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("MPLBACKEND", "Agg")
