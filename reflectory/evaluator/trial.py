"""The judge of an evaluation on trial, with the answers that the contenders really gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reflectory.agents.graders import Grader
from reflectory.evaluation.judge.noise import MatrixFacts
from reflectory.evaluation.judge.records import GradedAnswer, JudgeReport
from reflectory.evaluation.judge.trial import try_judge
from reflectory.evaluation.records import Attempt
from reflectory.evaluation.set_rows import EvaluationItem
from reflectory.evaluator.answering import Answers
from reflectory.evaluator.arena import Arena
from reflectory.evaluator.scoring import ScoreSheet
from reflectory.models.protocol import Completion, Model, Request, derive_seed
from reflectory.models.wrapping import WrappedModel
from reflectory.types import Trajectory

RIGHT = 0.5
"""An answer is right when the metric that decides it is at least so high."""


class AskedAgain(WrappedModel):
    """A model that is asked the same once more: what it said before is not looked up.

    Its fingerprint is another one, so that the call cache keeps both answers, and what is
    drawn is drawn from another seed. Where a judge draws nothing, what is left is the
    noise of the number format.

    Args:
        model: What answers.
        turn: Which time, from 1.
    """

    def __init__(self, model: Model, turn: int) -> None:
        super().__init__(model)
        self._turn = turn

    @property
    def fingerprint(self) -> str:
        """The model's, and which time it is asked."""
        return f"{self.inner.fingerprint}#again-{self._turn}"

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request`` with another seed."""
        seed = derive_seed(request.seed, "again", self._turn)
        return await self.inner.complete(request.model_copy(update={"seed": seed}))


async def trial_of(
    arena: Arena,
    items: Sequence[EvaluationItem],
    answers: Answers,
    sheet: ScoreSheet,
    trajectories: Iterable[Trajectory],
    *,
    own_grader: bool,
) -> JudgeReport:
    """Put the loop's judge on trial.

    Right and wrong answers are made from references. Questions without any are left out where
    others have some; where none has, the judge is tried on what was really answered alone. With
    and without documents the judge is told otherwise, so of two such kinds the larger is tried.

    Args:
        arena: Gives the judge its model, behind the call cache.
        items: Questions with references, constraints or both.
        answers: What was answered; every graded attempt is looked at once.
        sheet: How good the answers are.
        trajectories: Finished loops of the reference.
        own_grader: Whether the judge was handed over and has no model that is known here.
    """
    settings = arena.settings
    known = [item for item in items if item.references] or items
    kinds = [[item for item in known if (item.id in arena.alone) is kind] for kind in (False, True)]
    tried = max(kinds, key=len)
    # The judge as it was in the loop on these.
    parts = arena.parts_of(tried[0].id)
    ids = {item.id for item in tried}
    loops = {trajectory.id: trajectory for trajectory in trajectories}
    own = {
        name: {id: answer for id, answer in found.items() if id in ids}
        for name, found in answers.items()
    }
    own_loops = {a.trajectory for found in own.values() for a in found.values()}
    examined = [loop for id, loop in loops.items() if id in own_loops]

    def again(turn: int) -> Grader:
        return parts.grader(arena.cached(AskedAgain(parts.teacher, turn)))

    return await try_judge(
        parts.grader(arena.cached(parts.teacher)),
        tried,
        seed=settings.seed,
        again=None if own_grader else again,
        graded=graded_answers(own, sheet, settings.right, loops),
        matrix=MatrixFacts.of(examined),
        rubric=parts.response_rubric,
        verifier=parts.verifier,
        confidence=settings.confidence,
        left_out=len(items) - len(tried),
    )


def graded_answers(
    answers: Answers, sheet: ScoreSheet, right: str, loops: Mapping[str, Trajectory]
) -> list[GradedAnswer]:
    """Return every different answer that the judge graded, with its metrics."""
    found: dict[tuple[str, str], GradedAnswer] = {}
    for by_question in answers.values():
        for id, answer in by_question.items():
            loop = loops.get(answer.trajectory or "")
            for attempt in answer.attempts:
                if attempt.grade is None or (id, attempt.text) in found:
                    continue
                values = sheet.defined(id, attempt)
                found[id, attempt.text] = GradedAnswer(
                    id=id,
                    text=attempt.text,
                    score=attempt.grade,
                    values=values,
                    right=values[right] >= RIGHT if right in values else None,
                    alignment=_alignment(attempt, loop),
                )
    return list(found.values())


def _alignment(attempt: Attempt, loop: Trajectory | None) -> float | None:
    """Return the mean of A over the levels that examined R_t; ``None`` where nothing did."""
    if loop is None or not attempt.note.startswith("R_"):
        return None
    t = int(attempt.note.removeprefix("R_"))
    column = [c.alignment for c in loop.examinations if c.iteration == t]
    known = [value for value in column if value is not None]
    return sum(known) / len(known) if known else None
