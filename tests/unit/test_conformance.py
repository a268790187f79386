"""The conformance suite of embedders, retrievers and graders: every breach is named."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from violations import MISSING, violations

from reflectory.agents import PromptSet
from reflectory.agents.graders import FunctionGrader, GradingTask, SpokenGrader
from reflectory.config import RetrievalConfig
from reflectory.errors import OutputError, UserError
from reflectory.retrieval.retriever import DocumentRetriever
from reflectory.testing.conformance import check_embedder, check_grader, check_retriever
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld
from reflectory.types import Feedback, ScoredPassage

# Embedders


class Embedding:
    """Embeds honestly, and lets a function spoil the vectors."""

    fingerprint = "spoiled"
    dimension = 16

    def __init__(self, spoil: Callable[[Sequence[str], Any], Any]) -> None:
        self._inner = HashingEmbedder(16)
        self._spoil = spoil

    async def embed(self, texts: Sequence[str]) -> Any:
        return self._spoil(texts, await self._inner.embed(texts))


def in_crowds(texts: Sequence[str], vectors: Any) -> Any:
    """Vectors that lean towards the mean of the call."""
    mixed = vectors + vectors.mean(axis=0, keepdims=True) if len(texts) else vectors
    return (mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)).astype("f4")


def test_the_doubles_keep_the_contract_of_embedders() -> None:
    assert violations(check_embedder(HashingEmbedder())) == ()
    assert violations(check_embedder(HashingEmbedder(64))) == ()
    assert violations(check_embedder(ConstantEmbedder())) == ()
    assert violations(check_embedder(Embedding(lambda texts, vectors: vectors))) == ()


SHAPE = "embed does not give float32 of shape (texts, dimension)"
DRAW = np.random.default_rng(0)


def random_vectors(texts: Sequence[str], vectors: Any) -> Any:
    drawn = DRAW.normal(size=vectors.shape)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def forgetful(texts: Sequence[str], vectors: Any) -> Any:
    texts.clear()  # type: ignore[attr-defined]
    return vectors


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (lambda texts, vectors: vectors * 2, "a vector has the length 2 instead of 1"),
        (lambda texts, vectors: vectors * 0, "a vector has the length 0 instead of 1"),
        (lambda texts, vectors: vectors.astype(np.float64), SHAPE),
        (lambda texts, vectors: vectors.tolist(), SHAPE),
        (lambda texts, vectors: None, "embed gives None"),
        (lambda texts, vectors: vectors[:, :8], SHAPE),
        (lambda texts, vectors: vectors[:1], SHAPE),
        (lambda texts, vectors: vectors if len(texts) else np.zeros(0, "f4"), SHAPE),
        (lambda texts, vectors: vectors * np.float32("nan"), "a vector is not finite"),
        (lambda texts, vectors: np.sort(vectors, axis=0), "vectors do not follow their texts"),
        (random_vectors, "the same texts get other vectors"),
        (in_crowds, "a vector depends on the texts beside it"),
        (forgetful, "embed changes the list of texts"),
        (lambda texts, vectors: 1 / 0, "embed raised ZeroDivisionError: division by zero"),
    ],
)
def test_an_embedder_that_breaks_a_point_is_caught(spoil: Any, violation: str) -> None:
    assert violation in violations(check_embedder(Embedding(spoil)))


def test_something_else_is_no_embedder() -> None:
    assert violations(check_embedder(object())) == MISSING  # type: ignore[arg-type]


# Retrievers


def world_retriever() -> DocumentRetriever:
    config = RetrievalConfig(passage_tokens=16)
    documents = [
        document.model_copy(update={"text": f"{document.text} " * 6})
        for document in SyntheticWorld().documents()
    ]
    return DocumentRetriever(documents, HashingEmbedder(), config)


class Retrieving:
    """Retrieves honestly, and lets a function spoil what is found."""

    fingerprint = "spoiled"

    def __init__(self, spoil: Callable[..., Any]) -> None:
        self._inner = world_retriever()
        self._spoil = spoil

    async def prepare(self) -> int:
        return await self._inner.prepare()

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> Any:
        found = await self._inner.retrieve(query, per_document=100, limit=100)
        return self._spoil(found, per_document, limit)


def quota(found: Sequence[ScoredPassage], per_document: int, limit: int) -> list[ScoredPassage]:
    taken: dict[str, int] = {}
    kept = []
    for scored in found:
        name = scored.passage.document_id
        taken[name] = taken.get(name, 0) + 1
        if taken[name] <= per_document:
            kept.append(scored)
    return kept[:limit]


def moved(found: Sequence[ScoredPassage], per_document: int, limit: int) -> list[ScoredPassage]:
    """Offsets that do not fit the text."""
    return [
        s.model_copy(update={"passage": s.passage.model_copy(update={"end": s.passage.end + 1})})
        for s in quota(found, per_document, limit)
    ]


def levelled(found: Sequence[ScoredPassage], per_document: int, limit: int) -> Any:
    """Equal scores, ordered by nothing."""
    equal = [s.model_copy(update={"score": 1.0}) for s in quota(found, per_document, limit)]
    return sorted(equal, key=lambda s: s.passage.id, reverse=True)


def test_the_retriever_of_the_world_passes() -> None:
    assert violations(check_retriever(world_retriever(), "Which fact is known?")) == ()
    assert violations(check_retriever(Retrieving(quota), "Which fact is known?")) == ()


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (lambda found, per, limit: quota(found, per, 100), "more passages than limit are found"),
        (
            lambda found, per, limit: quota(found, 100, limit),
            "more passages of one document than per_document are found",
        ),
        (
            lambda found, per, limit: quota(found, per, limit - 1),
            "fewer passages than limit are found although there are more",
        ),
        (
            lambda found, per, limit: quota(found, per, limit)[::-1],
            "scores rise from one passage to the next",
        ),
        (levelled, "passages with equal scores are not ordered by id"),
        (
            lambda found, per, limit: [found[0]] * min(per, limit),
            "two passages have the same id",
        ),
        (moved, "the offsets of a passage do not fit its text"),
        (lambda found, per, limit: None, "retrieve gives None"),
        (lambda found, per, limit: tuple(found), "retrieve gives no list of ScoredPassage"),
        (
            lambda found, per, limit: [s.passage for s in found],
            "retrieve gives no list of ScoredPassage",
        ),
        (lambda found, per, limit: {}["x"], "retrieve raised KeyError: 'x'"),
    ],
)
def test_a_retriever_that_breaks_a_point_is_caught(spoil: Any, violation: str) -> None:
    assert violation in violations(check_retriever(Retrieving(spoil), "Which fact is known?"))


def test_a_retriever_that_wavers_is_caught() -> None:
    class Wavering(Retrieving):
        calls = 0

        async def retrieve(self, query: str, *, per_document: int, limit: int) -> Any:
            self.calls += 1
            found = await super().retrieve(query, per_document=per_document, limit=limit)
            return [s.model_copy(update={"score": s.score + self.calls}) for s in found]

        @property
        def fingerprint(self) -> str:  # type: ignore[override]
            return f"after {self.calls} calls"

    found = violations(check_retriever(Wavering(quota), "Which fact is known?"))
    assert "the same query finds something else" in found
    assert "fingerprint changes with use" in found


def test_a_retriever_that_falls_with_one_cancelled_call_is_caught() -> None:
    class Fragile(Retrieving):
        shared: Any = None

        async def retrieve(self, query: str, *, per_document: int, limit: int) -> Any:
            if self.shared is None or self.shared.done():
                call = super().retrieve(query, per_document=per_document, limit=limit)
                self.shared = asyncio.ensure_future(call)
            return list(await self.shared)

    (violation,) = violations(check_retriever(Fragile(quota), "Which fact is known?"))
    assert violation.startswith("retrieve beside one that was cancelled was cancelled though")


def test_a_query_that_finds_nothing_shows_nothing() -> None:
    with pytest.raises(UserError, match="finds nothing for 'x'"):
        asyncio.run(check_retriever(Retrieving(lambda *_: []), "x"))


def test_something_else_is_no_retriever() -> None:
    assert violations(check_retriever(object(), "x")) == MISSING  # type: ignore[arg-type]


# Graders


def by_length(task: GradingTask) -> tuple[float, str]:
    return min(1.0, len(task.answer) / 100), "Its length."


class Grading:
    """Grades honestly, and lets a function spoil the feedback."""

    fingerprint = "spoiled"

    def __init__(self, spoil: Callable[[GradingTask, Feedback], Any]) -> None:
        self._inner = FunctionGrader(by_length)
        self._spoil = spoil

    async def grade(self, task: GradingTask) -> Any:
        return self._spoil(task, await self._inner.grade(task))


def changed(**changes: Any) -> Callable[[GradingTask, Feedback], Feedback]:
    return lambda task, feedback: feedback.model_copy(update=changes)


def failing(error: Exception) -> Callable[[GradingTask, Feedback], Any]:
    def spoil(task: GradingTask, feedback: Feedback) -> Any:
        raise error

    return spoil


def test_graders_that_keep_the_contract_pass() -> None:
    assert violations(check_grader(FunctionGrader(by_length))) == ()
    assert violations(check_grader(Grading(changed()))) == ()
    judge = ScriptedModel(
        lambda request: f"So it is.\nScore: {len(request.segments[-1].text) % 10}"
    )
    assert violations(check_grader(SpokenGrader(judge, PromptSet.with_replacements()))) == ()
    world = SyntheticWorld()
    tasks = [GradingTask("Do it.", f"I answer with skill {n}") for n in range(3)]
    assert violations(check_grader(world.grader(), tasks)) == ()


def test_a_grader_may_fail_on_some_tasks() -> None:
    def empty(task: GradingTask) -> float:
        return 0.5 if task.answer else -1.0

    assert violations(check_grader(FunctionGrader(empty))) == ()


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (changed(score=1.5), "a score lies outside [0, 1]"),
        (changed(score=float("nan")), "a score lies outside [0, 1]"),
        (changed(reason=" "), "a reason is blank"),
        (changed(grader=""), "feedback does not name its grader"),
        (changed(signals={"fit": float("-inf")}), "a signal is not finite"),
        (lambda task, feedback: None, "grade gives None"),
        (lambda task, feedback: feedback.score, "grade gives no Feedback"),
        (failing(ValueError("no number")), "grade raised ValueError: no number"),
        (failing(OutputError("unreadable", raw="?")), "no task could be graded"),
        (failing(OutputError("unreadable", raw=None)), "a failure does not hold the raw text"),
        (
            lambda task, feedback: feedback.model_copy(update={"score": DRAW.random()}),
            "the same task gets other feedback",
        ),
    ],
)
def test_a_grader_that_breaks_a_point_is_caught(spoil: Any, violation: str) -> None:
    assert violation in violations(check_grader(Grading(spoil)))


class Crowded:
    """Gives less to what is graded beside others."""

    fingerprint = "crowded"
    running = 0

    async def grade(self, task: GradingTask) -> Feedback:
        self.running += 1
        await asyncio.sleep(0.001)
        score = 0.5 + 0.01 * self.running
        await asyncio.sleep(0.001)
        self.running -= 1
        return Feedback(score=score, reason="So.", grader="crowded")


def test_a_grader_whose_calls_change_each_other_is_caught_unless_it_is_granted() -> None:
    assert violations(check_grader(Crowded())) == ("calls that run together change each other",)
    assert violations(check_grader(Crowded(), tolerance=0.2)) == ()


def test_something_else_is_no_grader() -> None:
    assert violations(check_grader(object())) == MISSING  # type: ignore[arg-type]
