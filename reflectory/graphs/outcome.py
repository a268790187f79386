"""From the last state of a loop to its trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from reflectory.alignment import CellStatus
from reflectory.config import LoopConfig
from reflectory.errors import OutputError, ReflectoryError
from reflectory.graphs.state import LoopState
from reflectory.types import Examination, Failure, Flag, Response, Trajectory

UNGRADED_SHARE = 0.2
"""Above this share of cells and responses without a grade, a trajectory is flagged."""
_FEW_SCORES = 3


def trajectory_of(
    state: LoopState,
    config: LoopConfig,
    *,
    id: str,
    models: Mapping[str, str],
    metadata: Mapping[str, Any] | None = None,
) -> Trajectory:
    """Return the record of a finished loop.

    Args:
        state: The state after the last step.
        config: What the loop was run with.
        id: Id of the trajectory.
        models: Fingerprints by role.
        metadata: What the user attached to the instruction.
    """
    responses = tuple(state["responses"][t] for t in sorted(state["responses"]))
    cells = tuple(state["examinations"][key] for key in sorted(state["examinations"]))
    used = {i for r in responses for i in r.answer.context}
    used |= {i for c in cells if c.answer is not None for i in c.answer.context}
    return Trajectory(
        id=id,
        instruction=state["instruction"],
        levels=config.level_names,
        passages={i: p for i, p in sorted(state["passages"].items()) if i in used},
        responses=responses,
        examinations=cells,
        additions=tuple(state.get("additions", ())),
        stop=state["stop"],
        chosen=choose_response(responses, config.returns),
        epsilon=config.epsilon,
        models=dict(models),
        seed=config.seed,
        flags=flags_of(responses, cells),
        metadata=dict(metadata or {}),
    )


def failed_trajectory(
    error: ReflectoryError,
    instruction: str,
    config: LoopConfig,
    *,
    id: str,
    models: Mapping[str, str],
    metadata: Mapping[str, Any] | None = None,
) -> Trajectory:
    """Return the record of a loop that could not be finished, with its error."""
    raw = error.raw if isinstance(error, OutputError) else ""
    return Trajectory(
        id=id,
        instruction=instruction,
        levels=config.level_names,
        epsilon=config.epsilon,
        models=dict(models),
        seed=config.seed,
        error=Failure(step="loop", kind=type(error).__name__, message=str(error), raw=raw),
        metadata=dict(metadata or {}),
    )


def choose_response(responses: tuple[Response, ...], returns: Literal["last", "best"]) -> int:
    """Return the index of the response that the loop returns.

    The survey returns the last one. The best one is that with the highest G;
    among equals it is the latest, which has seen the most examination.
    """
    last = len(responses) - 1
    graded = [(r.grade.score, i) for i, r in enumerate(responses) if r.grade is not None]
    return max(graded)[1] if returns == "best" and graded else last


def flags_of(responses: tuple[Response, ...], cells: tuple[Examination, ...]) -> tuple[Flag, ...]:
    """Return the reasons to look twice at a loop."""
    flags = []
    scores = [c.feedback.score for c in cells if c.feedback is not None]
    scores += [r.grade.score for r in responses if r.grade is not None]
    # Where every response was kept, only what it was chosen over tells such a judge.
    scores += [d.score for r in responses for d in r.drafts if d.score is not None]
    # A constant judge makes the matrix stand still, which looks like convergence.
    if len(scores) > _FEW_SCORES and max(scores) - min(scores) < 1e-9:
        flags.append(Flag.CONSTANT_JUDGE)
    missing = sum(c.status is CellStatus.FAILED for c in cells)
    missing += sum(r.grade is None for r in responses)
    if missing > UNGRADED_SHARE * (len(cells) + len(responses)):
        flags.append(Flag.UNGRADED)
    if responses and not responses[0].answer.context:
        flags.append(Flag.NO_CONTEXT)
    return tuple(flags)
