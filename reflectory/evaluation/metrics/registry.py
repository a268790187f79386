"""The metrics by name, as a configuration asks for them.

A metric gives one number per answer. What needs a library, an embedder or a verifier is
loaded when a metric that needs it is asked for, and once for all answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from reflectory.agents.verification.protocol import Verifier, groundedness
from reflectory.errors import UserError
from reflectory.evaluation.metrics.answers import contains_answer, exact_match, token_f1
from reflectory.evaluation.metrics.overlap import RougeKind, bleu, rouge
from reflectory.evaluation.metrics.similarity import bert_scores, cosine_similarities
from reflectory.models.protocol import Embedder
from reflectory.types import Passage


@dataclass(frozen=True)
class Batch:
    """Answers that are there, with all that a metric may look at; one entry per answer.

    Attributes:
        texts: The answers.
        references: Right answers of each question, of which any counts.
        contexts: The passages that each was answered from.
        questions: What was asked.
        embedder: Makes vectors, where one was given.
        verifier: Finds evidence, where one was given.
    """

    texts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    contexts: tuple[tuple[Passage, ...], ...]
    questions: tuple[str, ...]
    embedder: Embedder | None = None
    verifier: Verifier | None = None


Measure = Callable[[Batch], Awaitable[Sequence[float | None]]]
"""One number per answer of a batch; ``None`` where the metric is not defined."""


@dataclass(frozen=True)
class Metric:
    """A metric of single answers.

    Attributes:
        name: What a configuration calls it.
        description: One phrase for tables and for errors.
        measure: Computes it.
        needs_references: Whether it compares with right answers.
        needs_embedder: Whether it compares vectors.
        needs_verifier: Whether it looks for evidence.
    """

    name: str
    description: str
    measure: Measure
    needs_references: bool = True
    needs_embedder: bool = False
    needs_verifier: bool = False


def _by_words(function: Callable[[str, tuple[str, ...]], float]) -> Measure:
    """Return a measure that looks at one answer and its references."""

    async def measure(batch: Batch) -> list[float | None]:
        return [float(function(t, r)) for t, r in zip(batch.texts, batch.references, strict=True)]

    return measure


async def _words(batch: Batch) -> list[float]:
    return [float(len(text.split())) for text in batch.texts]


async def _groundedness(batch: Batch) -> list[float | None]:
    verifier = batch.verifier
    assert verifier is not None  # measure_answers() has looked
    rows = zip(batch.questions, batch.texts, batch.contexts, strict=True)
    found = await asyncio.gather(*(verifier.verify(*row) for row in rows))
    return [groundedness(statements) for statements in found]


def _rouge(kind: RougeKind) -> Measure:
    return _by_words(lambda text, references: rouge(text, references, kind))


async def _similarity(batch: Batch) -> list[float]:
    assert batch.embedder is not None  # measure_answers() has looked
    return await cosine_similarities(batch.texts, batch.references, batch.embedder)


async def _bertscore(batch: Batch) -> list[float]:
    assert batch.embedder is not None  # measure_answers() has looked
    matches = await bert_scores(batch.texts, batch.references, batch.embedder)
    return [match.f1 for match in matches]


_ALL = (
    Metric("exact_match", "equals a reference, as SQuAD normalises", _by_words(exact_match)),
    Metric("f1", "token F1 against the nearest reference", _by_words(token_f1)),
    Metric("contains", "a reference occurs in it as whole words", _by_words(contains_answer)),
    Metric("words", "length in words", _words, needs_references=False),
    Metric("rouge1", "ROUGE-1, F-measure of words", _rouge("rouge1")),
    Metric("rouge2", "ROUGE-2, F-measure of pairs of words", _rouge("rouge2")),
    Metric("rougeL", "ROUGE-L, F-measure of the longest common subsequence", _rouge("rougeL")),
    Metric("bleu", "sentence BLEU against all references", _by_words(bleu)),
    Metric(
        "similarity",
        "cosine of its vector to the nearest reference's",
        _similarity,
        needs_embedder=True,
    ),
    Metric(
        "bertscore",
        "F1 of greedy matching of token vectors",
        _bertscore,
        needs_embedder=True,
    ),
    Metric(
        "groundedness",
        "share of its statements that a passage supports",
        _groundedness,
        needs_references=False,
        needs_verifier=True,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name."""


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of metrics without repeats, in their order.

    Raises:
        UserError: A name is unknown, or there is none.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        culprit = f"unknown metric {', '.join(map(repr, unknown))}" if unknown else "no metric"
        raise UserError(culprit, hint=f"known metrics: {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


async def measure_answers(
    texts: Sequence[str | None],
    references: Sequence[tuple[str, ...]],
    contexts: Sequence[tuple[Passage, ...]],
    questions: Sequence[str],
    names: Sequence[str],
    *,
    embedder: Embedder | None = None,
    verifier: Verifier | None = None,
) -> list[dict[str, float]]:
    """Return the metrics of many answers.

    Args:
        texts: One answer per question, ``None`` where there is none: all its metrics are 0,
            as leaving it out would reward failing.
        references: Right answers of each question, of which any counts.
        contexts: The passages that each was answered from; only groundedness looks at them.
        questions: What was asked.
        names: Names of :data:`METRICS`.
        embedder: For the metrics that compare vectors.
        verifier: For groundedness.

    Returns:
        One dictionary per answer, with the names as keys. A metric that is not defined for an
        answer is left out of its dictionary, which only ``groundedness`` of an answer that
        states nothing is: "I do not know" is neither supported nor unsupported.

    Raises:
        UserError: A name is unknown, a metric lacks what it needs, a question has no
            reference, or the sequences differ in length.
    """
    chosen = [METRICS[name] for name in check_names(names)]
    _check_lengths(texts, references, contexts, questions)
    _check_needs(chosen, references, embedder, verifier)
    rows = [row for row, text in enumerate(texts) if text is not None]
    batch = Batch(
        texts=tuple(text for text in texts if text is not None),
        references=tuple(tuple(references[row]) for row in rows),
        contexts=tuple(tuple(contexts[row]) for row in rows),
        questions=tuple(questions[row] for row in rows),
        embedder=embedder,
        verifier=verifier,
    )
    values: list[dict[str, float]] = [
        {metric.name: 0.0 for metric in chosen} if text is None else {} for text in texts
    ]
    for metric in chosen:
        for row, value in zip(rows, await metric.measure(batch), strict=True):
            if value is not None:
                values[row][metric.name] = float(value)
    return values


def _check_lengths(
    texts: Sequence[str | None],
    references: Sequence[tuple[str, ...]],
    contexts: Sequence[tuple[Passage, ...]],
    questions: Sequence[str],
) -> None:
    lengths = {
        "texts": len(texts),
        "references": len(references),
        "contexts": len(contexts),
        "questions": len(questions),
    }
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise UserError(f"one of each per question is needed, got {shown}", hint="pass () for none")


def _check_needs(
    metrics: Sequence[Metric],
    references: Sequence[tuple[str, ...]],
    embedder: Embedder | None,
    verifier: Verifier | None,
) -> None:
    for metric in metrics:
        if metric.needs_embedder and embedder is None:
            raise UserError(
                f"the metric {metric.name} needs an embedder", hint="pass `embedder`, or drop it"
            )
        if metric.needs_verifier and verifier is None:
            raise UserError(
                f"the metric {metric.name} needs a verifier",
                hint="pass `verifier`, such as LexicalVerifier(), or drop it",
            )
        if metric.needs_references and not all(references):
            raise UserError(
                f"the metric {metric.name} needs a reference for every question",
                hint="give each question one, or measure words and groundedness only",
            )
