"""What all ways from records to rows share: prompts, thresholds, completions that teach nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reflectory.agents.citations import attribute
from reflectory.evaluation.metrics import normalise_answer, token_f1
from reflectory.models.engine.rendering import messages_of
from reflectory.training.curation.words import words_of
from reflectory.training.rows import Message, Prompter, Provenance, source_of
from reflectory.types import Answer, Candidate, CandidateSet, Passage

ECHO_F1 = 0.9
"""A completion this near to its question says the question again and nothing else."""

ROUNDING = 1e-9
"""0.6 - 0.5 is a little less than 0.1 in binary; it still reaches a threshold of 0.1."""


def reaches(value: float | None, threshold: float) -> bool:
    """Return whether a value is there, is a number, and is at least the threshold.

    Args:
        value: A grade in [0, 1], or ``None`` or NaN where nobody knows it.
        threshold: In [0, 1].
    """
    return value is not None and value >= threshold  # False for NaN


def leads_by(better: float, worse: float, distance: float) -> bool:
    """Return whether one grade exceeds another by at least a distance; False for NaN.

    Args:
        better: A grade in [0, 1], perhaps NaN.
        worse: The same.
        distance: In [0, 1].
    """
    return better - worse >= distance - ROUNDING


def cited_text(answer: Answer) -> str:
    """Return an answer with the citation marks that the student had written.

    Records hold answers without their marks, and the prompt asks for marks: rows
    without them would teach the student to leave them out. They are set at the
    end, as numbers of the passages in its context. Citations that were
    attributed afterwards are not the student's words and get no marks.
    """
    if answer.cited_by != "student":
        return answer.text
    numbers = {passage: number for number, passage in enumerate(answer.context, start=1)}
    marks = " ".join(f"[{numbers[p]}]" for p in answer.cited if p in numbers)
    return f"{answer.text} {marks}" if marks else answer.text


def problem_of(completion: str, question: str) -> str:
    """Return why a completion teaches nothing, or an empty text.

    Args:
        completion: What would be learnt.
        question: What it answers.
    """
    if not normalise_answer(completion) or not words_of(completion):
        return "empty"
    return "echo" if token_f1(completion, question) >= ECHO_F1 else ""


def prompt_messages(
    prompter: Prompter,
    question: str,
    context: Sequence[Passage],
    extra: Sequence[Passage] = (),
) -> tuple[Message, ...]:
    """Return the student's prompt as a row holds it.

    Args:
        prompter: Makes the student's prompt.
        question: What is asked.
        context: Passages, in the order in which they are shown.
        extra: Passages that the question found besides.
    """
    messages = messages_of(prompter(question, context, extra))
    return tuple(Message.model_validate(message) for message in messages)


def candidate_provenance(
    choice: CandidateSet,
    candidate: Candidate,
    models: Mapping[str, str],
    *,
    baseline: float | None = None,
) -> Provenance:
    """Return where a row with a candidate as its completion came from.

    Args:
        choice: The set that it is in.
        candidate: The answer.
        models: Fingerprints by role, of the trajectory.
        baseline: Grade of the answer that it is compared with.
    """
    passages = (*choice.context, *choice.extra)
    return Provenance(
        trajectory=choice.trajectory,
        what=choice.what,
        level=choice.level,
        iteration=choice.iteration,
        question=choice.question,
        passages=tuple(p.id for p in passages),
        cited=attribute(candidate.text, passages),
        groundedness=candidate.groundedness,
        models=dict(models),
        grader=candidate.grader,
        score=candidate.score,
        baseline=baseline,
        source=source_of(candidate.origin, models),
        origin=candidate.origin,
        agreement=candidate.agreement,
    )
