import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.evaluation import (
    aggregate,
    contains_answer,
    exact_match,
    normalise_answer,
    score_answer,
    token_f1,
)

words = st.lists(st.sampled_from(["red", "stone", "yes", "no", "1969", "the", "moon"]), max_size=6)
phrases = words.map(" ".join)


@pytest.mark.parametrize(
    ("prediction", "reference", "match", "f1", "contains"),
    [
        ("The  Sea of Rains!", "sea of rains", True, 1.0, True),
        ("Apollo 15", "Apollo 17", False, 0.5, False),
        ("It was Apollo 17.", "Apollo 17", False, 2 * (0.5 * 1.0) / 1.5, True),
        ("yes", "yes", True, 1.0, True),
        ("Yes, both are.", "yes", False, 0.0, True),
        ("no", "no evidence", False, 0.0, False),
        ("I know that", "no", False, 0.0, False),
        ("There is no doubt, yes", "no", False, 0.0, False),
        ("noanswer", "something", False, 0.0, False),
        ("", "moon", False, 0.0, False),
        ("", "", True, 1.0, True),
        ("moon", "the", False, 0.0, False),
        ("moon moon", "moon", False, 2 * (0.5 * 1.0) / 1.5, True),
    ],
)
def test_known_cases(prediction, reference, match, f1, contains):
    assert exact_match(prediction, reference) is match
    assert token_f1(prediction, reference) == pytest.approx(f1)
    assert contains_answer(prediction, reference) is contains


@given(st.text())
def test_normalisation_is_idempotent(text):
    assert normalise_answer(normalise_answer(text)) == normalise_answer(text)


@given(phrases, phrases)
def test_f1_is_a_symmetric_share(first, second):
    value = token_f1(first, second)
    assert 0.0 <= value <= 1.0
    assert value == token_f1(second, first)
    # Equal bags of words and nothing else reach 1.
    same_bag = sorted(normalise_answer(first).split()) == sorted(normalise_answer(second).split())
    assert (value == 1.0) <= same_bag


@given(phrases, phrases)
def test_exact_match_implies_the_others(first, second):
    if exact_match(first, second):
        assert token_f1(first, second) == 1.0
        assert contains_answer(first, second)


@given(phrases, phrases, phrases)
def test_an_answer_contains_what_it_was_built_around(before, reference, after):
    inner = normalise_answer(reference)
    if inner and inner not in {"yes", "no"}:
        assert contains_answer(f"{before} {reference}, {after}", reference)


@given(phrases, st.lists(phrases, min_size=1, max_size=4))
def test_of_several_references_the_nearest_counts(prediction, references):
    assert token_f1(prediction, references) == max(token_f1(prediction, r) for r in references)
    assert exact_match(prediction, references) == any(
        exact_match(prediction, r) for r in references
    )


@given(st.lists(st.one_of(st.none(), st.tuples(phrases, phrases)), min_size=1, max_size=8))
def test_missing_answers_count_as_wrong(pairs):
    scores = [None if p is None else score_answer(*p) for p in pairs]
    summary = aggregate(scores)
    assert summary.count == len(pairs)
    assert summary.missing == pairs.count(None)
    assert summary.f1 == pytest.approx(sum(s.f1 for s in scores if s) / len(pairs))
    assert summary.exact_match <= summary.f1 + 1e-12
    assert summary.exact_match <= summary.contains + 1e-12
    assert all(math.isfinite(v) for v in summary.to_dict().values())


def test_nothing_to_compare_with_is_an_error():
    with pytest.raises(UserError):
        token_f1("moon", [])
    with pytest.raises(UserError):
        aggregate([])
