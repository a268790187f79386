"""The IF-Score of the survey "Towards Alignment-Centric Paradigm" (arXiv:2508.17184)."""

from __future__ import annotations

from collections.abc import Sequence

from reflectory.errors import UserError
from reflectory.evaluation.metrics.registry import measure_answers
from reflectory.models.protocol import Embedder


async def if_score(
    responses: Sequence[str | None],
    references: Sequence[str | Sequence[str]],
    *,
    similarity: str = "similarity",
    embedder: Embedder | None = None,
) -> float:
    """Return how well instructions were followed: the mean similarity to the references.

    Args:
        responses: One response per instruction, ``None`` (which counts as 0) where there is
            none.
        references: Right responses of each, of which the nearest counts.
        similarity: What sim is: ``similarity`` (cosine of sentence vectors, the default),
            ``bertscore``, ``f1``, ``rouge1``, ``rouge2``, ``rougeL`` or ``bleu``.
        embedder: Makes the vectors of the first two.

    Returns:
        A number in [-1, 1] for the cosine and ``bertscore``, in [0, 1] for the others.

    Raises:
        UserError: There is no response, the similarity is none, or it lacks the embedder.
    """
    if similarity not in SIMILARITIES:
        raise UserError(
            f"{similarity!r} is no similarity of a response and a reference",
            hint=f"choose one of {', '.join(SIMILARITIES)}",
        )
    if not responses:
        raise UserError("there is nothing to average", hint="pass at least one response")
    values = await measure_answers(
        responses,
        [(r,) if isinstance(r, str) else tuple(r) for r in references],
        [()] * len(responses),
        [""] * len(responses),
        [similarity],
        embedder=embedder,
    )
    return sum(value[similarity] for value in values) / len(values)  # Equation 11


SIMILARITIES = ("similarity", "bertscore", "f1", "rouge1", "rouge2", "rougeL", "bleu")
"""The metrics that are a degree of similarity."""
