"""Steps that look at one row and a limit: well-formed, grounded, agreed on, of good length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from reflectory.training.curation.making import reaches
from reflectory.training.curation.reading import completions_of, made_by_a_person, prompt_of
from reflectory.training.curation.steps import AnyRow, Outcome, R, decided
from reflectory.training.curation.words import count_words


@dataclass(frozen=True)
class WellFormed:
    """Refuses rows that could not be written to a file and read again."""

    name: ClassVar[str] = "well-formed"
    explanation: ClassVar[str] = (
        "Rows with missing or broken fields, numbers that are none, or text that no file "
        "can hold are refused."
    )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows that survive being written and read."""
        return await decided(rows, _broken)


def _broken(row: AnyRow) -> str:
    try:
        type(row).model_validate_json(row.model_dump_json(warnings=False))
    except (ValidationError, PydanticSerializationError, AttributeError, TypeError):
        return "broken"
    return ""


@dataclass(frozen=True)
class AtLeast:
    """Refuses rows whose groundedness or agreement is too low or was not measured.

    Rows that a person wrote are kept: nothing of the kind is measured for them.

    Args:
        measure: What to look at.
        threshold: The least that is kept, in [0, 1].
    """

    measure: Literal["groundedness", "agreement"]
    threshold: float

    @property
    def name(self) -> str:
        """The measure."""
        return self.measure

    @property
    def explanation(self) -> str:
        """The measure in words, and the threshold."""
        meaning = {
            "groundedness": "the share of a completion's statements that a passage supports",
            "agreement": "the share of the drawn samples that say the same as the completion",
        }[self.measure]
        return f"Refused below {self.threshold:g}, or when not measured: {meaning}."

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows that reach the threshold."""

        def reason(row: R) -> str:
            value: float | None = getattr(row.provenance, self.measure)
            if made_by_a_person(row) or reaches(value, self.threshold):
                return ""
            return "not_measured" if value is None or value != value else f"low_{self.measure}"

        return await decided(rows, reason)


@dataclass(frozen=True)
class Length:
    """Refuses rows that are too short or too long.

    Words of scripts without spaces are counted as characters. Both completions of a pair
    have to keep the limits.

    Args:
        fewest: Fewest words of a completion.
        most: Most words of a completion; ``None`` for no limit.
        most_of_prompt: Most words of a prompt; ``None`` for no limit.
        most_tokens: Most tokens of prompt and completion; ``None`` for no limit.
        count_tokens: Tokens of a text; looked at with ``most_tokens`` only.
    """

    fewest: int = 0
    most: int | None = None
    most_of_prompt: int | None = None
    most_tokens: int | None = None
    count_tokens: Callable[[str], int] | None = None
    name: ClassVar[str] = "length"

    @property
    def explanation(self) -> str:
        """The limits there are."""
        limits = [
            (f"completions of fewer than {self.fewest} words", self.fewest > 0),
            (f"completions of more than {self.most} words", self.most is not None),
            (f"prompts of more than {self.most_of_prompt} words", self.most_of_prompt is not None),
            (
                f"prompt and completion of more than {self.most_tokens} tokens",
                self.most_tokens is not None,
            ),
        ]
        return f"Refused: {', '.join(text for text, there in limits if there)}."

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows within the limits."""
        return await decided(rows, self._reason)

    def _reason(self, row: AnyRow) -> str:
        words = [count_words(text) for text in completions_of(row)]
        if min(words) < self.fewest:
            return "short_completion"
        if self.most is not None and max(words) > self.most:
            return "long_completion"
        prompt = prompt_of(row)
        if self.most_of_prompt is not None and count_words(prompt) > self.most_of_prompt:
            return "long_prompt"
        if self.most_tokens is not None and self.count_tokens is not None:
            longest = max(self.count_tokens(text) for text in completions_of(row))
            if self.count_tokens(prompt) + longest > self.most_tokens:
                return "many_tokens"
        return ""
