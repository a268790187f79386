"""Does an implementation keep the contract of its protocol?

Run by reflectory on its own models, embedders, retrievers, graders, extractors and
verifiers, and open to everybody who brings one::

    await check_model(MyModel())

Each check asks a few small questions, goes on after a violation, and raises one
:class:`ConformanceError` that lists all of them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from reflectory.agents.graders.protocol import Grader, GradingTask
from reflectory.errors import OutputError, UserError
from reflectory.models.protocol import Embedder
from reflectory.retrieval.retriever import Retriever
from reflectory.testing.conformance_extractor import check_extractor
from reflectory.testing.conformance_findings import ConformanceError, Findings
from reflectory.testing.conformance_model import check_model
from reflectory.testing.conformance_verifier import check_verifier
from reflectory.types import Feedback, Passage, ScoredPassage

__all__ = [
    "ConformanceError",
    "check_embedder",
    "check_extractor",
    "check_grader",
    "check_model",
    "check_retriever",
    "check_verifier",
]

_EVERYTHING = 1_000
"""More passages than a check can find."""

_TEXTS = (
    "The sky is blue.",
    "Grass is green.",
    "",
    "a long text about coal " * 40,
    "Naïve, 谁 and 🙂 are words.",
)
_PASSAGE = "Alexander Fleming saw the mould in London in 1928. Norman Heatley built apparatus."
_CONTEXT = (
    Passage(
        id="p1", document_id="d1", title="Penicillin", text=_PASSAGE, start=0, end=len(_PASSAGE)
    ),
)
_QUESTION = "Who saw the mould in London?"
_ANSWERS = ("Alexander Fleming", "Norman Heatley", _QUESTION, "I do not know.", "")


async def check_embedder(
    embedder: Embedder, *, tolerance: float = 1e-3, timeout_s: float = 300.0
) -> None:
    """Check that an embedder keeps the contract of its protocol.

    Args:
        embedder: See :class:`~reflectory.models.protocol.Embedder`.
        tolerance: How far a number of a vector, or a length from 1, may be off.
        timeout_s: How long one call may take before it counts as hanging.

    Raises:
        ConformanceError: With every point of the contract that does not hold.
    """
    findings = Findings(embedder, timeout_s=timeout_s)
    expect = findings.expect
    findings.protocol(embedder, Embedder)
    findings.fingerprint(embedder)
    dimension = findings.value("dimension", lambda: embedder.dimension)
    expect(isinstance(dimension, int) and dimension >= 1, f"dimension is {dimension!r}")

    async def embed(texts: Sequence[str]) -> Any:
        given = list(texts)
        found = await findings.call("embed", embedder.embed(given))
        expect(given == list(texts), "embed changes the list of texts")
        shape = (len(texts), dimension)
        if found is None or not expect(
            isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape == shape,
            "embed does not give float32 of shape (texts, dimension)",
        ):
            return None
        return found if expect(bool(np.isfinite(found).all()), "a vector is not finite") else None

    def same(left: Any, right: Any) -> bool:
        return left is None or right is None or bool(np.allclose(left, right, atol=tolerance))

    whole = await embed(_TEXTS)
    await embed([])
    if whole is not None:
        lengths = np.linalg.norm(whole, axis=1)
        for text, length in zip(_TEXTS, lengths, strict=True):
            unit = abs(length - 1.0) <= tolerance or (not text and length <= tolerance)
            expect(unit, f"a vector has the length {length:.4g} instead of 1")
        backward = await embed(_TEXTS[::-1])
        expect(backward is None or same(whole, backward[::-1]), "vectors do not follow their texts")
        expect(same(whole, await embed(_TEXTS)), "the same texts get other vectors")
        for text, vector in zip(_TEXTS, whole, strict=True):
            alone = await embed([text])
            expect(
                alone is None or same(vector, alone[0]), "a vector depends on the texts beside it"
            )
        calls = [embedder.embed(_TEXTS) for _ in range(4)]
        for found in await findings.together("embed, many at once,", calls):
            expect(same(whole, found), "calls that run together change each other")
    findings.conclude()


async def check_retriever(retriever: Retriever, query: str, *, timeout_s: float = 300.0) -> None:
    """Check that a retriever keeps the contract of its protocol.

    Args:
        retriever: See :class:`~reflectory.retrieval.retriever.Retriever`; best one
            that nobody has prepared yet.
        query: Something that it finds passages for.
        timeout_s: How long one call may take before it counts as hanging.

    Raises:
        ConformanceError: With every point of the contract that does not hold.
        UserError: The query finds nothing, so that there is nothing to look at.
    """
    findings = Findings(retriever, timeout_s=timeout_s)
    expect = findings.expect
    findings.protocol(retriever, Retriever)
    name = findings.fingerprint(retriever)

    async def retrieve(per_document: int, limit: int) -> list[ScoredPassage] | None:
        call = retriever.retrieve(query, per_document=per_document, limit=limit)
        found = await findings.call("retrieve", call)
        if found is None or not expect(
            isinstance(found, list) and all(isinstance(s, ScoredPassage) for s in found),
            "retrieve gives no list of ScoredPassage",
        ):
            return None
        _look_at_passages(findings, found, per_document, limit)
        return list(found)

    found = await retrieve(2, 4)  # Before anybody prepares it.
    for what in ("prepare", "prepare, for the second time,"):
        documents = await findings.call(what, retriever.prepare())
        expect(
            documents is None or (isinstance(documents, int) and documents >= 0),
            "prepare does not give a number of documents",
        )
    everything = await retrieve(2, _EVERYTHING)
    if found == [] and everything == []:
        raise UserError(
            f"{findings.subject} finds nothing for {query!r}, so nothing can be checked",
            hint="give a query that it finds passages for",
        )
    if found is not None and everything is not None:
        expect(
            len(found) == min(4, len(everything)),
            "fewer passages than limit are found although there are more",
        )
        one = await retrieve(1, 1)
        expect(one is None or len(one) == 1, "nothing is found with limit 1, though there is more")
        expect(found == await retrieve(2, 4), "the same query finds something else")

        def calls() -> list[Any]:
            return [retriever.retrieve(query, per_document=2, limit=4) for _ in range(4)]

        for other in await findings.together("retrieve, many at once,", calls()):
            expect(other in (None, found), "calls that run together change each other")
        for other in await findings.without("retrieve", calls()):
            expect(other in (None, found), "a call that is cancelled changes others")
    expect(findings.fingerprint(retriever) == name, "fingerprint changes with use")
    findings.conclude()


def _look_at_passages(
    findings: Findings, found: Sequence[ScoredPassage], per_document: int, limit: int
) -> None:
    expect = findings.expect
    passages = [scored.passage for scored in found]
    scores = [scored.score for scored in found]
    expect(len(found) <= limit, "more passages than limit are found")
    expect(
        max(Counter(p.document_id for p in passages).values(), default=0) <= per_document,
        "more passages of one document than per_document are found",
    )
    expect(len({p.id for p in passages}) == len(passages), "two passages have the same id")
    expect(all(map(math.isfinite, scores)), "a score is not finite")
    order = [(-score, passage.id) for score, passage in zip(scores, passages, strict=True)]
    expect(scores == sorted(scores, reverse=True), "scores rise from one passage to the next")
    expect(
        order == sorted(order) or scores != sorted(scores, reverse=True),
        "passages with equal scores are not ordered by id",
    )
    expect(all(p.text.strip() for p in passages), "a passage is blank")
    expect(
        all(p.end - p.start == len(p.text) for p in passages),
        "the offsets of a passage do not fit its text",
    )


async def check_grader(
    grader: Grader,
    tasks: Sequence[GradingTask] | None = None,
    *,
    tolerance: float = 0.0,
    timeout_s: float = 300.0,
) -> None:
    """Check that a grader keeps the contract of its protocol.

    Whether its scores mean anything is another question: see
    :func:`~reflectory.agents.graders.cases.measure_grader`.

    Args:
        grader: See :class:`~reflectory.agents.graders.protocol.Grader`.
        tasks: What it is given; by default a right, a wrong, an echoed, an empty
            and an evasive answer to a question on one passage.
        tolerance: How far the score of a task may move when it is graded again or
            beside others; above 0 only numbers are compared, not reasons.
        timeout_s: How long one call may take before it counts as hanging.

    Raises:
        ConformanceError: With every point of the contract that does not hold.
    """
    findings = Findings(grader, timeout_s=timeout_s)
    expect = findings.expect
    findings.protocol(grader, Grader)
    findings.fingerprint(grader)
    if tasks is None:
        tasks = [GradingTask(_QUESTION, answer, "It is right.", _CONTEXT) for answer in _ANSWERS]

    async def grade(task: GradingTask) -> Feedback | None:
        given = await findings.call("grade", grader.grade(task), OutputError)
        if isinstance(given, OutputError):
            expect(isinstance(given.raw, str), "a failure does not hold the raw text")
            return None
        if given is None or not expect(isinstance(given, Feedback), "grade gives no Feedback"):
            return None
        feedback: Feedback = given
        usable = [
            expect(0.0 <= feedback.score <= 1.0, "a score lies outside [0, 1]"),
            expect(bool(feedback.reason.strip()), "a reason is blank"),
            expect(bool(feedback.grader.strip()), "feedback does not name its grader"),
            expect(all(map(math.isfinite, feedback.signals.values())), "a signal is not finite"),
        ]
        return feedback if all(usable) else None

    def same(left: Feedback | None, right: Feedback | None) -> bool:
        if left is None or right is None or not tolerance:
            return left == right
        return abs(left.score - right.score) <= tolerance

    alone = [await grade(task) for task in tasks]
    expect(any(feedback is not None for feedback in alone), "no task could be graded")
    again = [await grade(task) for task in tasks]
    expect(all(map(same, alone, again)), "the same task gets other feedback")
    together = await asyncio.gather(*(grade(task) for task in tasks))
    expect(all(map(same, alone, together)), "calls that run together change each other")
    findings.conclude()
