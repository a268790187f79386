"""The metrics by name, as a configuration asks for them.

A metric gives one number per answer. What needs a library, an embedder or a verifier is
loaded when a metric that needs it is asked for, and once for all answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from reflectory.agents.verification.protocol import Verifier, groundedness
from reflectory.errors import UserError
from reflectory.evaluation.metrics.answers import contains_answer, exact_match, token_f1
from reflectory.evaluation.metrics.instructions import Instruction
from reflectory.evaluation.metrics.metric import Batch, Measure, Metric
from reflectory.evaluation.metrics.overlap import RougeKind, bleu, rouge
from reflectory.evaluation.metrics.similarity import bert_scores, cosine_similarities
from reflectory.models.protocol import Embedder
from reflectory.types import Passage


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


def _of_prompts(strictly: bool) -> Measure:
    """Return whether all constraints of a prompt are followed."""

    async def measure(batch: Batch) -> list[float | None]:
        return [float(all(f.strict if strictly else f.loose)) for f in batch.followed]

    return measure


def _of_instructions(strictly: bool) -> Measure:
    """Return the share of a prompt's constraints that are followed."""

    async def measure(batch: Batch) -> list[float | None]:
        found = [f.strict if strictly else f.loose for f in batch.followed]
        return [sum(values) / len(values) for values in found]

    return measure


def _verified(name: str, description: str, measure: Measure) -> Metric:
    return Metric(name, description, measure, needs_references=False, needs_constraints=True)


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
    _verified("strict_prompt", "all its constraints are followed", _of_prompts(True)),
    _verified("strict_instruction", "share of constraints followed", _of_instructions(True)),
    _verified("loose_prompt", "all are followed, a part of it forgiven", _of_prompts(False)),
    _verified(
        "loose_instruction", "share followed, a part of it forgiven", _of_instructions(False)
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
    constraints: Sequence[tuple[Instruction, ...]] | None = None,
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
        constraints: What can be verified of the answers to each question. With it a question
            may lack references, and a metric that needs what a question lacks is not defined
            for its answers.

    Returns:
        One dictionary per answer, with the names as keys. A metric that is not defined for an
        answer is left out of its dictionary. Beside what a question lacks that is
        ``groundedness`` of an answer that states nothing: "I do not know" is neither
        supported nor unsupported.

    Raises:
        UserError: A name is unknown, a metric lacks what it needs, a question has neither
            reference nor constraint, or the sequences differ in length.
    """
    chosen = [METRICS[name] for name in check_names(names)]
    asked = [()] * len(texts) if constraints is None else constraints
    _check_lengths(texts, references, contexts, questions, asked)
    _check_needs(chosen, references, asked, embedder, verifier, mixed=constraints is not None)
    rows = [row for row, text in enumerate(texts) if text is not None]
    batch = Batch(
        texts=tuple(text for text in texts if text is not None),
        references=tuple(tuple(references[row]) for row in rows),
        contexts=tuple(tuple(contexts[row]) for row in rows),
        questions=tuple(questions[row] for row in rows),
        embedder=embedder,
        verifier=verifier,
        constraints=tuple(tuple(asked[row]) for row in rows),
    )
    values: list[dict[str, float]] = [
        {m.name: 0.0 for m in chosen if text is None and m.defined(references[row], asked[row])}
        for row, text in enumerate(texts)
    ]
    parts: dict[tuple[int, ...], Batch] = {}
    for metric in chosen:
        defined = tuple(
            place for place, row in enumerate(rows) if metric.defined(references[row], asked[row])
        )
        if not defined:
            continue
        part = parts.setdefault(defined, batch.only(defined))
        for place, value in zip(defined, await metric.measure(part), strict=True):
            if value is not None:
                values[rows[place]][metric.name] = float(value)
    return values


def _check_lengths(
    texts: Sequence[str | None],
    references: Sequence[tuple[str, ...]],
    contexts: Sequence[tuple[Passage, ...]],
    questions: Sequence[str],
    constraints: Sequence[tuple[Instruction, ...]],
) -> None:
    lengths = {
        "texts": len(texts),
        "references": len(references),
        "contexts": len(contexts),
        "questions": len(questions),
        "constraints": len(constraints),
    }
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise UserError(f"one of each per question is needed, got {shown}", hint="pass () for none")


def _check_needs(
    metrics: Sequence[Metric],
    references: Sequence[tuple[str, ...]],
    constraints: Sequence[tuple[Instruction, ...]],
    embedder: Embedder | None,
    verifier: Verifier | None,
    *,
    mixed: bool,
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
        if metric.needs_references and not all(
            own or (mixed and asked) for own, asked in zip(references, constraints, strict=True)
        ):
            raise UserError(
                f"the metric {metric.name} needs a reference for every question",
                hint="give each question one, or measure words and groundedness only",
            )
        if metric.needs_constraints and constraints and not any(constraints):
            raise UserError(
                f"the metric {metric.name} needs constraints, and no question has any",
                hint="give rows in IFEval's shape, or measure something else",
            )
