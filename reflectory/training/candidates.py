"""Answers to choose from: what the loop said, samples, short stretches, the teacher's own.

What a loop wrote is one draw of a small model. Before it is learnt, more draws are
gathered, the short stretches that the documents hold are cut out of all of them, and the
teacher grades everything the same way. The choice is recorded with its reason, and what
was not chosen stays as the worse side of preference pairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reflectory.agents.condensing import short_forms
from reflectory.agents.graders import Grader, GradingTask
from reflectory.agents.student import Student
from reflectory.agents.teacher import RESPONSE_RUBRIC
from reflectory.agents.verification import LexicalVerifier, Verifier, groundedness
from reflectory.alignment import CellStatus
from reflectory.config import CandidateConfig
from reflectory.errors import OutputError
from reflectory.evaluation.metrics import contains_answer, normalise_answer, token_f1
from reflectory.models.protocol import derive_seed
from reflectory.types import (
    Candidate,
    CandidateSet,
    Examination,
    Passage,
    PracticeQuestion,
    Trajectory,
)

_MOST_STRETCHES = 4
"""Stretches that are cut out for one question."""

_SAME_F1 = 0.6
"""Two answers that share so many words say the same."""


@dataclass(frozen=True)
class _Task:
    """One question with the answers so far."""

    what: CandidateSet
    rubric: str
    proposed: str = ""
    samples: bool = False


async def gather_candidates(
    trajectories: Iterable[Trajectory],
    config: CandidateConfig,
    *,
    student: Student,
    grader: Grader,
    practice: Mapping[str, PracticeQuestion] | None = None,
    rubrics: Mapping[str, str] | None = None,
    verifier: Verifier | None = None,
) -> tuple[CandidateSet, ...]:
    """Gather, grade and choose answers to every question of some trajectories.

    An instruction that the teacher wrote from passages is answered again from those
    passages, the same for all questions of a session, so that training reads them once.

    Args:
        trajectories: What loops recorded; failed ones give nothing.
        config: How many answers, and how they are chosen.
        student: Who draws samples.
        grader: Who grades, as in the loop.
        practice: Questions of the teacher by the id of their trajectory; their proposed
            answers become candidates. The loop has not seen these.
        rubrics: What a good answer has, by level; the response's rubric elsewhere.
        verifier: Finds the evidence; words are compared when ``None``.

    Returns:
        One set per instruction and per finished cell, in the order of the trajectories.
    """
    written, by_level = practice or {}, rubrics or {}
    checker = LexicalVerifier() if verifier is None else verifier
    tasks = [
        task
        for trajectory in trajectories
        if trajectory.error is None
        for task in _tasks_of(trajectory, written.get(trajectory.id), by_level)
    ]

    async def one(task: _Task) -> CandidateSet:
        drawn = await _samples(task, config, student) if task.samples else []
        found = [*task.what.candidates, *drawn]
        if config.condense:
            said, seen = [c.text for c in found], (*task.what.context, *task.what.extra)
            forms = short_forms(task.what.question, said, seen, most=_MOST_STRETCHES)
            found += [Candidate(text=form, origin="condensed") for form in forms]
        if task.proposed:  # first, so that it stays the teacher's where others say the same
            found.insert(0, Candidate(text=task.proposed, origin="teacher"))
        agreeing = [c.text for c in drawn]
        unique = {_key(c.text): c for c in reversed(found) if normalise_answer(c.text)}
        ordered = [c for c in found if unique.get(_key(c.text)) is c]
        graded = await asyncio.gather(
            *(_graded(c, task, agreeing, grader, checker) for c in ordered)
        )
        return choose(task.what.model_copy(update={"candidates": tuple(graded)}), config)

    return tuple(await asyncio.gather(*map(one, tasks)))


def choose(choice: CandidateSet, config: CandidateConfig) -> CandidateSet:
    """Return a set with the answer to learn, and why it is that one.

    The teacher's own answer is taken where there is one: the question was written for it,
    and a document states it. Otherwise the best graded counts, the likelier of equals
    being the one that more samples say; a stretch takes the place of what it was cut from
    when its grade is higher by ``minimum_gain``.

    Args:
        choice: Candidates with their grades.
        config: Decides what a stretch has to gain.
    """
    own = next((n for n, c in enumerate(choice.candidates) if c.origin == "teacher"), None)
    if own is not None and choice.candidates[own].score is not None:
        reason = "the teacher wrote the question for this answer, and a document states it"
        return choice.model_copy(update={"chosen": own, "reason": reason})
    graded = [(n, c) for n, c in enumerate(choice.candidates) if c.score is not None]
    if not graded:
        return choice.model_copy(update={"chosen": None, "reason": "no answer could be graded"})

    def value(candidate: Candidate) -> tuple[float, float, int]:
        return (candidate.score or 0.0, candidate.agreement or 0.0, -len(candidate.text))

    whole = [item for item in graded if item[1].origin != "condensed"]
    best, reason = max(whole or graded, key=lambda item: value(item[1])), "the best grade"
    cut = [item for item in graded if item[1].origin == "condensed"]
    if cut:
        shorter = max(cut, key=lambda item: value(item[1]))
        gain = (shorter[1].score or 0.0) - (best[1].score or 0.0)
        is_shorter = len(shorter[1].text) < len(best[1].text)
        if gain >= config.minimum_gain and (gain > 0.0 or is_shorter):
            best, reason = shorter, "a shorter answer with no lower grade"
            if gain < 0.0:
                reason = "a shorter answer, whose lower grade is near enough"
            elif not is_shorter:
                reason = "a stretch of an answer with a higher grade"
    return choice.model_copy(update={"chosen": best[0], "reason": reason})


def _tasks_of(
    trajectory: Trajectory, written: PracticeQuestion | None, rubrics: Mapping[str, str]
) -> list[_Task]:
    found = []
    # One that could not be graded was said all the same, and is graded again here.
    responses = [r for r in trajectory.responses if r.failure is None or r.failure.step == "grade"]
    if responses:
        graded = [r for r in responses if r.grade is not None]
        best = max(graded, key=lambda r: r.grade.score if r.grade else 0.0, default=responses[0])
        context = written.passages if written else _passages(trajectory, best.answer.context)
        what = CandidateSet(
            trajectory=trajectory.id,
            what="response",
            iteration=best.iteration,
            question=trajectory.instruction,
            context=context,
            candidates=tuple(Candidate(text=r.text, origin="loop") for r in responses),
        )
        proposed = written.answer if written else ""
        found.append(_Task(what, RESPONSE_RUBRIC, proposed, samples=True))
    found += [
        _Task(made, rubrics.get(cell.level, RESPONSE_RUBRIC))
        for cell in trajectory.examinations
        if (made := _cell_set(trajectory, cell)) is not None
    ]
    return [task for task in found if task.what.context]


def _cell_set(trajectory: Trajectory, cell: Examination) -> CandidateSet | None:
    if cell.status is not CellStatus.DONE or cell.question is None or cell.answer is None:
        return None
    own = cell.answer.context
    shared = next(
        (r.answer.context for r in trajectory.responses if r.iteration == cell.iteration), ()
    )
    split = len(shared) if own[: len(shared)] == shared else len(own)
    return CandidateSet(
        trajectory=trajectory.id,
        what="answer",
        level=cell.level,
        iteration=cell.iteration,
        question=cell.question.text,
        context=_passages(trajectory, own[:split]),
        extra=_passages(trajectory, own[split:]),
        candidates=(Candidate(text=cell.answer.text, origin="loop"),),
    )


def _passages(trajectory: Trajectory, ids: Sequence[str]) -> tuple[Passage, ...]:
    found = [trajectory.passages.get(i) for i in ids]
    return tuple(p for p in found if p is not None)


async def _samples(task: _Task, config: CandidateConfig, student: Student) -> list[Candidate]:
    """Return what the student says when it draws; what it could not say is left out."""

    async def one(number: int) -> Candidate | None:
        seed = derive_seed(config.seed, "sample", task.what.trajectory, number)
        drawing = student.drawing(config.temperature, seed)
        try:
            answer = await drawing.respond(task.what.question, task.what.context)
        except OutputError:
            return None
        return Candidate(text=answer.text, origin="sample", seed=seed)

    found = await asyncio.gather(*(one(n) for n in range(config.samples)))
    return [candidate for candidate in found if candidate is not None]


async def _graded(
    candidate: Candidate, task: _Task, said: Sequence[str], grader: Grader, verifier: Verifier
) -> Candidate:
    """Return a candidate with grade, evidence and agreement; a failure is named, not a zero."""
    what = task.what
    passages = (*what.context, *what.extra)
    statements = await verifier.verify(what.question, candidate.text, passages)
    known = candidate.model_copy(
        update={
            "groundedness": groundedness(statements),
            "agreement": _agreement(candidate.text, said),
        }
    )
    grading = GradingTask(
        question=what.question,
        answer=candidate.text,
        rubric=task.rubric,
        context=what.context,
        extra=what.extra,
        apart=False,  # what a loop chose may have been written from one passage
    )
    unsupported = tuple(candidate.text[s.start : s.end] for s in statements if not s.supported)
    try:
        feedback = await grader.grade(replace(grading, unsupported=unsupported))
    except OutputError as error:
        return known.model_copy(update={"failure": error.message})
    return known.model_copy(update={"score": feedback.score, "grader": feedback.grader})


def _agreement(text: str, said: Sequence[str]) -> float | None:
    """Return the share of samples that say the same, in [0, 1]."""
    if not said:
        return None
    wanted = normalise_answer(text)
    same = sum(
        bool(wanted) and (contains_answer(other, text) or token_f1(other, text) >= _SAME_F1)
        for other in said
    )
    return same / len(said)


def _key(text: str) -> str:
    return normalise_answer(text) or text
