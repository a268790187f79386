"""What a training takes before it starts: steps, operations, seconds and memory.

Nothing heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from reflectory.config import TrainingConfig
from reflectory.errors import UserError
from reflectory.training.plan import Memory, ModelFacts, RowFacts, StagePlan, TrainingPlan

ACTIVATION_BYTES = 90
"""Memory of activations per token, layer and unit of width in bfloat16.

Measured on SmolLM2-135M with adapters on all linear layers: 1.5 MB per token
for 30 layers of 576. Twice as much in float32.
"""

ACTIVATION_BUDGET = 3 * 2**30
"""On a processor, more bytes of activations than this are computed again instead of kept.

That costs a third of the speed, so it is only done where keeping them would cost
memory that a small machine does not have. On a GPU the free memory decides.
"""

_GPU_SHARE = 0.7
"""Share of a GPU's free memory that the plan fills; the rest is for fragmentation."""

_BUSY_TOKENS = 1024
"""A GPU that computes so many tokens at once gains little by more."""

_LOGIT_COPIES = 3
"""The logits, their softmax and its gradient, each in float32."""


def plan_training(
    rows: RowFacts | None,
    pairs: RowFacts | None,
    facts: ModelFacts,
    config: TrainingConfig,
    device: str,
    *,
    available: int | None = None,
    processes: int = 1,
    speed: float | None = None,
    teacher: ModelFacts | None = None,
    number_bytes: int = 2,
) -> TrainingPlan:
    """Plan a training; nothing is loaded or run.

    Training a LoRA adapter takes about 4 N D operations, N being the parameters and D the
    tokens: 2 N D forwards and 2 N D for the gradients of the activations. The other
    2 N D of the usual 6 N D are the gradients of the weights, which are frozen. Computing
    activations again adds 2 N D. The input embedding is looked up and not multiplied, and
    the output layer is only computed where a token is learnt.

    Args:
        rows: Of supervised training.
        pairs: Of preference training.
        facts: Of the model.
        config: Hyperparameters.
        device: Kind of device.
        available: Free bytes there.
        processes: How many share the work.
        speed: Operations per second of one of them.
        teacher: Of another model whose distributions are learnt.
        number_bytes: Size of one activation: 4 in float32, else 2.

    Raises:
        UserError: The batch cannot be shared by so many processes.
    """
    if config.batch_size % processes:
        raise UserError(
            f"training.batch_size {config.batch_size} cannot be shared by {processes} processes",
            hint="choose a multiple of the number of processes",
        )
    local = config.batch_size // processes
    if config.micro_batch is not None and local % config.micro_batch:
        raise UserError(
            f"training.micro_batch {config.micro_batch} does not divide the {local} rows that "
            "each process has of a step",
            hint="choose a divisor of training.batch_size over the number of processes",
        )
    stages = []
    for objective in config.objectives:
        given = rows if objective == "sft" else pairs
        if given is None:
            continue

        def memory(
            size: int, again: bool, given: RowFacts = given, objective: str = objective
        ) -> Memory:
            other = teacher if objective == "sft" else None
            return _memory(given, facts, config, size, again, number_bytes, other)

        together = given.per_step is not None
        sizes = [1] if together else _sizes(config, device, local)
        size, again = _fit(memory, facts, config, device, available, sizes, given.longest)
        per_step = config.batch_size if given.per_step is None else given.per_step
        steps, seen = _steps(given.count, per_step, config, objective)
        flops = _flops(given, facts, seen, again, objective, teacher, config.kl_weight)
        tokens = round(given.tokens * seen / max(given.count, 1))
        stages.append(
            StagePlan(
                objective=objective,
                rows=given.count if given.rows is None else given.rows,
                steps=steps,
                micro_batch=size,
                accumulation=per_step // (size * processes) if not together else per_step,
                shared=together,
                checkpointing=again,
                tokens=tokens,
                flops=flops,
                flops_6nd=6.0 * facts.parameters * tokens,
                memory=memory(size, again),
            )
        )
    return TrainingPlan(stages=tuple(stages), processes=processes, speed=speed, available=available)


