"""The slow tier: the real default models, fetched and loaded once for the whole session."""

import os
from pathlib import Path

# Read when torch is loaded, here and in the processes that tests start. A thread that waits
# spinning takes the core of the one it waits for as soon as anything else runs on the machine:
# on two busy cores the checks of one model took over ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from reflectory.models.defaults import ensure_embedding_model, ensure_language_model
from reflectory.models.embedders import resolve_embedder
from reflectory.models.protocol import Embedder


@pytest.fixture(scope="session", autouse=True)
def default_models() -> tuple[Path, Path]:
    """Return the folders of the default language model and embedder; get them first if need be."""
    return ensure_language_model().path, ensure_embedding_model().path


@pytest.fixture(scope="session")
def language_model(default_models: tuple[Path, Path]) -> Path:
    """Return the folder of the default language model."""
    return default_models[0]


@pytest.fixture(scope="session")
def embedder(default_models: tuple[Path, Path]) -> Embedder:
    """Return the default embedder on the CPU, loaded once."""
    return resolve_embedder("local", device="cpu")
