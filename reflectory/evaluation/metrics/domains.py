"""Generalisation over domains (Equation 13 of arXiv:2508.17184)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from pydantic import Field

from reflectory.errors import UserError
from reflectory.types import Record


class Generalisation(Record):
    """How a metric carries over to domains that were not trained on.

    Attributes:
        score: Mean over the domains that were not trained on, each with the same weight.
        domains: Mean of the metric in every domain, those trained on included.
        counts: Number of answers in every domain.
        trained: Mean over the domains that were trained on; ``None`` without any.
        worst: The domain not trained on with the lowest mean.
        spread: Standard deviation of the means of the domains not trained on; ``None`` for
            a single one. Beside the score and no part of it.
    """

    score: float
    domains: dict[str, float]
    counts: dict[str, int]
    trained: float | None = None
    worst: str
    spread: float | None = Field(default=None, ge=0.0)

    @property
    def gap(self) -> float | None:
        """What is lost outside of what was trained on; ``None`` when nothing was."""
        return None if self.trained is None else self.trained - self.score


def generalisation(
    values: Mapping[str, Sequence[float]], *, trained: Collection[str] = ()
) -> Generalisation:
    """Return the generalisation score over domains.

    The survey calls it Equation 13, a score over domains; its exact form was not at hand when
    this was written. Taken is the plain mean over the domains that were not trained on, each
    domain with the same weight however many answers it has: the least that the name says.
    Nothing is subtracted for the spread, as no weight for it could be justified; it
    is given beside the score.

    Args:
        values: The metric's value of every answer, by domain. An answer that failed counts
            with 0 and is not left out.
        trained: Domains that were trained on; they are reported and have no part in the score.

    Raises:
        UserError: A domain has no answer or a value that is not finite, a trained domain is
            unknown, or none is left that was not trained on.
    """
    empty = [domain for domain, given in values.items() if not given]
    wrong = [d for d, given in values.items() if not all(math.isfinite(v) for v in given)]
    unknown = sorted(set(trained) - set(values))
    unseen = [domain for domain in values if domain not in set(trained)]
    if empty:
        raise UserError(f"no answer in the domain {empty[0]!r}", hint="leave the domain out")
    if wrong:
        raise UserError(
            f"a value of the domain {wrong[0]!r} is not finite", hint="count a failed answer as 0"
        )
    if unknown:
        raise UserError(
            f"there is no domain {unknown[0]!r} among the answers",
            hint=f"domains: {', '.join(values) or 'none'}",
        )
    if not unseen:
        raise UserError(
            "there is no domain that was not trained on",
            hint="a generalisation score needs at least one; keep a domain out of training",
        )
    means = {domain: math.fsum(given) / len(given) for domain, given in values.items()}
    score = math.fsum(means[domain] for domain in unseen) / len(unseen)  # Equation 13
    seen = [means[domain] for domain in values if domain not in unseen]
    squares = math.fsum((means[domain] - score) ** 2 for domain in unseen)
    return Generalisation(
        score=score,
        domains=means,
        counts={domain: len(given) for domain, given in values.items()},
        trained=math.fsum(seen) / len(seen) if seen else None,
        worst=min(unseen, key=lambda domain: means[domain]),
        spread=math.sqrt(squares / (len(unseen) - 1)) if len(unseen) > 1 else None,
    )
