"""A batch of completions that are written token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reflectory.models.engine.kv import Prefix, joined, kept
from reflectory.models.engine.prefix_cache import PrefixCache
from reflectory.models.engine.runner import Runner
from reflectory.models.engine.sampling import draw_tokens
from reflectory.models.engine.shared_attention import SharedPrefixes
from reflectory.models.engine.work import CompletionRow, Row


@dataclass
class Reading:
    """Rows that were read.

    Attributes:
        logits: Of the last tokens, shape (rows, keep, vocabulary).
        mask: 1 where a column of the cache holds a token, shape (rows, columns).
        cache: Keys and values of the columns.
        shared: Prefixes before the columns, where they are not copied into them.
    """

    logits: torch.Tensor
    mask: torch.Tensor
    cache: Any
    shared: SharedPrefixes | None


def read_rows(runner: Runner, prefixes: PrefixCache, rows: Sequence[Row], keep: int) -> Reading:
    """Read the tokens of some rows in one forward pass, prefixes from the cache.

    Columns are [padding, prefix][padding, rest], or the second part only where
    prefixes are shared and not copied. Both parts end at the same column in every
    row, and the mask leaves the gaps out.

    Args:
        runner: The model.
        prefixes: Where the shared beginnings are.
        rows: What to read; their ``reused`` is set.
        keep: For how many last tokens of each row logits are wanted.
    """
    beginnings = _fetch(runner, prefixes, rows)
    known = [0 if prefix is None else len(prefix) for prefix in beginnings]
    rest = [row.tokens[count:] for row, count in zip(rows, known, strict=True)]
    left, right = max(known), max(map(len, rest))
    ids = torch.zeros((len(rows), right), dtype=torch.long)
    positions = torch.zeros((len(rows), right), dtype=torch.long)
    mask = torch.zeros((len(rows), left + right), dtype=torch.long)
    for i, (count, tokens) in enumerate(zip(known, rest, strict=True)):
        ids[i, right - len(tokens) :] = torch.tensor(tokens)
        positions[i, right - len(tokens) :] = torch.arange(count, count + len(tokens))
        mask[i, left - count : left] = 1
        mask[i, left + right - len(tokens) :] = 1
    shared = SharedPrefixes.of(beginnings, runner.device) if runner.cascades else None
    mask = (mask if shared is None else mask[:, left:]).to(runner.device)
    cache = runner.start(beginnings, right + max(row.room for row in rows))
    logits = runner.forward(
        ids.to(runner.device),
        mask,
        positions.to(runner.device),
        cache,
        min(keep, right),
        shared,
    )
    return Reading(logits, mask, cache, shared)


def _fetch(runner: Runner, prefixes: PrefixCache, rows: Sequence[Row]) -> list[Prefix | None]:
    """Return the prefix of each row; rows with the same one get the same object."""
    found: dict[tuple[int, ...], Prefix] = {}
    beginnings: list[Prefix | None] = []
    for row in rows:
        tokens = row.prefix if runner.shares else ()
        if not tokens:
            row.reused = 0
            beginnings.append(None)
            continue
        if tokens in found:
            row.reused = len(tokens)
        else:
            found[tokens], row.reused = prefixes.fetch(tokens)
        beginnings.append(found[tokens])
    return beginnings


class Batch:
    """Completions that run together; finished rows stay until :meth:`compact`.

    Reads the prompts and draws the first tokens when it is made.

    Args:
        runner: The model.
        prefixes: Where the shared beginnings are.
        rows: What to complete.
        tokenizer: Decodes, to find stop strings.
    """

    def __init__(
        self, runner: Runner, prefixes: PrefixCache, rows: Sequence[CompletionRow], tokenizer: Any
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self.rows = list(rows)
        reading = read_rows(runner, prefixes, rows, keep=1)
        self._mask, self._cache, self._shared = reading.mask, reading.cache, reading.shared
        self._accept(reading.logits[:, -1])

    @property
    def live(self) -> list[CompletionRow]:
        """The rows that are not finished."""
        return [row for row in self.rows if not row.finish]

    @property
    def columns(self) -> int:
        """Columns of the cache, gaps included."""
        return int(self._mask.shape[1])

    def step(self) -> None:
        """Write one more token to every live row."""
        device = self._runner.device
        ids = [[row.generated[-1] if row.generated else 0] for row in self.rows]
        positions = [[len(row.tokens) + max(len(row.generated) - 1, 0)] for row in self.rows]
        more = self._mask.new_ones((len(self.rows), 1))
        self._mask = torch.cat([self._mask, more], dim=1)
        logits = self._runner.forward(
            torch.tensor(ids, device=device),
            self._mask,
            torch.tensor(positions, device=device),
            self._cache,
            keep=1,
            shared=self._shared,
        )
        self._accept(logits[:, -1])

    def _accept(self, logits: torch.Tensor) -> None:
        live = [i for i, row in enumerate(self.rows) if not row.finish]
        chosen = [self.rows[i] for i in live]
        tokens = draw_tokens(
            logits if len(live) == len(self.rows) else logits[live],
            [row.sampling for row in chosen],
            [row.generated for row in chosen],
            [row.generator for row in chosen],
        )
        for row, token in zip(chosen, tokens, strict=True):
            row.accept(token, self._runner.eos_ids, self._tokenizer)

    def compact(self) -> None:
        """Drop finished rows when that pays.

        It copies what stays, about as much work as the attention of one step,
        and saves the share of the dropped rows in each step that follows.
        """
        stay = [i for i, row in enumerate(self.rows) if not row.finish]
        if not stay or 4 * (len(self.rows) - len(stay)) < len(self.rows):
            return
        self.rows = [self.rows[i] for i in stay]
        index = torch.tensor(stay, device=self._mask.device)
        mask = self._mask[index]
        # Columns at the left edge that only dropped rows used.
        start = int(mask.any(dim=0).int().argmax())
        self._mask = mask[:, start:]
        self._cache = kept(self._cache, index, start, max(row.room for row in self.rows))
        if self._shared is not None:
            prefixes = [self._shared.rows[i] for i in stay]
            self._shared = SharedPrefixes.of(prefixes, self._runner.device)

    def join(self, other: Batch) -> None:
        """Take over the rows of another batch, both aligned to the right."""
        width = max(self.columns, other.columns)
        self.rows += other.rows
        self._mask = torch.cat(
            [torch.nn.functional.pad(m, (width - m.shape[1], 0)) for m in (self._mask, other._mask)]
        )
        room = max(row.room for row in self.rows)
        self._cache = joined(self._cache, other._cache, room)
        if self._shared is not None and other._shared is not None:
            prefixes = [*self._shared.rows, *other._shared.rows]
            self._shared = SharedPrefixes.of(prefixes, self._runner.device)
