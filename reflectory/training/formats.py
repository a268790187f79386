"""Rows of the other formats: judged examples, feedback, prompts to be answered anew.

Curation makes the rows for supervised and preference training. The formats here
are derived from the same records, and what gives no row is counted with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from reflectory.errors import DatasetError
from reflectory.evaluation.metrics import normalise_answer
from reflectory.training.curation.making import (
    candidate_provenance,
    problem_of,
    prompt_messages,
    reaches,
)
from reflectory.training.formats_said import Derived, Judged, Settler, candidates_of, said_in
from reflectory.training.rows import (
    FeedbackRow,
    LabelledRow,
    Prompter,
    PromptRow,
    Provenance,
    assistant,
)
from reflectory.types import Trajectory
from reflectory.types.practice import Candidate, CandidateSet

__all__ = ["Derived", "candidates_of", "feedback_rows", "kto_rows", "prompt_rows"]

Models = Mapping[str, Mapping[str, str]]


def kto_rows(
    candidate_sets: Iterable[CandidateSet],
    prompter: Prompter,
    *,
    minimum_score: float = 0.5,
    undesirable_below: float = 0.4,
    models: Models | None = None,
) -> Derived[LabelledRow]:
    """Make a judged example of every graded candidate.

    Between the two thresholds the judge is not sure enough to call an answer good
    or bad, and there is no row. Of candidates that say the same in other case or
    punctuation, the first is a row.

    Args:
        candidate_sets: Answers with their grades; see :func:`candidates_of`.
        prompter: Makes the student's prompt.
        minimum_score: Desirable from here, in [0, 1].
        undesirable_below: Undesirable below this, at most ``minimum_score``.
        models: Fingerprints by role, by the id of the trajectory.

    Raises:
        DatasetError: The thresholds overlap.
    """
    if not 0.0 <= undesirable_below <= minimum_score <= 1.0:
        raise DatasetError(
            f"undesirable below {undesirable_below} and desirable from {minimum_score} overlap",
            hint="choose undesirable_below at most as large as minimum_score, both in [0, 1]",
        )
    settler: Settler[LabelledRow] = Settler()
    for choice in candidate_sets:
        prompt = prompt_messages(prompter, choice.question, choice.context, choice.extra)
        fingerprints = (models or {}).get(choice.trajectory, {})
        for candidate in choice.candidates:
            label = _label(candidate, choice.question, minimum_score, undesirable_below)
            settler.settle(
                label
                if isinstance(label, str)
                else LabelledRow(
                    prompt=prompt,
                    completion=assistant(candidate.text),
                    label=label,
                    provenance=candidate_provenance(choice, candidate, fingerprints),
                ),
                lambda row: (row.prompt, normalise_answer(row.completion[0].content)),
            )
    return settler.derived(
        f"An answer is desirable when its score is at least {minimum_score}, and undesirable "
        f"below {undesirable_below}. Between the two there is no row. Blank answers, desirable "
        "ones that say the question again, and repetitions are refused."
    )


def _label(candidate: Candidate, question: str, minimum: float, below: float) -> bool | str:
    if candidate.score is None or math.isnan(candidate.score):
        return "ungraded"
    if not candidate.text.strip():
        return "empty"
    if reaches(candidate.score, minimum):
        return problem_of(candidate.text, question) or True
    return "between_the_thresholds" if reaches(candidate.score, below) else False


def feedback_rows(
    trajectories: Iterable[Trajectory],
    prompter: Prompter,
    *,
    candidates: Sequence[CandidateSet] = (),
    maximum_score: float = 1.0,
    minimum_margin: float = 0.1,
) -> Derived[FeedbackRow]:
    """Make a row of everything that the teacher gave feedback on.

    The privileged context holds what the student said, the grade and its reason, and
    a better answer where one is known: the best response by G for a response, the
    chosen candidate for either.

    Args:
        trajectories: What loops recorded.
        prompter: Makes the student's prompt.
        candidates: Sets with a chosen answer.
        maximum_score: Answers graded higher need no feedback.
        minimum_margin: A better answer is better by at least this.
    """
    chosen = {
        (c.trajectory, c.what, c.level, c.iteration if c.what == "answer" else 0): c.candidates[
            c.chosen
        ]
        for c in candidates
        if c.chosen is not None and c.chosen < len(c.candidates)
    }
    settler: Settler[FeedbackRow] = Settler()
    for trajectory in trajectories:
        best = _best(trajectory)
        for said in said_in(trajectory):
            made: FeedbackRow | str = said if isinstance(said, str) else ""
            if not isinstance(said, str):
                at = said.iteration if said.what == "answer" else 0
                picked = chosen.get((trajectory.id, said.what, said.level, at))
                better = [(picked.text, picked.score)] if picked is not None else []
                if said.what == "response" and best is not None:
                    better.append(best)
                made = _feedback_row(said, prompter, better, maximum_score, minimum_margin)
            settler.settle(made, lambda row: (row.prompt, row.privileged_context))
    return settler.derived(
        f"Every answer with a score of at most {maximum_score} is a row with the teacher's reason. "
        f"A better answer is shown where one leads by at least {minimum_margin}."
    )


def _best(trajectory: Trajectory) -> tuple[str, float] | None:
    graded = [(r.text, r.grade.score) for r in trajectory.responses if r.grade and not r.failure]
    return max(graded, key=lambda pair: pair[1], default=None)


def _feedback_row(
    said: Judged,
    prompter: Prompter,
    better: Sequence[tuple[str, float | None]],
    maximum_score: float,
    minimum_margin: float,
) -> FeedbackRow | str:
    feedback = said.feedback
    if feedback is None:
        return "ungraded"
    if not feedback.reason.strip():
        return "no_reason"
    if feedback.score > maximum_score:
        return "above_maximum_score"
    text = (
        f"An earlier answer: {said.answer.text}\nGrade {feedback.score:.1f} of 1: {feedback.reason}"
    )
    for answer, score in better:
        if score is not None and reaches(score - feedback.score, minimum_margin):
            text += f"\nA better answer: {answer}"
            break
    return FeedbackRow(
        prompt=prompt_messages(prompter, said.question, said.context, said.extra),
        privileged_context=text,
        provenance=_of_said(said),
    )


def _of_said(said: Judged) -> Provenance:
    grades = said.trajectory.grades
    return Provenance(
        trajectory=said.trajectory.id,
        what=said.what,
        level=said.level,
        iteration=said.iteration,
        question=said.question,
        passages=said.answer.context,
        cited=said.answer.cited,
        statements=said.answer.statements,
        groundedness=said.answer.groundedness,
        models=said.trajectory.models,
        grader="" if said.feedback is None else said.feedback.grader,
        score=None if said.feedback is None else said.feedback.score,
        baseline=grades[0] if grades else None,
    )


def _of_question(said: Judged) -> Provenance:
    """Say where a question came from; what was answered to it then does not matter."""
    return Provenance(
        trajectory=said.trajectory.id,
        what=said.what,
        level=said.level,
        iteration=said.iteration,
        question=said.question,
        passages=said.answer.context,
        models=said.trajectory.models,
    )


def prompt_rows(
    trajectories: Iterable[Trajectory],
    prompter: Prompter,
    *,
    rubrics: Mapping[str, str],
    response_rubric: str,
) -> Derived[PromptRow]:
    """Make a row of every question, to be answered anew and judged by a reward function.

    The instruction is a row with each context that it was answered from.

    Args:
        trajectories: What loops recorded; grades are not needed.
        prompter: Makes the student's prompt.
        rubrics: What a good answer has, by the name of the level.
        response_rubric: The same of a response to the instruction, see
            :data:`reflectory.agents.teacher.RESPONSE_RUBRIC`.
    """
    settler: Settler[PromptRow] = Settler()
    for trajectory in trajectories:
        for said in said_in(trajectory):
            made: PromptRow | str = said if isinstance(said, str) else ""
            if not isinstance(said, str):
                made = PromptRow(
                    prompt=prompt_messages(prompter, said.question, said.context, said.extra),
                    question=said.question,
                    rubric=(response_rubric if said.level is None else rubrics.get(said.level, "")),
                    context=said.context,
                    extra=said.extra,
                    provenance=_of_question(said),
                )
            settler.settle(made, lambda row: (row.prompt,))
    return settler.derived(
        "Every question that was answered is a row, once for each set of passages."
    )
