"""Answers turned right and wrong: the sums agree, and what cannot be followed is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.evaluation.records import Attempt, ContenderAnswer
from reflectory.evaluation.turning import turning_points


def loop(id, grades, notes=None):
    """Return a loop's answer with one attempt per grade."""
    attempts = tuple(
        Attempt(
            text=f"answer {t}",
            calls=5 * t + 1,
            tokens=100 * t + 10,
            note=f"R_{t}" if notes is None else notes[t],
            grade=grade,
        )
        for t, grade in enumerate(grades)
    )
    return ContenderAnswer(contender="loop", id=id, attempts=attempts)


def measured(*rights, f1=None):
    return [
        {"exact_match": float(r), "f1": float(r) if f1 is None else f1[t]}
        for t, r in enumerate(rights)
    ]


def test_two_loops_by_hand():
    answers = [loop("a", [0.2, 0.9, 0.1]), loop("b", [0.5, 0.5])]
    values = {"a": measured(0, 1, 0), "b": measured(1, 0)}
    first, second, third = turning_points(answers, values)
    assert (first.iteration, first.reached, first.turned_right, first.turned_wrong) == (0, 2, 0, 0)
    assert (second.reached, second.turned_right, second.turned_wrong) == (2, 1, 1)
    assert (third.reached, third.turned_right, third.turned_wrong) == (1, 0, 1)
    assert [p.means["exact_match"] for p in (first, second, third)] == [0.5, 0.5, 0.0]
    # The best by grade is R_1 of both; among equal grades the latest.
    assert [p.chosen["exact_match"] for p in (first, second, third)] == [0.5, 0.5, 0.5]


def test_grades_that_are_missing_are_passed_over():
    answers = [loop("a", [None, 0.4, None]), loop("b", [None, None, None])]
    values = {"a": measured(0, 1, 0), "b": measured(0, 0, 1)}
    points = turning_points(answers, values)
    # Without any grade the last response stands; with one, that one.
    assert [p.chosen["exact_match"] for p in points] == [0.0, 0.5, 1.0]


def test_a_question_without_an_answer_counts_as_wrong_in_every_mean():
    silent = ContenderAnswer(contender="loop", id="b", failure="no answer")
    points = turning_points([silent, loop("a", [0.1, 0.2])], {"a": measured(1, 1)})
    assert [p.reached for p in points] == [1, 1]
    assert [p.means["f1"] for p in points] == [0.5, 0.5]
    strange = turning_points([silent, loop("a", [0.1])], {"a": measured(1)}, threshold=0.0)
    assert strange[0].means["exact_match"] == 0.5
    assert turning_points([silent], {}) == () and turning_points([], {}) == ()


def test_attempts_that_are_no_responses_are_left_out():
    answer = loop("a", [0.3, None, 0.2, 0.9], notes=["R_0", "draft", "R_1", "chosen"])
    points = turning_points([answer], {"a": measured(0, 1, 1, 0)})
    assert [p.means["exact_match"] for p in points] == [0.0, 1.0]
    other = loop("a", [0.3, 0.4], notes=["sample 1", "sample 2"])
    assert len(turning_points([other], {"a": measured(0, 1)})) == 2


def test_another_metric_may_say_what_is_right():
    values = {"a": measured(0, 0, f1=[0.4, 0.8])}
    points = turning_points([loop("a", [0.1, 0.2])], values, right="f1", threshold=0.6)
    assert points[1].turned_right == 1
    assert turning_points([loop("a", [0.1, 0.2])], values)[1].turned_right == 0


loops = st.lists(
    st.lists(
        st.tuples(st.booleans(), st.none() | st.sampled_from([0.0, 0.3, 0.7, 1.0])), max_size=5
    ),
    min_size=1,
    max_size=8,
)


def recorded(given_loops):
    answers = [loop(f"q{i}", [g for _, g in tried]) for i, tried in enumerate(given_loops)]
    return answers, {
        a.id: measured(*(r for r, _ in t)) for a, t in zip(answers, given_loops, strict=True)
    }


@given(loops)
def test_turned_right_minus_turned_wrong_is_the_change_of_the_share_right(given_loops):
    points = turning_points(*recorded(given_loops))
    assert len(points) == max(len(tried) for tried in given_loops)
    for before, now in pairwise(points):
        change = (now.means["exact_match"] - before.means["exact_match"]) * len(given_loops)
        assert now.turned_right - now.turned_wrong == pytest.approx(change)
        assert now.turned_right + now.turned_wrong <= now.reached <= before.reached


@given(loops)
def test_each_iteration_equals_a_loop_that_was_cut_there(given_loops):
    for point in turning_points(*recorded(given_loops)):
        cut = [tried[: point.iteration + 1] for tried in given_loops]
        stopped = sum(tried[-1][0] for tried in cut if tried)
        assert point.means["exact_match"] == pytest.approx(stopped / len(cut))
        best = 0
        for tried in (tried for tried in cut if tried):
            graded = [(g, t) for t, (_, g) in enumerate(tried) if g is not None]
            best += tried[max(graded)[1] if graded else -1][0]
        assert point.chosen["exact_match"] == pytest.approx(best / len(cut))


@given(loops, st.randoms(use_true_random=False))
def test_the_order_of_questions_changes_nothing(given_loops, random):
    answers, values = recorded(given_loops)
    before = turning_points(answers, values)
    random.shuffle(answers)
    for one, other in zip(before, turning_points(answers, values), strict=True):
        assert one.model_dump(exclude={"means", "chosen"}) == other.model_dump(
            exclude={"means", "chosen"}
        )
        assert one.means == pytest.approx(other.means)
        assert one.chosen == pytest.approx(other.chosen)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "a have no exact_match"),
        ({"a": measured(1)}, "2 attempts and the metrics of 1"),
        ({"a": [{"f1": 1.0}, {"f1": 1.0}]}, "no exact_match"),
        ({"a": [*measured(1), {"exact_match": 1.0}]}, "attempt 1 at a has no f1"),
        ({"a": [*measured(1), {"exact_match": 1.0, "f1": float("nan")}]}, "attempt 1 .* no f1"),
        ({"a": [*measured(1), {**measured(1)[0], "bleu": 1.0}]}, "alone has bleu"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, says):
    with pytest.raises(UserError, match=says):
        turning_points([loop("a", [0.1, 0.2])], values)


def test_a_question_that_stands_twice_is_refused():
    with pytest.raises(UserError, match="a stands there 2 times"):
        turning_points([loop("a", [0.1]), loop("a", [0.2])], {"a": measured(1)})
