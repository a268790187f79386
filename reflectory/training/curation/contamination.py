"""A step that keeps what the student will be measured on out of what it learns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from reflectory.training.curation.reading import completions_of, prompt_of, question_of
from reflectory.training.curation.steps import AnyRow, Outcome, R, decided
from reflectory.training.curation.words import runs_of, words_of

SHORTEST_PHRASE = 4
"""An evaluation text of fewer words than this has to be a whole question to count."""


@dataclass(frozen=True)
class EvaluationIndex:
    """Runs of words of evaluation texts, for looking them up.

    A text of at least ``length`` words is held as all its runs of that many. A shorter one
    is held whole and compared with questions only: a short answer ("in 1969") occurs in many
    a completion that has nothing to do with the evaluation.

    Attributes:
        length: Words of a run.
        runs: The runs of long texts.
        phrases: Short texts by their number of words.
    """

    length: int
    runs: set[str] = field(default_factory=set)
    phrases: dict[int, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str], length: int) -> EvaluationIndex:
        """Return the index of some texts; blank ones hold nothing."""
        index = cls(length)
        for text in texts:
            words = words_of(text)
            if len(words) >= length:
                index.runs.update(runs_of(words, length))
            elif words:
                index.phrases.setdefault(len(words), set()).add(" ".join(words))
        return index

    def holds_run(self, text: str) -> bool:
        """Return whether a text shares a run of words with a long evaluation text."""
        if not self.runs:
            return False
        return any(run in self.runs for run in runs_of(words_of(text), self.length))

    def holds_question(self, question: str) -> bool:
        """Return whether a question is, or has in it, a short evaluation text."""
        words = words_of(question)
        return any(
            run in phrases
            for count, phrases in self.phrases.items()
            if count == len(words) or count >= SHORTEST_PHRASE
            for run in runs_of(words, count)
        )


@dataclass(frozen=True)
class Decontamination:
    """Refuses rows that share words with questions or answers of evaluation sets.

    It looks up every run of words of a row in a set, which takes time in proportion to the
    text and not to the evaluation sets.

    Args:
        index: The evaluation texts.
        texts: How many there were.
        prompts: Whether the passages of the prompt are compared, too.
    """

    index: EvaluationIndex
    texts: int
    prompts: bool = False
    name: ClassVar[str] = "decontamination"

    @property
    def explanation(self) -> str:
        """How many texts, how many words, and where."""
        where = "question, completion or prompt" if self.prompts else "question or completion"
        return (
            f"Compared with {self.texts} questions and answers of evaluation sets: refused when "
            f"{self.index.length} words in a row of its {where} are the same, or when its "
            "question holds a whole shorter one."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows that share nothing."""
        return await decided(rows, self._reason)

    def _reason(self, row: AnyRow) -> str:
        question = question_of(row)
        if self.index.holds_run(question) or self.index.holds_question(question):
            return "question_in_evaluation"
        if any(self.index.holds_run(text) for text in completions_of(row)):
            return "completion_in_evaluation"
        if self.prompts and self.index.holds_run(prompt_of(row)):
            return "prompt_in_evaluation"
        return ""
