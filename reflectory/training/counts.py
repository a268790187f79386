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


class CurationCounts(Record):
    """Everything that was looked at, for the data card.

    Attributes:
        trajectories: A trajectory is accepted when it gave at least one row or pair.
        responses: All R_t; only the best by G of a trajectory can be accepted.
        answers: All cells R[j,t], of every level and iteration.
        pairs: One per trajectory: its best response over R_0.
    """

    trajectories: Tally = Tally()
    responses: Tally = Tally()
    answers: Tally = Tally()
    pairs: Tally = Tally()


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
    ) -> bool:
        """Count a row or a reason; append the row unless it is a repetition."""
        if isinstance(made, str):
            self.count(kind, made)
            return False
        replies = (
            [made.completion] if isinstance(made, TrainingRow) else [made.chosen, made.rejected]
        )
        texts = [question, *(reply[0].content for reply in replies)]
        key = (made.kind, *(normalise_answer(text) for text in texts))
        if key in self.known:
            self.count(kind, "repeated")
            return False
        self.known.add(key)
        self.count(kind, "")
        accepted.append(made)  # type: ignore[arg-type]  # each kind comes with its own list
        return True

    def count(self, kind: str, reason: str) -> None:
        """Count one candidate; no reason means accepted."""
        self.outcomes[kind, reason] += 1

    def counts(self) -> CurationCounts:
        """Return everything that was counted so far."""

        def tally(kind: str) -> Tally:
            mine = {r: n for (k, r), n in sorted(self.outcomes.items()) if k == kind}
            accepted = mine.pop("", 0)
            return Tally(seen=accepted + sum(mine.values()), accepted=accepted, refused=mine)

        return CurationCounts(**{kind: tally(kind) for kind in CurationCounts.model_fields})
