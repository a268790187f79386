"""Pairs of completions as batches, the prompt of a pair read once where the network can.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class PairCollator:
    """Makes a batch of pairs, each of token ids with a number and a margin.

    Shared, a row is prompt, chosen and rejected completion one after the other: the
    rejected one continues the positions of the prompt and does not see the chosen one.
    With prompts ten times as long as completions that halves the work. Otherwise, each
    completion is a row behind its own copy of the prompt.

    Attributes:
        padding: Token that fills shorter rows up.
        share: Whether a prompt is read once.
    """

    padding: int
    share: bool = False

    def __call__(self, pairs: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch in the layout of :attr:`share`."""
        return self.collate(pairs, share=self.share)

    def collate(self, pairs: Sequence[dict[str, Any]], *, share: bool) -> dict[str, torch.Tensor]:
        """Return a batch.

        Returns:
            ``input_ids`` of shape (rows, length), ``attention_mask`` of the same shape, or
            (rows, 1, length, length) where prompts are shared, which then have
            ``position_ids``. For every learnt token its ``row``, the position that predicts
            it (``source``), itself (``target``) and its ``completion``: twice the place of
            the pair in the batch, plus one for the rejected. For every pair its number
            (``pair``) and ``margin``; over all of it the number of ``tokens``.
        """
        rows: list[list[int]] = []
        parts: list[tuple[int, int, int]] = []
        learnt: list[tuple[int, int, int, int]] = []
        for place, pair in enumerate(pairs):
            prompt, start = list(pair["prompt_ids"]), len(pair["prompt_ids"])
            texts = [list(pair["chosen_ids"]), list(pair["rejected_ids"])]
            parts.append((start, len(texts[0]), len(texts[1])))
            if share:
                rows.append(prompt + texts[0] + texts[1])
            for which, text in enumerate(texts):
                if not share:
                    rows.append(prompt + text)
                begin = start + (len(texts[0]) if share and which else 0)
                sources = [start - 1, *range(begin, begin + len(text) - 1)]
                learnt += [
                    (len(rows) - 1, source, target, 2 * place + which)
                    for source, target in zip(sources, text, strict=True)
                ]
        length = max(map(len, rows))
        lengths = torch.tensor([len(row) for row in rows])
        there = torch.arange(length)[None, :] < lengths[:, None]
        row, source, target, completion = torch.tensor(learnt).unbind(1)
        batch = {
            "input_ids": torch.tensor([r + [self.padding] * (length - len(r)) for r in rows]),
            "attention_mask": there.long(),
            "row": row,
            "source": source,
            "target": target,
            "completion": completion,
            "tokens": there.sum(),
            "pair": torch.tensor([int(pair["pair"]) for pair in pairs]),
            "margin": torch.tensor([float(pair["margin"]) for pair in pairs]),
        }
        if share:
            batch |= _shared_attention(parts, there)
        return batch


def _shared_attention(
    parts: Sequence[tuple[int, int, int]], there: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return who sees whom, and which position each token has.

    Args:
        parts: Lengths of prompt, chosen and rejected completion of every row.
        there: Which tokens are no padding, of shape (rows, length).
    """
    rows, length = there.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = causal.repeat(rows, 1, 1)
    positions = torch.arange(length).repeat(rows, 1)
    for row, (start, chosen, _) in enumerate(parts):
        second = start + chosen
        sees[row, second:, start:second] = False
        positions[row, second:] -= chosen
    # Padding sees itself, so that no row of the softmax is empty.
    sees &= there[:, None, :] | torch.eye(length, dtype=torch.bool)
    sees &= there[:, :, None] | torch.eye(length, dtype=torch.bool)
    return {"attention_mask": sees[:, None], "position_ids": positions}
