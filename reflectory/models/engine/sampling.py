"""Drawing the next token, for each row by its own parameters and generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reflectory.models.protocol import SamplingParameters

_HEAD = 256
"""Most nuclei are smaller than this, and finding so few is faster than sorting all."""


def draw_tokens(
    logits: torch.Tensor,
    parameters: Sequence[SamplingParameters],
    generated: Sequence[Sequence[int]],
    generators: Sequence[torch.Generator],
) -> list[int]:
    """Return the next token of each row.

    A row's draw uses its own generator, one number per token, so it does not
    depend on which other rows are there.

    Args:
        logits: Shape (rows, vocabulary), any number format.
        parameters: How to draw, one per row.
        generated: Tokens that each row has generated so far.
        generators: Random number generators on the CPU, one per row.
    """
    scores = logits.float()
    for i, (how, tokens) in enumerate(zip(parameters, generated, strict=True)):
        if how.repetition_penalty != 1.0 and tokens:
            _penalise(scores[i], tokens, how.repetition_penalty)
    drawn: list[int] = scores.argmax(dim=-1).tolist()
    random = [i for i, how in enumerate(parameters) if how.temperature > 0]
    if not random:
        return drawn
    heat = torch.tensor([parameters[i].temperature for i in random], device=scores.device)
    # Double precision: a sum of 50,000 single ones loses the unlikely tokens.
    probabilities = torch.softmax(scores[random] / heat[:, None], dim=-1, dtype=torch.float64)
    for row, i in zip(probabilities, random, strict=True):
        uniform = torch.rand(1, generator=generators[i], dtype=torch.float64).to(row.device)
        top_p = parameters[i].top_p
        drawn[i] = _from_nucleus(row, top_p, uniform) if top_p < 1 else _pick(row, uniform)
    return drawn


def _penalise(scores: torch.Tensor, tokens: Sequence[int], penalty: float) -> None:
    """Make tokens that were generated less likely (Keskar et al. 2019, CTRL), in place."""
    seen = torch.tensor(sorted(set(tokens)), device=scores.device)
    old = scores[seen]
    scores[seen] = torch.where(old > 0, old / penalty, old * penalty)


def _pick(probabilities: torch.Tensor, uniform: torch.Tensor) -> int:
    """Return the index where the cumulative probability passes ``uniform`` of its total."""
    cumulative = probabilities.cumsum(dim=-1)
    index = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    return min(int(index), len(probabilities) - 1)


def _from_nucleus(probabilities: torch.Tensor, top_p: float, uniform: torch.Tensor) -> int:
    """Draw from the smallest set of tokens with probability ``top_p`` (Holtzman et al. 2020)."""
    values, indices = probabilities.topk(min(_HEAD, len(probabilities)))
    if float(values.sum()) < top_p:
        values, indices = probabilities.sort(descending=True)
    before = values.cumsum(dim=-1) - values
    nucleus = values[before < top_p]
    return int(indices[_pick(nucleus, uniform)])
