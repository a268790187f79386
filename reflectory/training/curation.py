"""From trajectories to rows by a stated rule on grades; nothing is dropped silently.

Every response, answer and possible preference pair that is looked at is
counted once: as accepted, or under the one reason for which it was refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from reflectory.alignment import CellStatus
from reflectory.config import CurationConfig
from reflectory.evaluation.metrics import normalise_answer, token_f1
from reflectory.models.engine.rendering import messages_of
from reflectory.training.counts import CurationCounts, Tallies
from reflectory.training.rows import (
    Message,
    PreferenceRow,
    Prompter,
    Provenance,
    TrainingRow,
    assistant,
)
from reflectory.types import (
    Answer,
    Examination,
    Feedback,
    Flag,
    Passage,
    Response,
    Trajectory,
)

ECHO_F1 = 0.9
"""A completion this near to its question says the question again and nothing else."""

ROUNDING = 1e-9
"""0.6 - 0.5 is a little less than 0.1 in binary; it still reaches a threshold of 0.1."""

REFUSED_FLAGS: frozenset[Flag] = frozenset({Flag.CONSTANT_JUDGE})
"""Trajectories with these flags give no rows unless the caller says otherwise.

A judge that says the same to everything accepts all or nothing: its threshold
selects nothing, and what nothing selected is no lesson.
"""


@dataclass(frozen=True)
class Curation:
    """The outcome of :func:`curate`.

    Attributes:
        rows: Examples for supervised training, in the order of the trajectories.
        preferences: Pairs for preference training, in the same order.
        counts: What was seen, accepted and refused, and why.
        config: The rule.
    """

    rows: tuple[TrainingRow, ...]
    preferences: tuple[PreferenceRow, ...]
    counts: CurationCounts
    config: CurationConfig


def curate(
    trajectories: Iterable[Trajectory],
    config: CurationConfig,
    prompter: Prompter,
    *,
    refuse_flags: Collection[Flag] = REFUSED_FLAGS,
) -> Curation:
    """Make training rows of what was graded well enough.

    The best response by G (the earliest of equals) becomes a row when its grade
    reaches ``minimum_grade`` and it is R_0 or gains ``minimum_gain`` on G[0]. It
    is trained with the prompt of R_0 and the passages it was written from: what
    reflection found becomes what the student says at once. An answer to a
    question becomes a row when its score reaches ``minimum_score``. The best
    response over R_0 becomes a preference pair when it is another text and leads
    by ``minimum_margin``. Blank completions, completions that say the question
    again, and repetitions of a question with the same completion are refused.

    Args:
        trajectories: What loops recorded; failed ones are counted and give nothing.
        config: The thresholds.
        prompter: Makes the student's prompt, as inference does.
        refuse_flags: Trajectories with one of these flags give nothing.
    """
    flags = frozenset(refuse_flags)
    tallies = Tallies()
    rows: list[TrainingRow] = []
    preferences: list[PreferenceRow] = []
    for trajectory in trajectories:
        unusable = _unusable(trajectory, flags)
        best = None if unusable else _best_response(trajectory)
        gave = False
        for response in trajectory.responses:
            made = unusable or _response_row(trajectory, response, best, config, prompter)
            gave |= tallies.settle("responses", made, trajectory.instruction, rows)
        for cell in trajectory.examinations:
            made = unusable or _answer_row(trajectory, cell, config, prompter)
            question = cell.question.text if cell.question is not None else ""
            gave |= tallies.settle("answers", made, question, rows)
        pair = unusable or _pair(trajectory, best, config, prompter)
        gave |= tallies.settle("pairs", pair, trajectory.instruction, preferences)
        tallies.count("trajectories", "" if gave else unusable or "nothing_accepted")
    return Curation(tuple(rows), tuple(preferences), tallies.counts(), config)


def _unusable(trajectory: Trajectory, flags: frozenset[Flag]) -> str:
    if trajectory.error is not None:
        return "failed_trajectory"
    return next((f"flag_{flag.value}" for flag in trajectory.flags if flag in flags), "")


def _best_response(trajectory: Trajectory) -> Response | None:
    """Return the graded response with the highest G, the earliest of equals."""
    graded = [r for r in trajectory.responses if r.failure is None and r.grade is not None]
    return max(graded, key=_grade, default=None)


def _grade(response: Response) -> float:
    return -1.0 if response.grade is None else response.grade.score


def _baseline(trajectory: Trajectory) -> float | None:
    grades = trajectory.grades
    return grades[0] if grades else None


def _response_row(
    trajectory: Trajectory,
    response: Response,
    best: Response | None,
    config: CurationConfig,
    prompter: Prompter,
) -> TrainingRow | str:
    if response.failure is not None:
        return "failed"
    if response.grade is None:
        return "ungraded"
    if response is not best:
        return "not_the_best"
    if response.grade.score < config.minimum_grade:
        return "below_minimum_grade"
    if response.iteration > 0:
        baseline = _baseline(trajectory)
        if baseline is None:
            return "no_baseline"
        if response.grade.score - baseline < config.minimum_gain - ROUNDING:
            return "below_minimum_gain"
    if problem := _problem(response.text, trajectory.instruction):
        return problem
    context = _passages(trajectory, response.answer)
    if context is None:
        return "missing_passage"
    return TrainingRow(
        prompt=_prompt(prompter, trajectory.instruction, context),
        completion=assistant(cited_text(response.answer)),
        provenance=_provenance(trajectory, response.answer, response.grade, response.iteration),
    )


def _answer_row(
    trajectory: Trajectory, cell: Examination, config: CurationConfig, prompter: Prompter
) -> TrainingRow | str:
    if not config.questions:
        return "questions_switched_off"
    if cell.status is not CellStatus.DONE:
        return cell.status.value
    if cell.question is None or cell.answer is None or cell.feedback is None:
        return "incomplete"
    if cell.feedback.score < config.minimum_score:
        return "below_minimum_score"
    if problem := _problem(cell.answer.text, cell.question.text):
        return problem
    context = _passages(trajectory, cell.answer)
    if context is None:
        return "missing_passage"
    shared = _shared_passages(trajectory, cell)
    return TrainingRow(
        prompt=_prompt(prompter, cell.question.text, context[:shared], context[shared:]),
        completion=assistant(cited_text(cell.answer)),
        provenance=_provenance(
            trajectory, cell.answer, cell.feedback, cell.iteration, level=cell.level
        ),
    )


def _pair(
    trajectory: Trajectory, best: Response | None, config: CurationConfig, prompter: Prompter
) -> PreferenceRow | str:
    first = trajectory.responses[0] if trajectory.responses else None
    if first is None or best is None or best.grade is None:
        return "ungraded"
    if first.grade is None or first.failure is not None:
        return "no_baseline"
    if best.iteration == first.iteration:
        return "first_is_best"
    margin = best.grade.score - first.grade.score
    if margin < config.minimum_margin - ROUNDING:
        return "below_minimum_margin"
    if normalise_answer(best.text) == normalise_answer(first.text):
        return "same_text"
    if not first.text.strip():
        return "empty"
    if problem := _problem(best.text, trajectory.instruction):
        return problem
    context = _passages(trajectory, best.answer)
    if context is None:
        return "missing_passage"
    return PreferenceRow(
        prompt=_prompt(prompter, trajectory.instruction, context),
        chosen=assistant(cited_text(best.answer)),
        rejected=assistant(cited_text(first.answer)),
        margin=margin,
        provenance=_provenance(trajectory, best.answer, best.grade, best.iteration),
    )


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


def _problem(completion: str, question: str) -> str:
    """Return why a completion teaches nothing, or an empty text."""
    if not normalise_answer(completion):
        return "empty"
    return "echo" if token_f1(completion, question) >= ECHO_F1 else ""


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


def _prompt(
    prompter: Prompter,
    question: str,
    context: Sequence[Passage],
    extra: Sequence[Passage] = (),
) -> tuple[Message, ...]:
    messages = messages_of(prompter(question, context, extra))
    return tuple(Message.model_validate(message) for message in messages)


def _provenance(
    trajectory: Trajectory,
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
        passages=answer.context,
        cited=answer.cited,
        statements=answer.statements,
        groundedness=answer.groundedness,
        models=trajectory.models,
        grader=feedback.grader,
        score=feedback.score,
        baseline=_baseline(trajectory),
    )
