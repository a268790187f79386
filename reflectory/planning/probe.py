"""A short probe: one loop of one level and one iteration, on the real models and documents."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reflectory.models.protocol import Completion, Model, Request, ScoreRequest, Scores, Usage
from reflectory.models.wrapping import WrappedModel
from reflectory.types import Record

if TYPE_CHECKING:
    from reflectory.assembly import Parts


class RoleProbe(Record):
    """What the calls of one role took, each on average.

    Attributes:
        calls: How many there were.
        prompt_tokens: Tokens read.
        reused_tokens: Those of them that came from a prefix cache.
        completion_tokens: Tokens written.
        seconds: From asking to the whole answer.
    """

    calls: int
    prompt_tokens: float
    reused_tokens: float
    completion_tokens: float
    seconds: float


class Probe(Record):
    """What a probe took.

    Attributes:
        roles: By role.
        seconds: Of the loop as a whole.
        flops: Operations, 2 N per token; ``None`` where N is not known.
    """

    roles: dict[str, RoleProbe]
    seconds: float
    flops: float | None = None

    @property
    def calls(self) -> int:
        """Calls that the probe made."""
        return sum(role.calls for role in self.roles.values())


class _Timed(WrappedModel):
    """Notes what calls of a model take."""

    def __init__(self, model: Model, notes: dict[str, list[tuple[Usage, float]]]) -> None:
        super().__init__(model)
        self._notes = notes

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``."""
        began = time.perf_counter()
        answer = await self.inner.complete(request)
        self._notes[request.role].append((answer.usage, time.perf_counter() - began))
        return answer

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihoods of ``request``."""
        began = time.perf_counter()
        scores = await self.inner.score(request)
        self._notes[request.role].append((scores.usage, time.perf_counter() - began))
        return scores


async def probe_run(parts: Parts, instruction: str) -> Probe:
    """Make one loop of the first level and one iteration, and note what it takes.

    Args:
        parts: Live models and documents of the run.
        instruction: One of its instructions.

    Raises:
        ReflectoryError: What the loop itself raises.
    """
    from reflectory.driver import drive
    from reflectory.graphs.reflective_loop import build_reflective_loop
    from reflectory.planning.forecast import Need, flops_of, probe_config

    await parts.retriever.prepare()
    notes: dict[str, list[tuple[Usage, float]]] = defaultdict(list)
    config = probe_config(parts.config).model_copy(update={"review": ()})
    small = replace(parts, config=config)
    live = small.context(lambda model: _Timed(model, notes))
    graph = build_reflective_loop(config)
    began = time.perf_counter()
    await drive(graph, live, instruction, "probe")
    seconds = time.perf_counter() - began
    roles = {role: _mean(found) for role, found in sorted(notes.items())}
    needs = {
        role: Need(
            calls=seen.calls,
            prompt_tokens=seen.calls * seen.prompt_tokens,
            completion_tokens=seen.calls * seen.completion_tokens,
        )
        for role, seen in roles.items()
    }
    return Probe(roles=roles, seconds=seconds, flops=flops_of(needs, sizes_of(parts)))


def sizes_of(parts: Parts) -> Mapping[str, int | None]:
    """Return N of teacher and student, where they run in this process."""
    found = {"teacher": parts.teacher, "student": parts.student}
    return {part: getattr(model, "parameters", None) for part, model in found.items()}


def _mean(found: list[tuple[Usage, float]]) -> RoleProbe:
    count = len(found)
    return RoleProbe(
        calls=count,
        prompt_tokens=sum(usage.prompt_tokens for usage, _ in found) / count,
        reused_tokens=sum(usage.reused_tokens for usage, _ in found) / count,
        completion_tokens=sum(usage.completion_tokens for usage, _ in found) / count,
        seconds=sum(seconds for _, seconds in found) / count,
    )
