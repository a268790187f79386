"""Rows and pairs of what a loop recorded, as it was written."""

from __future__ import annotations

import math

from reflectory.alignment import CellStatus
from reflectory.config import CurationConfig
from reflectory.evaluation.metrics import normalise_answer
from reflectory.training.curation.making import (
    cited_text,
    leads_by,
    problem_of,
    prompt_messages,
    reaches,
)
from reflectory.training.rows import (
    PreferenceRow,
    Prompter,
    Provenance,
    TrainingRow,
    assistant,
)
from reflectory.types import Answer, Examination, Feedback, Passage, Response, Trajectory


def best_response(trajectory: Trajectory) -> Response | None:
    """Return the graded response with the highest G, the earliest of equals."""
    graded = [r for r in trajectory.responses if r.failure is None and not math.isnan(_grade(r))]
    return max(graded, key=_grade, default=None)


def _grade(response: Response) -> float:
    return math.nan if response.grade is None else response.grade.score


def _baseline(trajectory: Trajectory) -> float | None:
    grade = trajectory.grades[0] if trajectory.responses else None
    return None if grade is None or math.isnan(grade) else grade


def response_row(
    trajectory: Trajectory,
    response: Response,
    best: Response | None,
    config: CurationConfig,
    prompter: Prompter,
) -> TrainingRow | str:
    """Return the row of a response, or why it gives none.

    Args:
        trajectory: Where it was recorded.
        response: R_t.
        best: The response that may become a row.
        config: The thresholds.
        prompter: Makes the student's prompt.
    """
    if response.failure is not None:
        return "failed"
    if math.isnan(_grade(response)) or response.grade is None:
        return "ungraded"
    if response is not best:
        return "not_the_best"
    # Equation 1, D = {(x, y) : q(x, y) >= tau}: the teacher's grade is q, the threshold tau.
    if not reaches(response.grade.score, config.minimum_grade):
        return "below_minimum_grade"
    if response.iteration > 0:
        baseline = _baseline(trajectory)
        if baseline is None:
            return "no_baseline"
        if not leads_by(response.grade.score, baseline, config.minimum_gain):
            return "below_minimum_gain"
    if problem := problem_of(response.text, trajectory.instruction):
        return problem
    context = _passages(trajectory, response.answer)
    if context is None:
        return "missing_passage"
    return TrainingRow(
        prompt=prompt_messages(prompter, trajectory.instruction, context),
        completion=assistant(cited_text(response.answer)),
        provenance=_provenance(
            trajectory,
            trajectory.instruction,
            response.answer,
            response.grade,
            response.iteration,
        ),
    )


def answer_row(
    trajectory: Trajectory, cell: Examination, config: CurationConfig, prompter: Prompter
) -> TrainingRow | str:
    """Return the row of an answer R[j,t], or why it gives none.

    Args:
        trajectory: Where it was recorded.
        cell: Question, answer and feedback.
        config: The thresholds.
        prompter: Makes the student's prompt.
    """
    if not config.questions:
        return "questions_switched_off"
    if cell.status is not CellStatus.DONE:
        return cell.status.value
    if cell.question is None or cell.answer is None or cell.feedback is None:
        return "incomplete"
    if not reaches(cell.feedback.score, config.minimum_score):  # Equation 1, q of an answer
        return "below_minimum_score"
    if problem := problem_of(cell.answer.text, cell.question.text):
        return problem
    context = _passages(trajectory, cell.answer)
    if context is None:
        return "missing_passage"
    shared = _shared_passages(trajectory, cell)
    return TrainingRow(
        prompt=prompt_messages(prompter, cell.question.text, context[:shared], context[shared:]),
        completion=assistant(cited_text(cell.answer)),
        provenance=_provenance(
            trajectory,
            cell.question.text,
            cell.answer,
            cell.feedback,
            cell.iteration,
            level=cell.level,
        ),
    )


def response_pair(
    trajectory: Trajectory, best: Response | None, config: CurationConfig, prompter: Prompter
) -> PreferenceRow | str:
    """Return the pair of the best response over R_0, or why there is none.

    Args:
        trajectory: Where both were recorded.
        best: The better one; ``None`` where nothing was graded.
        config: The thresholds.
        prompter: Makes the student's prompt.
    """
    first = trajectory.responses[0] if trajectory.responses else None
    if first is None or best is None or best.grade is None:
        return "ungraded"
    if first.grade is None or first.failure is not None:
        return "no_baseline"
    if best.iteration == first.iteration:
        return "first_is_best"
    margin = best.grade.score - first.grade.score
    if not leads_by(best.grade.score, first.grade.score, config.minimum_margin):
        return "below_minimum_margin"
    if normalise_answer(best.text) == normalise_answer(first.text):
        return "same_text"
    if not first.text.strip():
        return "empty"
    if problem := problem_of(best.text, trajectory.instruction):
        return problem
    context = _passages(trajectory, best.answer)
    if context is None:
        return "missing_passage"
    return PreferenceRow(
        prompt=prompt_messages(prompter, trajectory.instruction, context),
        chosen=assistant(cited_text(best.answer)),
        rejected=assistant(cited_text(first.answer)),
        margin=margin,
        provenance=_provenance(
            trajectory, trajectory.instruction, best.answer, best.grade, best.iteration
        ),
    )


def _passages(trajectory: Trajectory, answer: Answer) -> tuple[Passage, ...] | None:
    found = [trajectory.passages.get(passage) for passage in answer.context]
    present = tuple(passage for passage in found if passage is not None)
    return present if len(present) == len(found) else None


def _shared_passages(trajectory: Trajectory, cell: Examination) -> int:
    """Return how many passages of C[j,t] come from C_t; the rest is the question's own."""
    of_loop = next(
        (r.answer.context for r in trajectory.responses if r.iteration == cell.iteration), ()
    )
    own = cell.answer.context if cell.answer is not None else ()
    return len(of_loop) if own[: len(of_loop)] == of_loop else len(own)


def _provenance(
    trajectory: Trajectory,
    question: str,
    answer: Answer,
    feedback: Feedback,
    iteration: int,
    *,
    level: str | None = None,
) -> Provenance:
    return Provenance(
        trajectory=trajectory.id,
        what="response" if level is None else "answer",
        level=level,
        iteration=iteration,
        question=question,
        passages=answer.context,
        cited=answer.cited,
        statements=answer.statements,
        groundedness=answer.groundedness,
        models=trajectory.models,
        grader=feedback.grader,
        score=feedback.score,
        baseline=_baseline(trajectory),
    )
