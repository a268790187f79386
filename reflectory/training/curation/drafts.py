"""Preference pairs of what a response was chosen among."""

from __future__ import annotations

from typing import Literal

from reflectory.config import CurationConfig
from reflectory.training.curation.choices import beaten, choice_pairs
from reflectory.training.rows import PreferenceRow, Prompter
from reflectory.types import Candidate, CandidateSet, Response, Trajectory

_ORIGINS: dict[str, Literal["loop", "sample", "condensed"]] = {
    "kept": "loop",
    "reflection": "loop",
    "drawn": "sample",
    "fresh": "sample",
    "condensed": "condensed",
}


def draft_pairs(
    trajectory: Trajectory,
    response: Response,
    best: Response | None,
    config: CurationConfig,
    prompter: Prompter,
    *,
    unusable: str = "",
) -> list[PreferenceRow | str]:
    """Return one pair, or why there is none, for every draft that a response was chosen over.

    Both sides were graded under the same context. Only what says the same as the best
    response is preferred: that one draft was better than another makes neither good.

    Args:
        trajectory: Where it was recorded.
        response: R_t; R_0 was chosen among nothing and gives nothing.
        best: The response that may become a row.
        config: The thresholds; ``draft_pairs`` is the most pairs of a response.
        prompter: Makes the student's prompt.
        unusable: Why nothing of the trajectory may be used; empty when it may.
    """
    if not response.drafts:
        return []
    choice = _choice(trajectory, response)
    reason = unusable
    if not reason and (best is None or best.text != response.text):
        reason = "not_the_best"
    if not reason and len(choice.context) < len(response.answer.context):
        reason = "missing_passage"
    if reason:
        return [reason] * beaten(choice)
    limited = config.model_copy(update={"pairs_per_question": config.draft_pairs})
    return choice_pairs(trajectory, choice, limited, prompter)


def _choice(trajectory: Trajectory, response: Response) -> CandidateSet:
    """Return the drafts of a response as candidates."""
    passages = [trajectory.passages.get(i) for i in response.answer.context]
    grader = response.grade.grader if response.grade is not None else ""
    texts = [draft.text for draft in response.drafts]
    return CandidateSet(
        trajectory=trajectory.id,
        what="response",
        iteration=response.iteration,
        question=trajectory.instruction,
        context=tuple(p for p in passages if p is not None),
        candidates=tuple(
            Candidate(text=d.text, origin=_ORIGINS[d.origin], score=d.score, grader=grader)
            for d in response.drafts
        ),
        chosen=texts.index(response.text) if response.text in texts else None,
    )
