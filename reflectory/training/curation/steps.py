"""A step of curation: what takes rows out after they were selected, and says why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from reflectory.errors import UserError
from reflectory.models.protocol import Embedder, Model
from reflectory.training.rows import PreferenceRow, TrainingRow
from reflectory.types import Document

AnyRow = TrainingRow | PreferenceRow
R = TypeVar("R", TrainingRow, PreferenceRow)
Tool = TypeVar("Tool")


@dataclass(frozen=True)
class CurationTools:
    """What steps work with; a step that is switched on needs its own.

    Attributes:
        student: Scores completions, for instruction-following difficulty.
        embedder: Compares meanings, for near-duplicates by ``embeddings``.
        evaluation_texts: Every question and answer of the sets that the student will be
            measured on. Empty says that there is no such set, ``None`` that nobody looked.
        documents: The documents that prompts quote, for their licences.
        count_tokens: Tokens of a text, for limits in tokens.
    """

    student: Model | None = None
    embedder: Embedder | None = None
    evaluation_texts: Sequence[str] | None = None
    documents: Sequence[Document] | None = None
    count_tokens: Callable[[str], int] | None = None


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What a step did with rows; those kept and those refused are all it was given.

    Attributes:
        kept: Rows that stay, in their order.
        refused: How many do not, by reason.
        changed: How many of the kept ones have another text than before.
    """

    kept: tuple[R, ...]
    refused: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0


class CurationStep(Protocol):
    """Takes rows out.

    Contract: whether a row stays does not depend on the order of the rows, and a second time
    with what was kept, or a part of it, nothing more is refused.
    """

    @property
    def name(self) -> str:
        """What the step is called in counts and on the data card."""
        ...

    @property
    def explanation(self) -> str:
        """One or two sentences with the threshold, for the data card."""
        ...

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return which rows stay.

        Args:
            rows: Rows of one kind.
        """
        ...


def needed(tool: Tool | None, name: str, step: str) -> Tool:
    """Return a tool that a step cannot do without.

    Args:
        tool: Field of :class:`CurationTools`.
        name: What that field is called.
        step: What needs it, as the configuration calls it.

    Raises:
        UserError: It was not given.
    """
    if tool is None:
        raise UserError(
            f"the step of curation `{step}` needs `{name}`, which was not given",
            hint=f"pass CurationTools({name}=...), or switch the step off in the configuration",
        )
    return tool


async def decided(rows: Sequence[R], reason_for: Callable[[R], str]) -> Outcome[R]:
    """Decide on every row by itself, in a thread of its own.

    Args:
        rows: What to decide on.
        reason_for: Returns why a row is refused; an empty text keeps it.
    """

    def decide() -> Outcome[R]:
        reasons = [reason_for(row) for row in rows]
        return sorted_out(rows, reasons)

    return await asyncio.to_thread(decide)


def sorted_out(rows: Sequence[R], reasons: Sequence[str]) -> Outcome[R]:
    """Return the rows without a reason as kept, and the others counted by it.

    Args:
        rows: Any number.
        reasons: One per row; empty for a row that is kept.
    """
    kept = tuple(row for row, reason in zip(rows, reasons, strict=True) if not reason)
    return Outcome(kept, dict(sorted(Counter(filter(None, reasons)).items())))
