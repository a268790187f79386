"""From a configuration to its plan: with the live parts of a run, or with names alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reflectory.config import RunConfig
from reflectory.models.prices import PriceList
from reflectory.models.protocol import Capability
from reflectory.planning.calls import grader_kind
from reflectory.planning.forecast import RunPlan, plan_run
from reflectory.planning.probe import Probe, sizes_of

if TYPE_CHECKING:
    from reflectory.assembly import Parts, Sources

_SHOWS_LIKELIHOODS = frozenset({"local", "vllm"})


def plan_of_names(settings: RunConfig, *, instructions: int, instruction_tokens: int) -> RunPlan:
    """Predict a run from its configuration; nothing is loaded and nobody is asked.

    Args:
        settings: The configuration.
        instructions: How many there are.
        instruction_tokens: Tokens of the longest one.

    Raises:
        UserError: The file with prices cannot be read.
    """
    prices = PriceList.load(settings.budget.prices)
    scores = settings.teacher.partition(":")[0] in _SHOWS_LIKELIHOODS
    return plan_run(
        settings.loop,
        instructions=instructions,
        concurrency=settings.concurrency,
        grader=grader_kind(settings.loop, teacher_scores=scores),
        scores=_cheap(settings, scores),
        teacher=settings.teacher,
        student=settings.student,
        prices={
            "teacher": prices.named(settings.teacher),
            "student": prices.named(settings.student),
        },
        instruction_tokens=instruction_tokens,
    )


def plan_of_parts(
    settings: RunConfig,
    parts: Parts,
    sources: Sources,
    *,
    instructions: int,
    instruction_tokens: int = 40,
    probe: Probe | None = None,
) -> RunPlan:
    """Predict a run whose models are loaded; nobody is asked.

    Args:
        settings: The configuration.
        parts: The live objects.
        sources: What the user named or handed over.
        instructions: How many there are.
        instruction_tokens: Tokens of a long one.
        probe: What a short loop took.

    Raises:
        UserError: The file with prices cannot be read.
    """
    prices = PriceList.load(settings.budget.prices)
    prices.know(parts.teacher, sources.teacher)
    prices.know(parts.student, sources.student)
    scores = Capability.SCORE in parts.teacher.capabilities
    return plan_run(
        settings.loop,
        instructions=instructions,
        concurrency=settings.concurrency,
        grader=grader_kind(settings.loop, teacher_scores=scores, own=sources.grader is not None),
        scores=_cheap(settings, scores),
        teacher=_name(sources.teacher, parts.teacher.fingerprint),
        student=_name(sources.student, parts.student.fingerprint),
        prices={
            "teacher": prices.of(parts.teacher.fingerprint),
            "student": prices.of(parts.student.fingerprint),
        },
        parameters=sizes_of(parts),
        instruction_tokens=instruction_tokens,
        count_tokens=_counter(parts),
        probe=probe,
    )


def _cheap(settings: RunConfig, scores: bool) -> bool:
    """Return whether revisions take the teacher's grades for cheap ones, as the loop does."""
    return scores and settings.loop.grader != "spoken"


def _counter(parts: Parts) -> Callable[[str], int]:
    """Return the larger of both counts: which model reads a text depends on the role."""
    teacher, student = parts.teacher.count_tokens, parts.student.count_tokens
    return lambda text: max(teacher(text), student(text))


def _name(named: Any, fingerprint: str) -> str:
    return named if isinstance(named, str) else fingerprint
