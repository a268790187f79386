"""The loop as a contender, whole and with single parts removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from reflectory.config import LoopConfig
from reflectory.contenders.protocol import Task
from reflectory.driver import LoopEvent, drive, steps_are_told
from reflectory.errors import BackendError, OutputError, RunStopped, StorageError, UserError
from reflectory.evaluation.records import Attempt
from reflectory.graphs.outcome import trajectory_of
from reflectory.graphs.reflective_loop import build_reflective_loop
from reflectory.graphs.state import LoopContext
from reflectory.observability.nodes import ObservedSteps
from reflectory.types import Examination, Passage, Response

if TYPE_CHECKING:
    from reflectory.agents.revision import Reviser

_LATER = frozenset({"grade", "conclude"})
"""Steps that write a response again only to put its grade beside it."""


class _SpentError(Exception):
    """Both budgets are used up; what comes now would be in no table."""


@dataclass(frozen=True)
class Variant:
    """A loop to compare: the configured one, or one that lacks a part.

    Attributes:
        name: Of the contender.
        description: One sentence for people.
        changes: What its configuration differs in.
        live: What its live objects differ in.
    """

    name: str
    description: str
    changes: Callable[[LoopConfig], Mapping[str, Any]] = lambda config: {}
    live: Callable[[LoopContext], LoopContext] = lambda live: live


class _UnseeingReviser:
    """Revises without seeing anything of the examination but its levels and iteration.

    Args:
        reviser: Who revises.
    """

    def __init__(self, reviser: Reviser) -> None:
        self._reviser = reviser

    async def revise(
        self,
        instruction: str,
        context: Sequence[Passage],
        response: Response,
        cells: Sequence[Examination],
        **options: Any,
    ) -> Response:
        """Revise with cells in which nothing stands."""
        blank = [Examination(level=cell.level, iteration=cell.iteration) for cell in cells]
        return await self._reviser.revise(instruction, context, response, blank, **options)


class _UnseeingContext(LoopContext):
    """The live objects of a loop whose revision does not see the examination."""

    @property
    def reviser(self) -> Reviser:
        """Who makes R_{t+1} without the questions, answers and grades of iteration t."""
        return cast("Reviser", _UnseeingReviser(super().reviser))


def _unseeing(live: LoopContext) -> LoopContext:
    return _UnseeingContext(**{field.name: getattr(live, field.name) for field in fields(live)})


def _one_level(config: LoopConfig) -> Mapping[str, Any]:
    # As many questions in all: with fewer it would lose for want of budget.
    return {
        "levels": config.levels[:1],
        "max_iterations": min(1000, config.max_iterations * len(config.levels)),
    }


VARIANTS = (
    Variant("loop", "the reflective loop as configured"),
    Variant(
        "loop_one_level",
        "the loop with its first level alone, for as many more iterations",
        _one_level,
    ),
    Variant(
        "loop_no_retrieval",
        "the loop without passages for single questions",
        lambda config: {"retrieval": config.retrieval.model_copy(update={"per_question": 0})},
    ),
    Variant(
        "loop_no_reflection",
        "the loop whose revision does not see the examination",
        live=_unseeing,
    ),
    Variant(
        "loop_any_revision",
        "the loop that takes every revision, as the survey does",
        lambda config: {"revision": config.revision.model_copy(update={"accept": "always"})},
    ),
    Variant(
        "loop_no_condensing",
        "the loop that considers no short stretches of what was said",
        lambda config: {"revision": config.revision.model_copy(update={"condense": "never"})},
    ),
)
"""The loops that compete; another ablation is another line."""


class Loop:
    """A loop whose R_t are its attempts, each at what had been spent when it was written.

    The last attempt is the response that the loop returns, at the cost of the whole loop,
    the grades included that chose it.

    Args:
        variant: Which loop.
    """

    def __init__(self, variant: Variant) -> None:
        self.name = variant.name
        self.description = variant.description
        self._variant = variant

    async def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield R_0 to R_final and the one that is returned."""
        config = task.live.config
        config = config.model_copy(update={"review": (), **self._variant.changes(config)})
        live = self._variant.live(task.open_live(task.meter, config))
        written: dict[int, Attempt] = {}

        def watch(event: LoopEvent) -> None:
            if event.step in _LATER:
                return
            responses: Mapping[int, Response] = event.update.get("responses") or {}
            for t, response in responses.items():
                written[t] = task.attempt(response.text, f"R_{t}")
            if responses and not task.more:
                raise _SpentError

        error: Exception | None = None
        state = None
        try:
            state = await drive(
                build_reflective_loop(
                    config, observer=None if steps_are_told(None) else ObservedSteps
                ),
                live,
                task.question.text,
                task.question.id,
                on_event=watch,
            )
        except _SpentError:
            pass
        except (RunStopped, StorageError):
            raise
        except (UserError, BackendError, OutputError) as failed:
            error = failed
        if state is None:
            for t in sorted(written):
                yield written[t]
            if error is not None:
                raise error
            return
        trajectory = trajectory_of(
            state, config, id=task.question.id, models=task.fingerprints, metadata=None
        )
        task.record(trajectory)
        known = {passage.id for passage in task.question.context}
        found = []
        for t, response in enumerate(trajectory.responses):
            extra = [trajectory.passages[i] for i in response.answer.context if i not in known]
            known_of_it = {
                "text": response.text,
                "grade": trajectory.grades[t],
                "extra": tuple(extra),
            }
            found.append(written[t].model_copy(update=known_of_it))
            yield found[-1]
        spent = {"calls": task.meter.calls, "tokens": task.meter.tokens}
        note = f"chosen R_{trajectory.chosen}"
        yield found[trajectory.chosen].model_copy(update={**spent, "note": note})
