"""The steps after the selection, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from reflectory.config import CurationConfig
from reflectory.training.counts import StepCounts, Tally
from reflectory.training.curation.balance import LevelBalance
from reflectory.training.curation.contamination import Decontamination, EvaluationIndex
from reflectory.training.curation.difficulty import Difficulty
from reflectory.training.curation.duplicates import EmbeddingDuplicates, MinHashDuplicates
from reflectory.training.curation.outcome import Curation
from reflectory.training.curation.personal_data import PersonalData
from reflectory.training.curation.sources import Licences, licences_of
from reflectory.training.curation.steps import CurationStep, CurationTools, Outcome, R, needed
from reflectory.training.curation.thresholds import AtLeast, Length, WellFormed


def steps_for(config: CurationConfig, tools: CurationTools) -> tuple[CurationStep, ...]:
    """Return the steps that a configuration asks for, in the order they are applied.

    What a row has by itself is looked at first, what costs model calls after what costs
    nothing, and what depends on the number of rows last.

    Args:
        config: Which steps, and their thresholds.
        tools: Models and tokenizers that some steps need.

    Raises:
        UserError: A step lacks a tool that it needs.
    """
    steps: list[CurationStep] = [WellFormed()]
    if config.licences:
        documents = needed(tools.documents, "documents", "licences")
        steps.append(Licences(config.licences, licences_of(documents)))
    if config.personal_data != "keep":
        steps.append(PersonalData(config.personal_data, config.personal_data_in_prompts))
    if config.minimum_groundedness is not None:
        steps.append(AtLeast("groundedness", config.minimum_groundedness))
    if config.minimum_agreement is not None:
        steps.append(AtLeast("agreement", config.minimum_agreement))
    steps += _length(config, tools)
    if config.decontaminate:
        texts = needed(tools.evaluation_texts, "evaluation_texts", "decontaminate")
        index = EvaluationIndex.of(texts, config.contamination_words)
        steps.append(Decontamination(index, len(texts), config.contamination_prompts))
    if config.duplicates == "minhash":
        steps.append(MinHashDuplicates(config.duplicate_overlap))
    elif config.duplicates == "embeddings":
        embedder = needed(tools.embedder, "embedder", "duplicates: embeddings")
        steps.append(EmbeddingDuplicates(embedder, config.duplicate_cosine))
    if config.difficulty:
        student = needed(tools.student, "student", "difficulty")
        steps.append(Difficulty(student, config.minimum_difficulty, config.maximum_difficulty))
    if config.level_balance is not None:
        steps.append(LevelBalance(config.level_balance))
    return tuple(steps)


def _length(config: CurationConfig, tools: CurationTools) -> list[CurationStep]:
    limits = (config.maximum_words, config.maximum_prompt_words, config.maximum_tokens)
    if not config.minimum_words and limits == (None, None, None):
        return []
    count = tools.count_tokens
    if config.maximum_tokens is not None:
        count = needed(count, "count_tokens", "maximum_tokens")
    return [Length(config.minimum_words, *limits, count)]


async def refine(
    curation: Curation,
    config: CurationConfig,
    tools: CurationTools | None = None,
    *,
    steps: Sequence[CurationStep] | None = None,
) -> Curation:
    """Apply the steps after the selection to rows and to preference pairs.

    The rows that are left keep their order. Which ones they are does not depend on the order
    in which they came, and refining once more changes nothing.

    Args:
        curation: From :func:`~reflectory.training.curation.curate`, or the rows of several
            rounds together.
        config: Which steps, with which thresholds.
        tools: What the steps work with.
        steps: Instead of those that the configuration asks for; with
            ``[*steps_for(config, tools), mine]`` in addition to them.

    Returns:
        What is left, with the counts of each step behind those there were.

    Raises:
        UserError: A step lacks a tool that it needs.
        BackendError: The student or the embedder failed.
    """
    chosen = steps_for(config, tools or CurationTools()) if steps is None else tuple(steps)
    rows, pairs = curation.rows, curation.preferences
    done = list(curation.counts.steps)
    for step in chosen:
        of_rows, of_pairs = await step.apply(rows), await step.apply(pairs)
        done.append(
            StepCounts(
                name=step.name,
                explanation=step.explanation,
                rows=_tally(len(rows), of_rows),
                pairs=_tally(len(pairs), of_pairs),
                changed=of_rows.changed + of_pairs.changed,
            )
        )
        rows, pairs = of_rows.kept, of_pairs.kept
    counts = curation.counts.model_copy(update={"steps": tuple(done)})
    return Curation(rows, pairs, counts, config)


def _tally(seen: int, outcome: Outcome[R]) -> Tally:
    return Tally(seen=seen, accepted=len(outcome.kept), refused=dict(outcome.refused))
