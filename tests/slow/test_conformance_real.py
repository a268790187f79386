"""The conformance suite on the real parts: local engine, embedder, retriever and grader."""

import asyncio
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from reflectory.agents import PromptSet
from reflectory.agents.graders import GradingTask
from reflectory.agents.graders.calibration import Calibration
from reflectory.agents.graders.likelihood import LikelihoodGrader
from reflectory.config import RetrievalConfig
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Embedder
from reflectory.retrieval import resolve_retriever
from reflectory.testing.conformance import (
    check_embedder,
    check_grader,
    check_model,
    check_retriever,
)
from reflectory.types import Passage

pytestmark = pytest.mark.slow

PROMPTS = PromptSet.with_replacements()


@pytest.fixture(scope="module", params=["float32", "bfloat16", "int8"])
def model(request: pytest.FixtureRequest, language_model: Path) -> Iterator[LocalModel]:
    loaded = LocalModel.load(language_model, device="cpu", dtype=request.param)
    loaded.is_exact = request.param == "float32"  # type: ignore[attr-defined]
    yield loaded
    asyncio.run(loaded.aclose())


def test_the_local_engine_keeps_the_contract(model: LocalModel) -> None:
    asyncio.run(check_model(model, exact=model.is_exact))  # type: ignore[attr-defined]


def test_the_likelihood_grader_keeps_the_contract(model: LocalModel) -> None:
    calibration = Calibration(
        names=("fit", "support"),
        mean=(-2.0, 0.5),
        scale=(1.0, 0.5),
        weights=(1.0, 1.0),
        bias=0.0,
        cases=0,
        auc=0.5,
        model=model.fingerprint,
    )
    text = "Alexander Fleming saw the mould in London."
    context = (Passage(id="p1", document_id="d1", text=text, start=0, end=len(text)),)
    tasks = [GradingTask("Who saw the mould?", said, "", context) for said in ("Fleming", "I", "")]
    grader = LikelihoodGrader(model, PROMPTS, calibration)
    tolerance = 0.0 if model.is_exact else 0.1  # type: ignore[attr-defined]
    asyncio.run(check_grader(grader, tasks, tolerance=tolerance))


def test_the_default_embedder_keeps_the_contract(embedder: Embedder) -> None:
    asyncio.run(check_embedder(embedder))


def test_a_retriever_over_the_packaged_documents_keeps_the_contract(
    embedder: Embedder,
) -> None:
    with as_file(files("reflectory") / "demo" / "data" / "documents") as folder:
        retriever = resolve_retriever(folder, embedder, RetrievalConfig())
        query = "What fell on the Tunguska river?"
        asyncio.run(check_retriever(retriever, query))
