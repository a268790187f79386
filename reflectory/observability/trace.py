"""From a response back to everything that made it: prompts, answers, passages, grades, models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reflectory.errors import RunDirectoryError, UserError
from reflectory.models.protocol import Scores
from reflectory.observability.place import Place
from reflectory.runs.call_cache import CallCache
from reflectory.runs.call_inspection import find_call
from reflectory.runs.call_records import RecordedCall
from reflectory.runs.directory import RunView
from reflectory.runs.places import FILE_NAME, CallPlace, CallPlaces
from reflectory.types import Feedback, Trajectory


def recorder(places: CallPlaces) -> Callable[[Place, str, str], None]:
    """Return what notes each call's place in a run; see :class:`~.place.Run`."""

    def record(place: Place, role: str, key: str) -> None:
        places.add(place.loop, CallPlace(key, role, place.step, place.iteration, place.level))

    return record


@dataclass(frozen=True)
class TracedCall:
    """One call that a trajectory was made with.

    Attributes:
        step: The node that made it.
        iteration: t, ``None`` where the node belongs to none.
        level: Name of the level, ``None`` where the node belongs to none.
        role: Who asked and what for.
        kind: ``complete`` or ``score``.
        model: Fingerprint of what answered.
        prompt: What the model read: pairs of speaker and text.
        output: What it said; for a score, each continuation with its log-likelihood.
        seed: Seed of its draws, ``None`` for a score.
        sampling: How its tokens were drawn; empty for a score.
        usage: Tokens read, of those reused, and written.
        seconds: How long the call took when it was made.
        passages: Ids of the passages of the trajectory that stand in the prompt.
        grade: What the teacher gave the answer that this call is about, ``None`` where
            there is none (of a question, for one).
        key: Under which the call cache has it.
    """

    step: str
    iteration: int | None
    level: str | None
    role: str
    kind: str
    model: str
    prompt: tuple[tuple[str, str], ...]
    output: str
    seed: int | None
    sampling: Mapping[str, Any]
    usage: Mapping[str, int]
    seconds: float
    passages: tuple[str, ...]
    grade: float | None
    key: str


@dataclass(frozen=True)
class Trace:
    """Everything that made a trajectory.

    Attributes:
        trajectory: The trajectory itself.
        calls: Its calls, in the order in which they were first answered.
        lost: Keys of calls that the call cache no longer has: they were pruned.
    """

    trajectory: Trajectory
    calls: tuple[TracedCall, ...]
    lost: tuple[str, ...] = field(default=())

    def only(self, role: str) -> Trace:
        """Return the trace with the calls of one role.

        Args:
            role: Its name, or the beginning of several with a dot at the end (``teacher.``).
        """
        calls = [
            call
            for call in self.calls
            if call.role == role or (role.endswith(".") and call.role.startswith(role))
        ]
        return replace(self, calls=tuple(calls))

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as JSON values; the trajectory by its most important parts."""
        return {
            "id": self.trajectory.id,
            "instruction": self.trajectory.instruction,
            "response": self.trajectory.response,
            "models": dict(self.trajectory.models),
            "passages": {
                name: {"title": passage.title, "text": passage.text}
                for name, passage in self.trajectory.passages.items()
            },
            "calls": [asdict(call) for call in self.calls],
            "lost": list(self.lost),
        }


def trace_of(run: str | Path, trajectory_id: str) -> Trace:
    """Return the calls that made a trajectory, with what went in and what came out.

    Args:
        run: Run directory; another process may be working in it.
        trajectory_id: Id of a finished trajectory, or the beginning of one id.

    Raises:
        RunDirectoryError: The folder is none, or its calls were not noted.
        UserError: There is no such trajectory, or several begin like that.
        IntegrityError: A file is damaged.
    """
    view = RunView.read(run)
    trajectory = find_trajectory(view, trajectory_id)
    file = view.path / FILE_NAME
    if not file.is_file():
        raise RunDirectoryError(
            f"{view.path} does not say which calls made a trajectory: it has no {FILE_NAME}",
            hint="runs of this version on one machine have it; "
            "`reflectory cache` shows the calls of other ones",
        )
    places, cache = CallPlaces(file), CallCache(view.path / "calls.sqlite")
    try:
        calls, lost = [], []
        for place in places.of(trajectory.id):
            if cache.get(place.key) is None:
                lost.append(place.key)
            else:
                calls.append(_traced(place, find_call(cache, place.key), trajectory))
    finally:
        places.close()
        cache.close()
    return Trace(trajectory, tuple(calls), tuple(lost))


def find_trajectory(view: RunView, trajectory_id: str) -> Trajectory:
    """Return the trajectory of a run with an id, or with one that begins like that.

    Args:
        view: The run.
        trajectory_id: The id of a trajectory, done or failed, or the beginning of one id.

    Raises:
        UserError: There is no such trajectory, or several begin like that.
        IntegrityError: Its line is damaged.
    """
    store = view.trajectories
    found = store.get(trajectory_id)
    if found is not None:
        return found
    known = sorted(store.ids() | store.failed_ids())
    ids = [name for name in known if name.startswith(trajectory_id)]
    only = store.get(ids[0]) if len(ids) == 1 and trajectory_id else None
    if only is not None:
        return only
    what = f"{len(ids)} trajectories" if ids else "no trajectory"
    few = ", ".join(known[:3])
    raise UserError(
        f"{view.path} has {what} with the id {trajectory_id!r}",
        hint=f"ids look like these: {few}" if few else "the run has finished none yet",
    )


def _traced(place: CallPlace, call: RecordedCall, trajectory: Trajectory) -> TracedCall:
    from reflectory.retrieval.context import render_passages

    prompt = tuple((part["speaker"], part["text"]) for part in call.request["segments"])
    read = "\n".join(text for _, text in prompt)
    grade = _grade_of(place, trajectory)
    return TracedCall(
        step=place.step,
        iteration=place.iteration,
        level=place.level,
        role=place.role,
        kind=call.kind,
        model=call.model,
        prompt=prompt,
        output=_output(call),
        seed=call.request.get("seed"),
        sampling=dict(call.request.get("sampling", {})),
        usage=dict(call.response.get("usage", {})),
        seconds=call.seconds,
        # As the agents read them, without the number, which differs from call to call.
        passages=tuple(
            i
            for i, p in trajectory.passages.items()
            if render_passages([p]).partition("\n")[2] in read
        ),
        grade=None if grade is None else grade.score,
        key=place.key,
    )


def _output(call: RecordedCall) -> str:
    if call.kind == "complete":
        return str(call.response["text"])
    scores = Scores.model_validate(call.response)  # JSON writes an infinity as a text
    lines = zip(call.request.get("continuations", ()), scores.continuations, strict=False)
    return "\n".join(f"{found.total:.4f} {text!r}" for text, found in lines)


def _grade_of(place: CallPlace, trajectory: Trajectory) -> Feedback | None:
    """Return the grade of what a call is about: of an answer, or of a response."""
    t = place.iteration
    if place.step in {"answer", "evaluate"}:
        for cell in trajectory.examinations:
            if cell.iteration == t and cell.level == place.level:
                return cell.feedback
        return None
    if t is None or place.step not in {"respond", "grade", "reflect"}:
        return None
    number = t + 1 if place.step == "reflect" else t  # a reflection on t writes R_{t+1}
    return next((r.grade for r in trajectory.responses if r.iteration == number), None)
