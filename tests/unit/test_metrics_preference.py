import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.graders import FunctionGrader
from reflectory.errors import BackendError, OutputError, UnsupportedCapability, UserError
from reflectory.evaluation.metrics.pair_judges import (
    ROLE,
    GraderPairJudge,
    LikelihoodPairJudge,
    SpokenPairJudge,
    read_choice,
)
from reflectory.evaluation.metrics.preference import PairJudge, Preference, prefer, win_rate
from reflectory.models.protocol import Capability
from reflectory.testing.models import ScriptedModel
from reflectory.types import Passage

PASSAGE = Passage(id="a-0", document_id="a", title="Sky", text="The sky is blue.", start=0, end=16)


def shown(request):
    """Return the two answers as a judge saw them."""
    lines = request.segments[-1].text.split("\n")
    return tuple(
        next(line for line in lines if line.startswith(f"Answer {letter}:")).split(": ", 1)[1]
        for letter in "AB"
    )


def speaking(rule, **parts):
    return ScriptedModel(lambda request: rule(*shown(request)), **parts)


def scoring(rule):
    def score(request, text):
        a, b = rule(*shown(request))
        return a if text == "A" else b

    return ScriptedModel({}, capabilities=frozenset({Capability.SCORE}), score=score)


def ask(judge, first="blue", second="green as grass", context=(PASSAGE,)):
    return asyncio.run(prefer(judge, "What colour is the sky?", first, second, context))


def right(a, b):
    return (
        "A is right.\nBetter: A" if a == "blue" else "Better: B" if b == "blue" else "Better: tie"
    )


@pytest.mark.parametrize(
    ("said", "winner", "changed"),
    [
        (right, "first", False),
        (lambda a, b: "Better: A", "tie", True),  # always the first place
        (lambda a, b: "Better: B", "tie", True),  # always the second place
        (lambda a, b: "Better: tie", "tie", False),
        (lambda a, b: f"Better: {'A' if len(a) > len(b) else 'B'}", "second", False),
        (lambda a, b: "Better: A" if a == "blue" else "Better: tie", "tie", True),
    ],
)
def test_only_a_preference_that_survives_the_swap_counts(said, winner, changed):
    model = speaking(said)
    found = ask(SpokenPairJudge(model))
    assert (found.winner, found.changed, found.failure) == (winner, changed, "")
    assert [shown(r) for r in model.requests] == [
        ("blue", "green as grass"),
        ("green as grass", "blue"),
    ]
    assert {r.role for r in model.requests} == {ROLE}
    assert "The sky is blue." in model.requests[0].segments[1].text
    mirrored = ask(SpokenPairJudge(speaking(said)), "green as grass", "blue")
    turned = {"first": "second", "second": "first", "tie": "tie"}
    assert mirrored.winner == turned[found.winner]


def test_what_cannot_be_read_is_a_failure_and_no_tie():
    model = speaking(lambda a, b: "The sky is wide." if a == "blue" else "Better: B")
    found = ask(SpokenPairJudge(model, attempts=2))
    assert (found.winner, found.in_order, found.swapped) == (None, None, "first")
    assert found.changed is None
    assert "The sky is wide." in found.failure
    assert len(model.requests) == 3  # twice for the order that could not be read
    rate = win_rate([found])
    assert (rate.rate, rate.ties, rate.failures, rate.changed) == (None, 0, 1, None)


def test_a_second_try_can_be_read():
    said = iter(["Hm.", "Better: A", "Better: B"])
    found = ask(SpokenPairJudge(ScriptedModel(lambda request: next(said))))
    assert found.winner is not None


def test_another_error_is_passed_on():
    def broken(request):
        raise BackendError("the server is gone", hint="wait")

    with pytest.raises(BackendError):
        ask(SpokenPairJudge(ScriptedModel(broken)))


def test_equal_answers_are_a_tie_without_a_call():
    model = speaking(lambda a, b: "Better: A")
    found = ask(SpokenPairJudge(model), "blue ", "blue")
    assert (found.winner, found.changed, model.requests) == ("tie", None, [])


@pytest.mark.parametrize(
    ("rule", "winner", "changed"),
    [
        (lambda a, b: (-1.0, -2.0) if a == "blue" else (-2.0, -1.0), "first", False),
        (lambda a, b: (-1.0, -2.0), "tie", True),  # likes the letter A
        (lambda a, b: (-1.0, -1.0), "tie", False),
        (lambda a, b: (-float(len(b)), -float(len(a))), "second", False),  # likes length
    ],
)
def test_the_likelier_letter_wins_if_it_survives_the_swap(rule, winner, changed):
    model = scoring(rule)
    found = ask(LikelihoodPairJudge(model))
    assert (found.winner, found.changed) == (winner, changed)
    assert [r.continuations for r in model.score_requests] == [("A", "B")] * 2


