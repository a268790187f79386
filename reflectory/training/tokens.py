"""From rows to token ids with labels: the prompt of inference, then the completion.

The prompt goes through :func:`reflectory.models.engine.rendering.render`, which
the engine uses too. Imports no torch; a tokenizer is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reflectory.models.engine.rendering import render
from reflectory.models.protocol import Segment
from reflectory.training.rows import Message, PreferenceRow, TrainingRow

IGNORED = -100
"""Label of a token that is read and not learnt (the convention of PyTorch)."""

_PROBE = "probe"


@dataclass(frozen=True)
class TokenisedRow:
    """One row as the trainer reads it.

    Attributes:
        input_ids: Tokens of prompt and completion.
        labels: The same length; the token itself in the completion, IGNORED before it.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def learnt_tokens(self) -> int:
        """Tokens of the completion."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class TokenisedRows:
    """All rows that fit.

    Attributes:
        rows: In the order they were given.
        shortened: How many lost the beginning of their prompt.
        too_long: How many were left out, because the completion with the frame
            of the chat template exceeds the length by itself.
    """

    rows: tuple[TokenisedRow, ...]
    shortened: int
    too_long: int

    @property
    def tokens(self) -> int:
        """All tokens of one pass over the rows."""
        return sum(len(row.input_ids) for row in self.rows)

    @property
    def target_tokens(self) -> int:
        """Tokens of one pass that are learnt."""
        return sum(row.learnt_tokens for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, 0 when there is none."""
        return max((len(row.input_ids) for row in self.rows), default=0)


@dataclass(frozen=True)
class TokenisedPair:
    """One comparison as the trainer reads it.

    Attributes:
        prompt_ids: Tokens of the prompt that both completions follow.
        chosen_ids: Tokens of the better completion, with the end of the turn.
        rejected_ids: Tokens of the other one, with the end of the turn.
        margin: Difference of their grades, in [0, 1].
    """

    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    margin: float

    @property
    def learnt_tokens(self) -> int:
        """Tokens of both completions."""
        return len(self.chosen_ids) + len(self.rejected_ids)


@dataclass(frozen=True)
class TokenisedPairs:
    """All pairs that fit.

    Attributes:
        rows: In the order they were given.
        shortened: How many lost the beginning of their prompt.
        too_long: How many were left out, because a completion exceeds the length.
    """

    rows: tuple[TokenisedPair, ...]
    shortened: int
    too_long: int

    @property
    def tokens(self) -> int:
        """All tokens of one pass, a prompt counted once for its two completions."""
        return sum(len(row.prompt_ids) + row.learnt_tokens for row in self.rows)

    @property
    def target_tokens(self) -> int:
        """Tokens of one pass whose likelihood is compared."""
        return sum(row.learnt_tokens for row in self.rows)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, each once."""
        return sum(len(row.prompt_ids) for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the longest pair, both completions behind one prompt."""
        return max((len(r.prompt_ids) + r.learnt_tokens for r in self.rows), default=0)

    @property
    def longest_apart(self) -> int:
        """Tokens of the longest pair, each completion behind a prompt of its own."""
        return max((2 * len(r.prompt_ids) + r.learnt_tokens for r in self.rows), default=0)


def tokenise_rows(tokenizer: Any, rows: Sequence[TrainingRow], max_length: int) -> TokenisedRows:
    """Return rows as tokens, each at most ``max_length`` long.

    A completion ends with the token that ends a turn, so that the student learns
    to stop, and is never cut. A prompt that is too long loses the beginning of
    its user message, where the documents are; the frame of the chat template,
    the system message and the question stay.

    Args:
        tokenizer: A transformers tokenizer.
        rows: What to learn.
        max_length: Most tokens of a row.

    Raises:
        ModelError: The chat template refuses the messages.
    """
    end = end_of_turn(tokenizer)
    done: list[TokenisedRow] = []
    shortened = too_long = 0
    for row in rows:
        target = _target(tokenizer, row.completion, end)
        prompt, cut = _fitting(tokenizer, row.prompt, max_length - len(target))
        if prompt is None:
            too_long += 1
            continue
        shortened += cut
        done.append(TokenisedRow((*prompt, *target), (*([IGNORED] * len(prompt)), *target)))
    return TokenisedRows(tuple(done), shortened, too_long)


