"""Drawing the next token, for each row by its own parameters and generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from reflectory.models.protocol import SamplingParameters

_HEAD = 256
"""Most nuclei are smaller than this, and finding so few is faster than sorting all."""

_BLOCK = 256
"""Tokens that are summed at once when a draw looks for its place in the vocabulary."""

TIE = 1e-4
"""Two best tokens whose logits are nearer than this are a near tie: rounding may decide."""


@dataclass(frozen=True)
class Drawn:
    """The next token of each row.

    Attributes:
        tokens: In order of the rows.
        near_ties: Rows without temperature whose two best tokens were nearly equal.
    """

    tokens: list[int]
    near_ties: int


def draw_tokens(
    logits: torch.Tensor,
    parameters: Sequence[SamplingParameters],
    generated: Sequence[Sequence[int]],
    generators: Sequence[torch.Generator],
) -> Drawn:
    """Return the next token of each row.

    A row's draw uses its own generator, one number per token, so it does not
    depend on which other rows are there.

    Args:
        logits: Shape (rows, vocabulary), any number format.
        parameters: How to draw, one per row.
        generated: Tokens that each row has generated so far.
        generators: Random number generators on the CPU, one per row.
    """
    scores = _penalised(logits.float(), parameters, generated)
    random = [i for i, how in enumerate(parameters) if how.temperature > 0]
    greedy = [i for i, how in enumerate(parameters) if how.temperature == 0]
    drawn, near = [0] * len(parameters), 0
    if greedy:
        best = (scores[greedy] if random else scores).topk(min(2, scores.shape[-1]), dim=-1)
        for i, token in zip(greedy, best.indices[:, 0].tolist(), strict=True):
            drawn[i] = token
        near = int(((best.values[:, 0] - best.values[:, -1]) < TIE).sum())
    if not random:
        return Drawn(drawn, near)
    heat = torch.tensor([parameters[i].temperature for i in random], device=scores.device)
    # On the processor: not every accelerator has double precision.
    sampled = scores[random] if greedy else scores
    probabilities = torch.softmax(sampled / heat[:, None], dim=-1).cpu()
    uniform = torch.cat(
        [torch.rand(1, generator=generators[i], dtype=torch.float64) for i in random]
    )
    picked = _pick(probabilities, uniform)
    for at, i in enumerate(random):
        top_p = parameters[i].top_p
        if top_p < 1:
            drawn[i] = _from_nucleus(probabilities[at], top_p, uniform[at : at + 1])
        else:
            drawn[i] = picked[at]
    return Drawn(drawn, near)


def _penalised(
    scores: torch.Tensor,
    parameters: Sequence[SamplingParameters],
    generated: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Return scores with generated tokens made less likely (Keskar et al. 2019, CTRL)."""
    rows: list[int] = []
    tokens: list[int] = []
    penalties: list[float] = []
    for i, (how, said) in enumerate(zip(parameters, generated, strict=True)):
        if how.repetition_penalty != 1.0 and said:
            seen = sorted(set(said))
            rows += [i] * len(seen)
            tokens += seen
            penalties += [how.repetition_penalty] * len(seen)
    if not rows:
        return scores
    place = (
        torch.tensor(rows, device=scores.device),
        torch.tensor(tokens, device=scores.device),
    )
    penalty = torch.tensor(penalties, device=scores.device)
    old = scores[place]
    scores = scores.clone()
    scores[place] = torch.where(old > 0, old / penalty, old * penalty)
    return scores


def _pick(probabilities: torch.Tensor, uniform: torch.Tensor) -> list[int]:
    """Return where the cumulative probability of each row passes ``uniform`` of its total."""
    # In two steps, which touches the vocabulary once: the block of tokens, and the place in it.
    # In double precision: a sum of 50,000 single ones loses the unlikely tokens.
    count = probabilities.shape[-1]
    blocks = functional.pad(probabilities, (0, -count % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    ends = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    aim = uniform[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, aim, right=True).clamp(max=ends.shape[-1] - 1)
    before = functional.pad(ends, (1, 0)).gather(1, block)
    within = blocks[torch.arange(len(blocks)), block[:, 0]].cumsum(dim=-1, dtype=torch.float64)
    # The block was summed in another order: what is left must not lie behind its last token.
    left = torch.minimum(aim - before, within[:, -1:].nextafter(within.new_zeros(1)))
    place = block * _BLOCK + torch.searchsorted(within, left, right=True)
    found: list[int] = place.clamp(max=count - 1)[:, 0].tolist()
    return found


def _from_nucleus(probabilities: torch.Tensor, top_p: float, uniform: torch.Tensor) -> int:
    """Draw from the smallest set of tokens with probability ``top_p`` (Holtzman et al. 2020)."""
    values, indices = probabilities.topk(min(_HEAD, len(probabilities)))
    if float(values.sum()) < top_p:
        values, indices = probabilities.sort(descending=True)
    before = values.cumsum(dim=-1, dtype=torch.float64) - values
    nucleus = values[before < top_p]
    return int(indices[_pick(nucleus[None], uniform)[0]])
