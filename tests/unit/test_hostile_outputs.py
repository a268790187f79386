"""What models say at the ends of what can be said."""

import math

import pytest

from reflectory.agents.graders.features import Likelihoods, signals
from reflectory.models.protocol import TokenScores

NEVER = TokenScores(logprobs=(-math.inf,))
MAYBE = TokenScores(logprobs=(-1.0,))


@pytest.mark.parametrize(
    ("full", "without_question", "expected"),
    [(NEVER, NEVER, 0.0), (NEVER, MAYBE, -6.0), (MAYBE, NEVER, 12.0)],
)
def test_an_answer_that_a_model_holds_to_be_impossible_is_told_within_the_bounds(
    full, without_question, expected
):
    pair = full, without_question
    likelihoods = Likelihoods(*pair, *pair, of_class=pair)
    found = signals(likelihoods, "Who built it?", "Norman Heatley", [])
    assert found["information"] == expected
    assert found["prior"] == min(max(expected, -4.0), 3.0)
    assert found["class"] == pytest.approx(1.0 / (1.0 + math.exp(-expected / 2)))
