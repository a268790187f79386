"""Overlap of word sequences with references: ROUGE and BLEU.

Both are the libraries that published figures are made with: rouge-score (Google's port of
ROUGE-1.5.5; Lin 2004) and sacrebleu (Post 2018, arXiv:1804.08771; BLEU by Papineni et al.
2002). They are imported when the first answer is scored. ROUGE knows Latin letters and
digits only, so texts of other scripts score 0 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from reflectory.errors import UserError
from reflectory.evaluation.metrics.answers import as_references

RougeKind = Literal["rouge1", "rouge2", "rougeL"]
"""Single words, pairs of words, longest common subsequence."""


@cache
def _rouge_scorer(kind: RougeKind, stem: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=stem)


@cache
def _sentence_bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    # Orders that a short answer cannot have are left out, as sacrebleu's sentence_bleu does.
    return BLEU(effective_order=True)


def rouge(
    prediction: str,
    references: str | Sequence[str],
    kind: RougeKind = "rougeL",
    *,
    stem: bool = False,
) -> float:
    """Return the F-measure of ROUGE against the best reference, in [0, 1].

    An answer without words scores 0, and so does ROUGE-2 of a single word.

    Args:
        prediction: The answer to judge.
        references: One right answer, or several of which the nearest counts.
        kind: What is counted.
        stem: Whether words are reduced to their Porter stems; off, as in the library.

    Raises:
        UserError: There is no reference.
    """
    targets = list(as_references(references))
    score = _rouge_scorer(kind, stem).score_multi(targets, prediction)[kind]
    return float(score.fmeasure)


def bleu(prediction: str, references: str | Sequence[str]) -> float:
    """Return the BLEU of one answer against all its references together, in [0, 1].

    It is sacrebleu's sentence BLEU (orders up to 4, effective order, exponential smoothing,
    13a tokens) divided by 100. An answer without words scores 0.

    Raises:
        UserError: There is no reference.
    """
    targets = list(as_references(references))
    if not prediction.strip():
        return 0.0
    return _share(_sentence_bleu().sentence_score(prediction, targets).score)


def corpus_bleu(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return the BLEU of many answers counted together, in [0, 1].

    It is what papers report, and no mean of :func:`bleu`: the counts of all answers are added
    before they are divided. Questions may have different numbers of references. The settings
    are sacrebleu's own: case:mixed, eff:no, tok:13a, smooth:exp.

    Args:
        predictions: The answers; an empty one adds nothing but the length of its reference.
        references: Right answers of each, all of which count.

    Raises:
        UserError: There is no answer, a reference is missing, or the numbers differ.
    """
    if not predictions or len(predictions) != len(references):
        raise UserError(
            f"{len(predictions)} answers and references for {len(references)}",
            hint="pass at least one answer, and references for each",
        )
    from sacrebleu.metrics.bleu import BLEU

    targets = [as_references(r) for r in references]
    most = max(len(r) for r in targets)
    # sacrebleu leaves out the references that are None, which its annotation does not say.
    streams: Any = [[r[i] if i < len(r) else None for r in targets] for i in range(most)]
    return _share(BLEU().corpus_score(list(predictions), streams).score)


def _share(percent: float) -> float:
    # Four equal precisions of 100 come out a rounding error above it.
    return min(1.0, max(0.0, float(percent) / 100))
