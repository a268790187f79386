"""Calls, tokens, operations, cost and time of a run, predicted from its configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field

from reflectory.agents.prompts import PromptSet
from reflectory.config import LoopConfig
from reflectory.models.prices import Price
from reflectory.models.protocol import Usage
from reflectory.planning.calls import GraderKind, LoopCalls, count_calls
from reflectory.planning.probe import Probe
from reflectory.types import Record, Shown

Case = Literal["least", "usual", "most"]
CASES: tuple[Case, ...] = ("least", "usual", "most")
TEACHER_ROLES = frozenset({"teacher.ask", "teacher.grade", "teacher.relevance"})

_MESSAGE_TOKENS = 32
"""What a chat template and the numbers around texts add to a prompt, roughly."""
_REASON_TOKENS = 80
"""Of the reason that a grader by likelihoods gives: half a sentence, and one quoted."""
_STRETCH_TOKENS = 10
_NOTE_TOKENS = 20
_UNSUPPORTED_TOKENS = 130
"""Of the statements that nothing supports, as the teacher reads them below an answer."""


class Need(Record):
    """What the calls of one role take together.

    Attributes:
        calls: How many.
        prompt_tokens: Tokens that are read.
        completion_tokens: Tokens that are written.
    """

    calls: float = 0
    prompt_tokens: float = 0
    completion_tokens: float = 0

    @property
    def tokens(self) -> float:
        """Read and written together."""
        return self.prompt_tokens + self.completion_tokens

    def times(self, count: float) -> Need:
        """Return what so many loops take."""
        return Need(
            calls=self.calls * count,
            prompt_tokens=self.prompt_tokens * count,
            completion_tokens=self.completion_tokens * count,
        )


class Forecast(Record):
    """What a run takes if all its loops are alike.

    Attributes:
        iterations: Of each loop.
        roles: What each role takes in all loops together.
        flops: Operations of inference, 2 N per token; ``None`` where N is not known.
        cost: US dollars; ``None`` where a price is not known.
        seconds: Wall-clock time; ``None`` without a probe.
    """

    iterations: int
    roles: dict[str, Need]
    flops: float | None = None
    cost: float | None = None
    seconds: float | None = None

    @property
    def total(self) -> Need:
        """All roles together."""
        needs = self.roles.values()
        return Need(
            calls=sum(need.calls for need in needs),
            prompt_tokens=sum(need.prompt_tokens for need in needs),
            completion_tokens=sum(need.completion_tokens for need in needs),
        )


class RunPlan(Shown, Record):
    """The prediction of a run.

    Attributes:
        instructions: Number of loops.
        grader: How answers are graded.
        concurrency: Loops at the same time.
        teacher: What the teacher is called.
        student: What the student is called.
        cases: ``least``: loops stop as early as a rule can; ``usual``: they go on to T and
            every first try is good; ``most``: with every retry, a bound on calls. Tokens are
            those of full contexts and of texts as long as they may get, or where the run was
            probed, of what was seen.
        probe: What a short loop took, if one was made.
    """

    instructions: int = Field(ge=1)
    grader: GraderKind
    concurrency: int
    teacher: str
    student: str
    cases: dict[Case, Forecast]
    probe: Probe | None = None


def plan_run(
    config: LoopConfig,
    *,
    instructions: int,
    concurrency: int,
    grader: GraderKind,
    scores: bool | None = None,
    teacher: str = "local",
    student: str = "local",
    prices: Mapping[str, Price | None] | None = None,
    parameters: Mapping[str, int | None] | None = None,
    instruction_tokens: int = 40,
    count_tokens: Callable[[str], int] | None = None,
    probe: Probe | None = None,
) -> RunPlan:
    """Predict a run; no model is asked.

    Args:
        config: The loop.
        instructions: How many there are.
        concurrency: Loops at the same time.
        grader: How answers are graded.
        scores: Whether the teacher shows likelihoods; by default what the grader implies.
        teacher: What the teacher is called.
        student: What the student is called.
        prices: Price of ``teacher`` and ``student``; unknown when not in it.
        parameters: N of ``teacher`` and ``student``; unknown when not in it.
        instruction_tokens: Tokens of a long instruction.
        count_tokens: Counts the tokens of a text; a quarter of its characters by default.
        probe: What a short loop took.
    """
    count = count_tokens or _quarter

    def forecast(case: Case) -> Forecast:
        calls = count_calls(config, grader, scores=scores, case=case)
        needs = _needs(config, grader, calls, count, instruction_tokens)
        if probe is not None:
            small = count_calls(probe_config(config), grader, scores=scores, case="usual")
            expected = _needs(probe_config(config), grader, small, count, instruction_tokens)
            needs = {role: _scaled(need, role, expected, probe) for role, need in needs.items()}
        whole = {role: need.times(instructions) for role, need in needs.items()}
        flops = flops_of(whole, parameters or {})
        return Forecast(
            iterations=calls.iterations,
            roles=whole,
            flops=flops,
            cost=_cost(whole, prices or {}),
            seconds=_seconds(calls, flops, instructions, concurrency, probe),
        )

    return RunPlan(
        instructions=instructions,
        grader=grader,
        concurrency=concurrency,
        teacher=teacher,
        student=student,
        cases={case: forecast(case) for case in CASES},
        probe=probe,
    )


def probe_config(config: LoopConfig) -> LoopConfig:
    """Return the loop that a probe makes: one level, one iteration, else the same."""
    return config.model_copy(update={"levels": config.levels[:1], "max_iterations": 1})


def flops_of(needs: Mapping[str, Need], parameters: Mapping[str, int | None]) -> float | None:
    """Return the operations of inference: 2 N for each token that is read or written.

    Args:
        needs: By role.
        parameters: N of ``teacher`` and ``student``.

    Returns:
        ``None`` where N of a model that is asked is not known.
    """
    total = 0.0
    for role, need in needs.items():
        size = parameters.get(_part(role))
        if need.calls and size is None:
            return None
        total += 2.0 * (size or 0) * need.tokens
    return total


def _needs(
    config: LoopConfig,
    grader: GraderKind,
    calls: LoopCalls,
    count: Callable[[str], int],
    instruction: int,
) -> dict[str, Need]:
    """Return what each role takes in one loop, with prompts as long as they may get."""
    sampling, levels = config.sampling, len(config.levels)
    prompts = {name: count(text) for name, text in PromptSet.for_loop(config).texts.items()}
    question, answer = sampling.question_tokens, sampling.answer_tokens
    response = sampling.response_tokens
    read = prompts["system"] + config.retrieval.context_tokens + _MESSAGE_TOKENS
    asked = max(question, instruction)
    longest = max(answer, response)
    unsupported = prompts["teacher.unsupported"] + min(longest, _UNSUPPORTED_TOKENS)
    description = max(count(level.name + level.description) for level in config.levels)
    rubric = max(count(level.rubric) for level in config.levels) + _NOTE_TOKENS
    reason = sampling.grade_tokens if grader == "spoken" else _REASON_TOKENS
    note = question + answer + reason + _NOTE_TOKENS
    if grader == "likelihood":
        options = 1 + calls.reflect // calls.iterations
        together = options * response + config.revision.condensed * _STRETCH_TOKENS
        alone = levels * calls.iterations + 1
        said = (alone * longest + calls.iterations * together) / (alone + calls.iterations)
        grade = read + prompts["student.answer"] + asked + said
    else:
        grade = read + prompts["teacher.grade"] + asked + longest + unsupported + rubric
    per_call = {
        "student.respond": (read + prompts["student.answer"] + instruction, response),
        "teacher.ask": (
            read + prompts["teacher.ask"] + instruction + response + unsupported + description,
            question,
        ),
        "student.answer": (read + prompts["student.answer"] + question, answer),
        "teacher.grade": (grade, sampling.grade_tokens if grader == "spoken" else 0),
        # One of the passages, as long as they are on average.
        "teacher.relevance": (
            prompts["system"]
            + config.retrieval.context_tokens // config.retrieval.passages
            + _MESSAGE_TOKENS
            + prompts["teacher.relevance"]
            + instruction,
            0,
        ),
        "student.reflect": (
            read + prompts["student.reflect"] + instruction + response + levels * note,
            response,
        ),
    }
    return {
        role: Need(calls=n, prompt_tokens=n * per_call[role][0], completion_tokens=n * written)
        for role, n in calls.by_role.items()
        for written in (per_call[role][1],)
    }


def _scaled(need: Need, role: str, expected: Mapping[str, Need], probe: Probe) -> Need:
    """Return a need with lengths as the probe saw them, next to what was expected of it."""
    seen, planned = probe.roles.get(role), expected[role]
    if seen is None or not planned.calls:
        return need

    def factor(found: float, thought: float) -> float:
        return found / (thought / planned.calls) if thought else 1.0

    return Need(
        calls=need.calls,
        prompt_tokens=need.prompt_tokens * factor(seen.prompt_tokens, planned.prompt_tokens),
        completion_tokens=need.completion_tokens
        * factor(seen.completion_tokens, planned.completion_tokens),
    )


def _cost(needs: Mapping[str, Need], prices: Mapping[str, Price | None]) -> float | None:
    total = 0.0
    for role, need in needs.items():
        if not need.calls:
            continue
        price = prices.get(_part(role))
        if price is None:
            return None
        read, written = math.ceil(need.prompt_tokens), math.ceil(need.completion_tokens)
        total += price.of(Usage(prompt_tokens=read, completion_tokens=written))
    return total


def _seconds(
    calls: LoopCalls,
    flops: float | None,
    instructions: int,
    concurrency: int,
    probe: Probe | None,
) -> float | None:
    """Return the time of a run: by operations where models run here, else by waiting."""
    if probe is None:
        return None
    if flops is not None and probe.flops:
        return flops * probe.seconds / probe.flops
    # Levels run at the same time, and so do loops; what follows another call waits for it.
    seconds = {role: seen.seconds for role, seen in probe.roles.items()}
    levels = max(1, calls.answer // calls.iterations)
    path = seconds.get("student.respond", 0.0)
    for role, count in (("teacher.ask", calls.ask), ("student.answer", calls.answer)):
        path += seconds.get(role, 0.0) * count / levels
    path += seconds.get("teacher.grade", 0.0) * (2 * calls.iterations + 1)
    path += seconds.get("student.reflect", 0.0) * calls.iterations
    return path * instructions / min(concurrency, instructions)


def _part(role: str) -> str:
    return "teacher" if role in TEACHER_ROLES else "student"


def _quarter(text: str) -> int:
    return math.ceil(len(text) / 4)
