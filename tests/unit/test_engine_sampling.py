"""Drawing tokens: each row by its own parameters, and as likely as the model says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine.sampling import draw_tokens
from reflectory.models.protocol import SamplingParameters

GREEDY = SamplingParameters()
SAMPLED = SamplingParameters(temperature=0.7)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def draw(logits: torch.Tensor, parameters: list[SamplingParameters]):
    empty: list[list[int]] = [[] for _ in parameters]
    return draw_tokens(logits, parameters, empty, generators(len(parameters)))


@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1, 2, 255, 256, 257, 1000, 4096]),
    rows=st.integers(1, 5),
    hidden=st.floats(0.0, 0.99),
)
@settings(max_examples=60, deadline=None)
def test_a_draw_is_where_the_cumulative_probability_passes_the_number(seed, size, rows, hidden):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, size, generator=rng) * 4
    lost = torch.rand(rows, size, generator=rng) < hidden
    lost[:, seed % size] = False  # one token at least can be drawn
    logits = logits.masked_fill(lost, -torch.inf)
    drawn = draw(logits, [SAMPLED] * rows)
    cumulative = torch.softmax(logits / 0.7, dim=-1).double().cumsum(dim=-1)
    for row, (token, own) in enumerate(zip(drawn.tokens, generators(rows), strict=True)):
        aim = float(torch.rand(1, generator=own, dtype=torch.float64)) * float(cumulative[row, -1])
        before = float(cumulative[row, token - 1]) if token else 0.0
        assert before - 1e-9 <= aim <= float(cumulative[row, token]) + 1e-9
        assert not lost[row, token]


def test_a_draw_depends_on_no_other_row():
    logits = torch.randn(4, 600, generator=torch.Generator().manual_seed(1))
    how = [GREEDY, SAMPLED, GREEDY, SAMPLED]
    together = draw(logits, how).tokens
    for row in range(4):
        alone = draw_tokens(logits[row : row + 1], [how[row]], [[]], [generators(4)[row]])
        assert alone.tokens == [together[row]]
    assert together[0] == int(logits[0].argmax()) and together[2] == int(logits[2].argmax())


@pytest.mark.parametrize("others", [0, 3])
def test_near_ties_are_of_greedy_rows_only(others):
    logits = torch.zeros(2 + others, 300)
    logits[0, 5] = 1.0  # clear; every other row is a tie
    drawn = draw(logits, [GREEDY, GREEDY, *[SAMPLED] * others])
    assert drawn.near_ties == 1
    assert drawn.tokens[0] == 5


def test_tokens_come_as_often_as_they_are_likely():
    count = 4000
    likely = torch.tensor([0.5, 0.0, 0.3, 0.2])
    logits = likely.log().expand(count, -1)
    tokens = draw(logits, [SamplingParameters(temperature=1.0)] * count).tokens
    seen = torch.bincount(torch.tensor(tokens), minlength=4) / count
    assert torch.allclose(seen, likely, atol=0.03)
    assert seen[1] == 0