def test_a_likelihood_that_is_no_number_is_a_failure():
    found = ask(LikelihoodPairJudge(scoring(lambda a, b: (float("nan"), -1.0))))
    assert found.winner is None
    assert "nan" in found.failure


def test_a_model_without_likelihoods_is_refused():
    with pytest.raises(UnsupportedCapability, match="SpokenPairJudge"):
        LikelihoodPairJudge(ScriptedModel({}))


@pytest.mark.parametrize(("margin", "winner"), [(0.0, "first"), (0.29, "first"), (0.31, "tie")])
def test_a_grader_sees_one_answer_at_a_time(margin, winner):
    seen = []

    def grade(task):
        seen.append((task.answer, task.rubric, task.passages))
        return 0.8 if task.answer == "blue" else 0.5

    judge = GraderPairJudge(FunctionGrader(grade), rubric="short", margin=margin)
    found = ask(judge)
    assert (found.winner, found.swapped, found.changed) == (winner, None, None)
    assert seen == [("blue", "short", (PASSAGE,)), ("green as grass", "short", (PASSAGE,))]


def test_a_grade_that_cannot_be_read_is_a_failure():
    def grade(task):
        raise OutputError("no score", raw="mumble")

    found = ask(GraderPairJudge(FunctionGrader(grade)))
    assert found.winner is None
    assert "mumble" in found.failure


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_outside_of_grades_is_refused(margin):
    with pytest.raises(UserError, match="margin"):
        GraderPairJudge(FunctionGrader(lambda task: 1.0), margin=margin)


def test_the_judges_meet_the_protocol_and_have_names_of_their_own():
    model = scoring(lambda a, b: (-1.0, -1.0))
    judges = [
        LikelihoodPairJudge(model),
        SpokenPairJudge(model),
        GraderPairJudge(FunctionGrader(lambda task: 1.0)),
    ]
    assert all(isinstance(judge, PairJudge) for judge in judges)
    assert len({judge.fingerprint for judge in judges}) == 3


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Better: A", "first"),
        ("better: b.", "second"),
        ("**Better:** B", "second"),
        ("It names the colour.\n\nBetter: Answer A", "first"),
        ("[[B]]", "second"),
        ("The verdict is A", "first"),
        ("Answer B is better because it is short.", "second"),
        ("A", "first"),
        (" (b)\n", "second"),
        ("Better: tie", "tie"),
        ("Tie.", "tie"),
        ("It is a tie", "tie"),
        ("Better: A\nNo, wait.\nBetter: B", "second"),
        ("A good answer names the colour.", None),
        ("Better: a clear account would help.", None),
        ("a better answer", None),
        ("Answer A says blue, answer B says green.", None),
        ("Both students tried hard.", None),
        ("", None),
        ("C", None),
        ("Better: C", None),
    ],
)
def test_verdicts_are_read_or_not(text, verdict):
    assert read_choice(text) == verdict


@given(st.text())
def test_any_text_can_be_read_without_an_error(text):
    assert read_choice(text) in ("first", "second", "tie", None)


@pytest.mark.parametrize("filler", [" ", "*", "\n", "better ", "answer ", "a ", "[["])
def test_a_long_run_of_anything_is_read_at_once(filler):
    began = time.thread_time()
    assert read_choice("Better" + filler * 5_000 + "x") in (None, "first")
    assert time.thread_time() - began < 2.0


verdicts = st.sampled_from(["first", "second", "tie"])
preferences = st.one_of(
    st.builds(Preference, winner=verdicts),
    st.builds(Preference, winner=verdicts, in_order=verdicts, swapped=verdicts),
    st.just(Preference(winner=None, failure="nothing")),
)


@given(st.lists(preferences, min_size=1))
def test_win_rates_of_both_sides_add_up_to_1(given_preferences):
    turned = {"first": "second", "second": "first", "tie": "tie", None: None}
    found = win_rate(given_preferences)
    other = win_rate([p.model_copy(update={"winner": turned[p.winner]}) for p in given_preferences])
    assert found.wins + found.losses + found.ties + found.failures == len(given_preferences)
    if found.rate is None:
        assert other.rate is None
        assert found.failures == len(given_preferences)
    else:
        assert found.rate + other.rate == pytest.approx(1.0)
    assert (found.changed is None) == all(p.changed is None for p in given_preferences)


def test_ties_count_half_and_failures_not_at_all():
    pairs = [
        Preference(winner="first", in_order="first", swapped="first"),
        Preference(winner="tie", in_order="first", swapped="second"),
        Preference(winner="first", in_order="first", swapped="first"),
        Preference(winner="second", in_order="second", swapped="second"),
        Preference(winner=None, failure="nothing"),
    ]
    found = win_rate(pairs)
    assert (found.rate, found.changed) == (2.5 / 4, 1 / 4)
    with pytest.raises(UserError, match="no pair"):
        win_rate([])
