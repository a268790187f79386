"""What a student says again and again: votes for short answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.agreement import agreement

SAID = ["It was Leonid Kulik.", "leonid kulik", "Anna Berg, or the Kulik"]


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("Leonid Kulik", 2 / 3),
        ("The Leonid  KULIK!", 2 / 3),
        ("Kulik", 1.0),
        ("Kuli", 0.0),
        ("Kulik Leonid", 0.0),
        ("", 0.0),
        ("the", 0.0),
    ],
)
def test_the_share_of_texts_that_hold_an_answer(answer, share):
    assert agreement(answer, SAID) == pytest.approx(share)


def test_nobody_agrees_where_nothing_was_said():
    assert agreement("Kulik", []) == 0.0


@given(st.text(max_size=20), st.lists(st.text(max_size=40), max_size=5))
def test_it_is_a_share_and_more_of_the_same_is_all_of_it(answer, said):
    assert 0.0 <= agreement(answer, said) <= 1.0
    words = any(c.isalnum() for c in answer) and agreement(answer, [answer]) == 1.0
    assert agreement(answer, [answer] * 3) == (1.0 if words else 0.0)
