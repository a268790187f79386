"""The plan of a training as a record, and the facts that it is made from.

Nothing heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reflectory.errors import UserError
from reflectory.types import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflectory.training.sharing import SharedRows
    from reflectory.training.tokens import TokenisedPairs, TokenisedRows

_REFUSED_ABOVE = 1.25
"""A plan is refused when it needs so many times the memory there is: estimates err."""


@dataclass(frozen=True)
class ModelFacts:
    """What of a model decides the plan.

    Attributes:
        parameters: All of base and adapter.
        trained: Those of them that are trained.
        layers: Number of layers.
        width: Hidden size.
        vocabulary: Number of tokens that the output layer knows.
        embeddings: Parameters of input and output embeddings together.
        weight_bytes: Memory of one base weight.
        checkpointing: Whether its activations can be computed again at all.
    """

    parameters: int
    trained: int
    layers: int
    width: int
    vocabulary: int
    embeddings: int
    weight_bytes: float
    checkpointing: bool = True


@dataclass(frozen=True)
class RowFacts:
    """What of a set of rows or pairs decides the plan.

    Attributes:
        count: How many there are.
        tokens: All their tokens, read once.
        targets: Those of them that are learnt.
        longest: Tokens of the longest one.
        most_targets: Most learnt tokens of one.
        per_step: How many of them an optimiser step holds; ``None`` for the batch size.
        rows: Rows in all of them; ``None`` where each is one.
    """

    count: int
    tokens: int
    targets: int
    longest: int
    most_targets: int
    per_step: int | None = None
    rows: int | None = None

    @classmethod
    def of(cls, rows: TokenisedRows) -> RowFacts:
        """Return the facts of tokenised rows."""
        each = [row.learnt_tokens for row in rows.rows]
        return cls(len(each), rows.tokens, sum(each), rows.longest, max(each, default=0))

    @classmethod
    def of_shared(cls, packs: Sequence[SharedRows], batch_size: int) -> RowFacts:
        """Return the facts of rows that are read together, as many a step as a batch holds.

        Args:
            packs: Rows that are read as one sequence.
            batch_size: Rows a step learns from, on average.
        """
        rows = sum(pack.rows for pack in packs)
        lengths = [len(pack.input_ids) for pack in packs]
        targets = [len(pack.targets) for pack in packs]
        per_step = max(1, round(batch_size * len(packs) / rows))
        return cls(
            len(packs), sum(lengths), sum(targets), max(lengths), max(targets), per_step, rows
        )

    @classmethod
    def of_pairs(cls, pairs: TokenisedPairs, *, shared: bool) -> RowFacts:
        """Return the facts of tokenised pairs, their prompts read once (shared) or twice.

        Args:
            pairs: Prompts and both completions.
            shared: Whether a prompt is read once for both completions.
        """
        each = [pair.learnt_tokens for pair in pairs.rows]
        tokens = pairs.tokens + (0 if shared else pairs.prompt_tokens)
        longest = pairs.longest if shared else pairs.longest_apart
        return cls(len(each), tokens, sum(each), longest, max(each, default=0))


class Memory(Record):
    """Bytes by what they hold, at the peak of a step.

    Attributes:
        weights: The base.
        teacher: Another model whose distributions are learnt.
        adapter: What is trained, in float32, and once more where the best is remembered.
        gradients: Of what is trained.
        optimiser: The two moments of AdamW.
        activations: Of the longest micro-batch.
        logits: Of its learnt positions over the vocabulary.
    """

    weights: int = 0
    teacher: int = 0
    adapter: int = 0
    gradients: int = 0
    optimiser: int = 0
    activations: int = 0
    logits: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, name) for name in type(self).model_fields)


class StagePlan(Record):
    """The plan of one objective.

    Attributes:
        objective: ``sft`` or ``dpo``.
        rows: Rows or pairs.
        steps: Optimiser steps.
        micro_batch: Rows of one forward pass of one process; 1 where rows are read together.
        accumulation: Forward passes of one process for an optimiser step.
        shared: Whether what several rows begin with is read once.
        checkpointing: Whether activations are computed again.
        tokens: Tokens that pass through the network, D.
        flops: Floating point operations that this training takes.
        flops_6nd: The usual estimate 6 N D, of training every parameter.
        memory: Peak by parts.
    """

    objective: Literal["sft", "dpo"]
    rows: int
    steps: int
    micro_batch: int
    accumulation: int = 1
    shared: bool = False
    checkpointing: bool
    tokens: int
    flops: float
    flops_6nd: float
    memory: Memory


class TrainingPlan(Record):
    """What a training takes.

    Attributes:
        stages: One plan per objective.
        processes: How many processes share the work.
        speed: Operations per second of one process that the seconds rest on; ``None`` when
            nobody stated or probed it.
        available: Free bytes of the device; ``None`` when that is not known.
    """

    stages: tuple[StagePlan, ...]
    processes: int = 1
    speed: float | None = None
    available: int | None = None

    @property
    def steps(self) -> int:
        """Optimiser steps of all objectives."""
        return sum(stage.steps for stage in self.stages)

    @property
    def tokens(self) -> int:
        """Tokens of all objectives."""
        return sum(stage.tokens for stage in self.stages)

    @property
    def flops(self) -> float:
        """Operations of all objectives."""
        return sum(stage.flops for stage in self.stages)

    @property
    def flops_6nd(self) -> float:
        """6 N D over all objectives."""
        return sum(stage.flops_6nd for stage in self.stages)

    @property
    def memory(self) -> Memory:
        """The parts of the objective that needs most."""
        return max((s.memory for s in self.stages), key=lambda m: m.total, default=Memory())

    @property
    def seconds(self) -> float | None:
        """Estimated time of the steps."""
        return None if not self.speed else self.flops / (self.speed * self.processes)

    def refuse_if_too_large(self) -> None:
        """Stop before anything is loaded when the memory is clearly not there.

        Raises:
            UserError: Naming the largest part and what makes it smaller.
        """
        memory = self.memory
        if self.available is None or memory.total <= _REFUSED_ABOVE * self.available:
            return
        largest = max(type(memory).model_fields, key=lambda name: getattr(memory, name))
        remedies = {
            "weights": "take a smaller base, training.method qlora, or dtype bfloat16",
            "teacher": "take a smaller teacher, or set training.kl_weight to 0",
            "activations": "lower training.micro_batch or training.max_length, or set "
            "training.activation_checkpointing to on",
            "logits": "lower training.micro_batch",
        }
        raise UserError(
            f"training would need about {_gib(memory.total)} and {_gib(self.available)} are free; "
            f"most of it for {largest} ({_gib(getattr(memory, largest))})",
            hint=remedies.get(largest, "lower training.rank"),
        )


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
