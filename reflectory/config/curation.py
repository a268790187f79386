"""From trajectories to rows: what is good enough to be learnt, and what is taken out again."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from reflectory.config.base import Settings, Unit


class CurationConfig(Settings):
    """Which answers become rows (a stated rule on grades), and the steps that follow.

    Attributes:
        minimum_grade: A response is accepted when its G is at least this.
        minimum_gain: ... and when it exceeds G[0] by at least this, unless it is R_0.
        minimum_score: An answer to a question is accepted when its score is at least this.
        minimum_margin: A preference pair needs this distance between its two grades.
        questions: Whether answers to questions become rows at all.
        draft_pairs: Most preference pairs of the best response over drafts that it was chosen
            over, per iteration; 0 makes none.
        pairs_per_question: Most preference pairs made of the candidates of one question.
        minimum_groundedness: Least share of a completion's statements that a passage
            supports; ``None`` asks for none.
        minimum_agreement: Least share of the drawn samples that say the same as the
            completion; ``None`` asks for none.
        duplicates: How near-duplicates are found: ``minhash`` (shared words in a row),
            ``embeddings`` (meaning), or ``off``.
        duplicate_overlap: With ``minhash``: rows that share at least this part of their
            runs of words are near-duplicates.
        duplicate_cosine: With ``embeddings``: rows at least this near are near-duplicates.
        decontaminate: Refuse rows that hold questions or answers of an evaluation set.
        contamination_words: ... which they do when so many words in a row are the same.
        contamination_prompts: ... also where the passages of the prompt hold them.
        difficulty: Whether instruction-following difficulty decides: the perplexity of the
            completion after its prompt over that without the prompt.
        minimum_difficulty: Least difficulty; 0 keeps the easiest rows.
        maximum_difficulty: Rows as difficult as this are refused: from 1 on, the prompt
            did not help the student to the completion.
        level_balance: Most rows of a level, as a multiple of the level in the middle;
            ``None`` balances nothing.
        minimum_words: Fewest words of a completion.
        maximum_words: Most words of a completion; ``None`` for no limit.
        maximum_prompt_words: Most words of a prompt; ``None`` for no limit.
        maximum_tokens: Most tokens of prompt and completion; ``None`` for no limit.
        licences: Licences that source documents may have, ``unknown`` for those that state
            none; empty allows all.
        personal_data: What becomes of mail addresses, telephone numbers, bank accounts,
            card numbers and IP addresses: ``keep``, ``mask``, or ``refuse`` the row.
        personal_data_in_prompts: Look for them in prompts too, not only in completions.
    """

    minimum_grade: Unit = 0.5
    minimum_gain: Unit = 0.0
    minimum_score: Unit = 0.5
    minimum_margin: Unit = 0.1
    questions: bool = True
    draft_pairs: int = Field(default=1, ge=0, le=64)
    pairs_per_question: int = Field(default=1, ge=0, le=64)
    minimum_groundedness: Unit | None = None
    minimum_agreement: Unit | None = None
    duplicates: Literal["minhash", "embeddings", "off"] = "minhash"
    duplicate_overlap: float = Field(default=0.8, ge=0.1, le=1.0)
    duplicate_cosine: float = Field(default=0.95, ge=0.1, le=1.0)
    decontaminate: bool = True
    contamination_words: int = Field(default=8, ge=2, le=100)
    contamination_prompts: bool = False
    difficulty: bool = False
    minimum_difficulty: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    maximum_difficulty: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    level_balance: float | None = Field(default=None, ge=1.0, allow_inf_nan=False)
    minimum_words: int = Field(default=0, ge=0)
    maximum_words: int | None = Field(default=None, ge=1)
    maximum_prompt_words: int | None = Field(default=None, ge=1)
    maximum_tokens: int | None = Field(default=None, ge=1)
    licences: tuple[str, ...] = ()
    personal_data: Literal["keep", "mask", "refuse"] = "keep"
    personal_data_in_prompts: bool = False

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        if self.minimum_difficulty >= self.maximum_difficulty:
            raise ValueError("minimum_difficulty must be below maximum_difficulty")
        if self.maximum_words is not None and self.minimum_words > self.maximum_words:
            raise ValueError("minimum_words must not exceed maximum_words")
        return self