def _steps(count: int, per_step: int, config: TrainingConfig, objective: str) -> tuple[int, int]:
    """Return optimiser steps, and how many rows (or groups of them) pass in them."""
    epochs = config.epochs if objective == "sft" else config.preference_epochs
    each = math.ceil(count / per_step)
    steps = config.max_steps if config.max_steps is not None else math.ceil(epochs * each)
    whole, rest = divmod(steps, max(each, 1))
    return steps, whole * count + min(rest * per_step, count)


def _flops(
    rows: RowFacts,
    facts: ModelFacts,
    seen: int,
    again: bool,
    objective: str,
    teacher: ModelFacts | None,
    weight: float,
) -> float:
    passes = seen / max(rows.count, 1)
    tokens, targets = rows.tokens * passes, rows.targets * passes
    mean = rows.tokens / max(rows.count, 1)

    def forward(model: ModelFacts) -> float:
        body = model.parameters - model.embeddings
        # A token looks at half of its row on average: 2 products of 2 operations each.
        attention = 2.0 * model.layers * model.width * mean
        head = 2.0 * model.vocabulary * model.width
        return tokens * (2.0 * body + attention) + targets * head

    total = (2.0 + again) * forward(facts) + 2.0 * facts.trained * tokens
    if objective == "dpo":
        total += forward(facts) / max(passes, 1e-9)  # the reference, once for every pair
    elif weight:
        total += forward(teacher or facts)  # without another one, the student's own base
    return total


def _memory(
    rows: RowFacts,
    facts: ModelFacts,
    config: TrainingConfig,
    size: int,
    again: bool,
    number_bytes: int,
    teacher: ModelFacts | None,
) -> Memory:
    per_layer = size * rows.longest * facts.width * number_bytes
    kept = per_layer * ACTIVATION_BYTES // 2
    activations = facts.layers * per_layer + kept if again else facts.layers * kept
    copies = _LOGIT_COPIES + (2 if config.kl_weight else 0)
    base = facts.parameters - facts.trained
    return Memory(
        weights=int(base * facts.weight_bytes),
        teacher=0 if teacher is None else int(teacher.parameters * teacher.weight_bytes),
        adapter=4 * facts.trained * (2 if config.validation_share else 1),
        gradients=4 * facts.trained,
        optimiser=8 * facts.trained,
        activations=activations,
        logits=4 * copies * size * rows.most_targets * facts.vocabulary,
    )


def _sizes(config: TrainingConfig, device: str, local: int) -> list[int]:
    """Return how many rows a forward pass may have.

    A processor is busy with one row, and one row has no padding; the gradient is the
    same. A GPU wants as much of the batch as its memory takes.
    """
    if config.micro_batch is not None:
        return [config.micro_batch]
    if device == "cpu":
        return [1]
    return [n for n in range(local, 0, -1) if local % n == 0]


def _fit(
    memory: Callable[[int, bool], Memory],
    facts: ModelFacts,
    config: TrainingConfig,
    device: str,
    available: int | None,
    sizes: list[int],
    longest: int,
) -> tuple[int, bool]:
    """Return the rows of a forward pass, and whether to compute activations again."""
    choice = {"on": (True,), "off": (False,), "auto": (False, True)}
    again = choice[config.activation_checkpointing] if facts.checkpointing else (False,)

    def fits(size: int, recompute: bool) -> bool:
        need = memory(size, recompute)
        if device == "cpu" or available is None:
            return need.activations <= ACTIVATION_BUDGET
        return need.total <= _GPU_SHARE * available

    options: list[tuple[int, bool]] = []
    if again[0] is False:
        # Computing again costs a third of the speed, smaller passes nothing as long as they
        # keep a GPU busy.
        busy = [size for size in sizes if size * longest >= _BUSY_TOKENS]
        options += [(size, False) for size in busy or sizes[:1]]
    options += [(size, recompute) for size in sizes for recompute in again]
    return next((option for option in options if fits(*option)), options[-1])