def tokenise_pairs(
    tokenizer: Any, rows: Sequence[PreferenceRow], max_length: int
) -> TokenisedPairs:
    """Return pairs as tokens, prompt and either completion at most ``max_length`` long.

    Prompts and completions are treated as in :func:`tokenise_rows`; both completions
    follow the same prompt, cut for the longer one.

    Args:
        tokenizer: A transformers tokenizer.
        rows: What to compare.
        max_length: Most tokens of prompt and one completion.

    Raises:
        ModelError: The chat template refuses the messages.
    """
    end = end_of_turn(tokenizer)
    done: list[TokenisedPair] = []
    shortened = too_long = 0
    for row in rows:
        chosen, rejected = (_target(tokenizer, r, end) for r in (row.chosen, row.rejected))
        budget = max_length - max(len(chosen), len(rejected))
        prompt, cut = _fitting(tokenizer, row.prompt, budget)
        if prompt is None:
            too_long += 1
            continue
        shortened += cut
        done.append(TokenisedPair(prompt, chosen, rejected, row.margin))
    return TokenisedPairs(tuple(done), shortened, too_long)


def _target(tokenizer: Any, reply: Sequence[Message], end: Sequence[int]) -> tuple[int, ...]:
    ids = tokenizer(reply[0].content, add_special_tokens=False)["input_ids"]
    return (*ids, *end)


def _fitting(
    tokenizer: Any, prompt: Sequence[Message], budget: int
) -> tuple[tuple[int, ...] | None, bool]:
    """Return the prompt within the budget, ``None`` when none fits, and whether it is cut."""
    whole = prompt_ids(tokenizer, prompt)
    if len(whole) <= budget:
        return whole, False
    return _shorten(tokenizer, prompt, budget), True


def prompt_ids(tokenizer: Any, prompt: Sequence[Message]) -> tuple[int, ...]:
    """Return the tokens that a local model reads when it is asked this prompt.

    Args:
        tokenizer: Of the student.
        prompt: Messages, in order.
    """
    segments = [Segment(text=m.content, speaker=_speaker(m)) for m in prompt]
    # Rows hold what was said and never what was thought, so a template that
    # opens a thinking block gets it closed.
    return render(tokenizer, segments, close_thinking=True).token_ids


def _speaker(message: Message) -> Literal["system", "user"]:
    return "system" if message.role == "system" else "user"


def _shorten(tokenizer: Any, prompt: Sequence[Message], budget: int) -> tuple[int, ...] | None:
    """Return the prompt with the longest end of its user message that fits.

    By bisection over characters: tokens merge differently once their neighbours
    are gone, so only rendering again tells the length.
    """
    *before, last = prompt
    best: tuple[int, ...] | None = None
    low, high = 0, len(last.content)
    while low < high:
        start = (low + high) // 2
        shorter = Message(role=last.role, content=last.content[start:])
        ids = prompt_ids(tokenizer, [*before, shorter])
        if len(ids) <= budget:
            best, high = ids, start
        else:
            low = start + 1
    return best


def end_of_turn(tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that the chat template puts behind an assistant message.

    Up to the first special one: engines stop there, and what a template writes
    after it (a line break) is never generated. Without a chat template, and for
    templates that write none, it is the tokenizer's end of sequence.
    """
    fallback = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    if not getattr(tokenizer, "chat_template", None):
        return fallback
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}],
        tokenize=False,
    )
    tail = tokenizer(str(text).rpartition(_PROBE)[2], add_special_tokens=False)["input_ids"]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids)
    for position, token in enumerate(tail):
        if token in special:
            return tuple(tail[: position + 1])
    return fallback
