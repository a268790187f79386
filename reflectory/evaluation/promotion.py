"""Whether a new student takes the place of the old one: a stated rule on paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping

from reflectory.config import ImprovementConfig
from reflectory.evaluation.comparison import PairedComparison
from reflectory.types import Record


class PromotionDecision(Record):
    """What the rule says.

    Attributes:
        promote: Whether the new student is better by it.
        reason: Why, in one sentence with the figures.
        warnings: What a reader should know besides: few rows, a check on proposals.
    """

    promote: bool
    reason: str
    warnings: tuple[str, ...] = ()


def decide_promotion(
    comparisons: Mapping[str, PairedComparison],
    config: ImprovementConfig,
    *,
    forgetting: PairedComparison | None = None,
    proposals: bool = False,
) -> PromotionDecision:
    """Apply the promotion rule.

    The new student is promoted when, on the configured metric,

    1. the mean rises by more than ``minimum_gain``,
    2. the one-sided lower bound of the gain lies above ``-tolerance`` (``significance:
       tolerated``) or above zero (``required``), and
    3. the share of general instructions that are followed does not fall by more than
       ``maximum_forgetting``.

    The first alone would promote every second adapter that learnt nothing, by chance.
    The second with ``required`` would roll back small true gains that a short held-out
    set cannot show; ``tolerated`` asks only that a loss is unlikely to be more than the
    tolerance.

    Args:
        comparisons: Old student against new one, by metric.
        config: The rule.
        forgetting: The comparison on the general instructions; ``None`` where there is none.
        proposals: Whether the held-out answers are proposals of the teacher.
    """
    gain = comparisons[config.metric]
    warnings = []
    if proposals:
        warnings.append(
            "checked against answers that the teacher proposed, on documents kept out of "
            "training; give improvement.held_out for a check on known answers"
        )
    if gain.few:
        warnings.append(f"only {gain.rows} held-out questions: the interval means little")
    return PromotionDecision(
        promote=not (problem := _problem(gain, config, forgetting)),
        reason=problem or f"{gain}",
        warnings=tuple(warnings),
    )


def _problem(
    gain: PairedComparison, config: ImprovementConfig, forgetting: PairedComparison | None
) -> str:
    """Return which condition is not met, with its figures; empty when all are."""
    if gain.difference <= config.minimum_gain:
        return f"the gain does not exceed {config.minimum_gain:g}: {gain}"
    floor = 0.0 if config.significance == "required" else -config.tolerance
    if gain.bound <= floor:
        return (
            f"the gain is too uncertain: its {gain.confidence:.0%} lower bound is "
            f"{gain.bound:+.3f} and must lie above {floor:+.3f}: {gain}"
        )
    if forgetting is not None and forgetting.difference < -config.maximum_forgetting:
        return (
            f"general instructions are forgotten, by more than {config.maximum_forgetting:g}: "
            f"{forgetting}"
        )
    return ""
