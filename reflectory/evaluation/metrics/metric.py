"""What a metric of single answers is, and the answers that it is computed over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from reflectory.agents.verification.protocol import Verifier
from reflectory.evaluation.metrics.instructions import Followed, Instruction, follow
from reflectory.models.protocol import Embedder
from reflectory.types import Passage


@dataclass(frozen=True)
class Batch:
    """Answers that are there, with all that a metric may look at; one entry per answer.

    Attributes:
        texts: The answers.
        references: Right answers of each question, of which any counts.
        contexts: The passages that each was answered from.
        questions: What was asked.
        embedder: Makes vectors, where one was given.
        verifier: Finds evidence, where one was given.
        constraints: What can be verified of each answer by rules; empty where nothing is.
    """

    texts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    contexts: tuple[tuple[Passage, ...], ...]
    questions: tuple[str, ...]
    embedder: Embedder | None = None
    verifier: Verifier | None = None
    constraints: tuple[tuple[Instruction, ...], ...] = ()

    @cached_property
    def followed(self) -> tuple[Followed, ...]:
        """Which of its constraints each answer follows, looked at once for all metrics."""
        return tuple(map(follow, self.texts, self.constraints))

    def only(self, rows: Sequence[int]) -> Batch:
        """Return the batch of some of these answers.

        Args:
            rows: Their places, in order.
        """
        if len(rows) == len(self.texts):
            return self
        return replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            references=tuple(self.references[row] for row in rows),
            contexts=tuple(self.contexts[row] for row in rows),
            questions=tuple(self.questions[row] for row in rows),
            constraints=tuple(self.constraints[row] for row in rows),
        )


Measure = Callable[[Batch], Awaitable[Sequence[float | None]]]
"""One number per answer of a batch; ``None`` where the metric is not defined."""


@dataclass(frozen=True)
class Metric:
    """A metric of single answers.

    Attributes:
        name: What a configuration calls it.
        description: One phrase for tables and for errors.
        measure: Computes it.
        needs_references: Whether it compares with right answers.
        needs_constraints: Whether it verifies constraints by rules.
        needs_embedder: Whether it compares vectors.
        needs_verifier: Whether it looks for evidence.
    """

    name: str
    description: str
    measure: Measure
    needs_references: bool = True
    needs_constraints: bool = False
    needs_embedder: bool = False
    needs_verifier: bool = False

    def defined(self, references: Sequence[str], constraints: Sequence[Instruction]) -> bool:
        """Return whether it says anything of an answer to a question that has these.

        Args:
            references: Right answers of the question.
            constraints: What can be verified of an answer to it.
        """
        return bool(references or not self.needs_references) and bool(
            constraints or not self.needs_constraints
        )
