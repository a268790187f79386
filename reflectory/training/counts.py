"""Counting what becomes of candidates, so that no row disappears without a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pydantic import Field

from reflectory.evaluation.metrics import normalise_answer
from reflectory.training.rows import PreferenceRow, TrainingRow
from reflectory.types import Record


class Tally(Record):
    """What became of the candidates of one kind.

    Attributes:
        seen: How many there were.
        accepted: How many became rows.
        refused: How many did not, by reason; with ``accepted`` they sum to ``seen``.
    """

    seen: int = 0
    accepted: int = 0
    refused: dict[str, int] = Field(default_factory=dict)


class StepCounts(Record):
    """What one step after the selection did.

    Attributes:
        name: Of the step.
        explanation: What it does and with which threshold, for the data card.
        rows: Rows for supervised training.
        pairs: Preference pairs.
        changed: How many of both stayed with another text, as personal data was masked.
    """

    name: str
    explanation: str
    rows: Tally = Tally()
    pairs: Tally = Tally()
    changed: int = 0


class CurationCounts(Record):
    """Everything that was looked at, for the data card.

    Attributes:
        trajectories: A trajectory is accepted when it gave at least one row or pair.
        responses: All R_t; only one of a trajectory can be accepted: the best by G, or
            what was chosen in its place among the candidates.
        answers: All cells R[j,t], of every level and iteration.
        pairs: One per trajectory: its best response over R_0.
        draft_pairs: All drafts that a response was chosen over; one is accepted when the
            response over it became a preference pair.
        candidates: All sets of candidates; a set is accepted when its chosen one became
            a row. Those rows are among the responses and answers above, too.
        candidate_pairs: All candidates that were not chosen; one is accepted when the
            chosen one over it became a preference pair.
        steps: What the steps after the selection did, in their order; each sees what
            the one before it left.
    """

    trajectories: Tally = Tally()
    responses: Tally = Tally()
    answers: Tally = Tally()
    pairs: Tally = Tally()
    draft_pairs: Tally = Tally()
    candidates: Tally = Tally()
    candidate_pairs: Tally = Tally()
    steps: tuple[StepCounts, ...] = ()

    @property
    def kinds(self) -> dict[str, Tally]:
        """The tallies of the selection by name, without those of choices where there were none."""
        named = {name: getattr(self, name) for name in KINDS}
        return {name: t for name, t in named.items() if t.seen or name not in OF_CANDIDATES}


KINDS = (
    "trajectories",
    "responses",
    "answers",
    "pairs",
    "draft_pairs",
    "candidates",
    "candidate_pairs",
)
"""The kinds of candidates that the selection counts."""

OF_CANDIDATES = frozenset({"draft_pairs", "candidates", "candidate_pairs"})
"""Kinds that there are only where one answer was chosen among several, in a loop or after it."""


@dataclass
class Tallies:
    """Counts outcomes and remembers what was accepted, to find repetitions."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    known: set[tuple[str, ...]] = field(default_factory=set)

    def settle(
        self,
        kind: str,
        made: TrainingRow | PreferenceRow | str,
        question: str,
        accepted: list[TrainingRow] | list[PreferenceRow],
    ) -> str:
        """Count a row or a reason; append the row unless it is a repetition.

        Args:
            kind: What it would be a row of.
            made: The row, or why there is none.
            question: What it is about, to find repetitions.
            accepted: Rows so far; the new one is appended.

        Returns:
            Why it was refused; an empty text when the row was appended.
        """
        if isinstance(made, str):
            self.count(kind, made)
            return made
        replies = (
            [made.completion] if isinstance(made, TrainingRow) else [made.chosen, made.rejected]
        )
        texts = [question, *(reply[0].content for reply in replies)]
        key = (made.kind, *(normalise_answer(text) for text in texts))
        if key in self.known:
            self.count(kind, "repeated")
            return "repeated"
        self.known.add(key)
        self.count(kind, "")
        accepted.append(made)  # type: ignore[arg-type]  # each kind comes with its own list
        return ""

    def count(self, kind: str, reason: str, number: int = 1) -> None:
        """Count candidates; no reason means accepted.

        Args:
            kind: What they would be rows of.
            reason: Why they were refused; empty for accepted.
            number: How many.
        """
        if number:
            self.outcomes[kind, reason] += number

    def counts(self) -> CurationCounts:
        """Return everything that was counted so far."""

        def tally(kind: str) -> Tally:
            mine = {r: n for (k, r), n in sorted(self.outcomes.items()) if k == kind}
            accepted = mine.pop("", 0)
            return Tally(seen=accepted + sum(mine.values()), accepted=accepted, refused=mine)

        return CurationCounts(**{kind: tally(kind) for kind in KINDS})
