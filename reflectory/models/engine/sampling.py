"""Drawing the next token, for each row by its own parameters and generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reflectory.models.protocol import SamplingParameters

_HEAD = 256
"""Most nuclei are smaller than this, and finding so few is faster than sorting all."""

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
    best = scores.topk(min(2, scores.shape[-1]), dim=-1)
    drawn: list[int] = best.indices[:, 0].tolist()
    gaps: list[float] = (best.values[:, 0] - best.values[:, -1]).tolist()
    random = [i for i, how in enumerate(parameters) if how.temperature > 0]
    near = sum(gap < TIE for i, gap in enumerate(gaps) if parameters[i].temperature == 0)
    if not random:
        return Drawn(drawn, near)
    heat = torch.tensor([parameters[i].temperature for i in random], device=scores.device)
    # On the processor: not every accelerator has double precision.
    probabilities = torch.softmax(scores[random] / heat[:, None], dim=-1).cpu()
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
    # Double precision: a sum of 50,000 single ones loses the unlikely tokens.
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    aim = uniform[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, aim, right=True)
    found: list[int] = index.clamp(max=probabilities.shape[-1] - 1)[:, 0].tolist()
    return found


def _from_nucleus(probabilities: torch.Tensor, top_p: float, uniform: torch.Tensor) -> int:
    """Draw from the smallest set of tokens with probability ``top_p`` (Holtzman et al. 2020)."""
    values, indices = probabilities.topk(min(_HEAD, len(probabilities)))
    if float(values.sum()) < top_p:
        values, indices = probabilities.sort(descending=True)
    before = values.cumsum(dim=-1, dtype=torch.float64) - values
    nucleus = values[before < top_p]
    return int(indices[_pick(nucleus[None], uniform)[0]])
