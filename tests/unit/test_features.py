"""Signals of an answer's quality: what an echo, a constant and a copied sentence look like."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from apparatus import ANSWER, CONSTANT, PASSAGES, QUESTION, passage
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.answer_types import type_fit
from reflectory.agents.graders.features import (
    Likelihoods,
    closest_sentence,
    echo_share,
    proximity,
    repeated_share,
    sentences_of,
    signals,
    supported_share,
)
from reflectory.agents.graders.likelihood import SIGNALS
from reflectory.models.protocol import TokenScores

COPIED = "Howard Florey took up the old paper in 1939."


def test_support_is_the_share_of_words_that_stand_in_the_passages() -> None:
    assert supported_share(ANSWER, PASSAGES) == 1.0
    assert supported_share(COPIED, PASSAGES) == 1.0
    assert supported_share("Norman Chain", PASSAGES) == 0.5
    assert supported_share("Joseph Lister", PASSAGES) == 0.0
    assert supported_share("Oxford", PASSAGES) == 1.0
    assert supported_share(CONSTANT, PASSAGES) < 0.5
    assert supported_share(ANSWER, []) == 0.0
    # Without a content word there is nothing that could be unsupported.
    assert supported_share("of the", PASSAGES) == 1.0


def test_an_echo_is_told_from_an_answer() -> None:
    assert echo_share(QUESTION, QUESTION) == 1.0
    assert echo_share("the DRUG: who built, extracted the apparatus", QUESTION) == 1.0
    assert echo_share(ANSWER, QUESTION) == 0.0
    assert echo_share(COPIED, QUESTION) == 0.0
    assert echo_share(CONSTANT, QUESTION) == 0.0
    assert echo_share("", QUESTION) == 0.0
    assert echo_share(ANSWER, "") == 0.0
    # One of two that the question names is an answer.
    assert echo_share("Plato", "Which of them is older, Plato or Socrates?") < 0.5
    # A sentence around the answer is no echo either, though it repeats the question.
    sentence = "Norman Heatley built the apparatus that extracted the drug."
    assert 0.5 < echo_share(sentence, QUESTION) < echo_share(QUESTION, QUESTION)


def test_what_adds_no_word_is_known_by_how_much_of_the_question_it_repeats() -> None:
    def repeated(answer: str, question: str = QUESTION) -> float:
        return repeated_share(answer, question, PASSAGES)

    assert repeated(QUESTION) == 1.0
    assert repeated(f"{QUESTION} {QUESTION}") == 1.0
    assert repeated("Who built the apparatus") == pytest.approx(2 / 4)
    choice = "Which of them is older, Plato or Socrates?"
    assert repeated("Plato", choice) == pytest.approx(1 / 3)
    # One word of its own, and it is no echo.
    sentence = "Norman Heatley built the apparatus that extracted the drug."
    assert repeated(sentence) == 0.0
    assert repeated("Yes, he built the apparatus.") == 0.0
    for answer in (ANSWER, COPIED, CONSTANT, "", "It is."):
        assert repeated(answer) == 0.0
    assert repeated(ANSWER, "") == 0.0


@pytest.mark.parametrize(
    "around", ["The question is: {}", "Well, {}", "{} Let me think.", "You asked: {}", "Yes, {}"]
)
def test_a_phrase_around_the_whole_question_adds_nothing(around: str) -> None:
    assert repeated_share(around.format(QUESTION), QUESTION, PASSAGES) == 1.0
    # A part of the question with words around it may be an answer.
    half = "Who built the apparatus"
    assert repeated_share(around.format(half), QUESTION, PASSAGES) == 0.0
    # So may the question with a word that the documents hold.
    assert repeated_share(f"{around.format(QUESTION)} Heatley", QUESTION, PASSAGES) == 0.0
    assert repeated_share(f"{around.format(QUESTION)} Oxford", QUESTION, PASSAGES) == 0.0


def test_yes_is_a_word_of_its_own_where_it_is_asked_for() -> None:
    closed = "Did Heatley build the apparatus?"
    sentence = "Yes, Heatley did build the apparatus."
    assert repeated_share(sentence, closed, PASSAGES) == 0.0
    assert repeated_share(sentence.replace("Yes", "No"), closed, PASSAGES) == 0.0
    assert repeated_share(sentence.replace("Yes", "Well"), closed, PASSAGES) == 1.0


TEXT = st.text(alphabet=st.sampled_from("AbcD 12.?\n'\u2019"), max_size=60)
TEXTS = st.lists(TEXT.map(passage), max_size=3)


@given(TEXT, TEXT, TEXTS)
def test_shares_lie_in_the_unit_interval(answer: str, question: str, passages: list) -> None:
    for share in (
        supported_share(answer, passages),
        echo_share(answer, question),
        repeated_share(answer, question, passages),
        proximity(answer, question, passages),
    ):
        assert 0.0 <= share <= 1.0


@given(TEXT, TEXT, TEXTS, TEXT)
def test_more_passages_never_take_support_away(
    answer: str, question: str, passages: list, more: str
) -> None:
    grown = [*passages, passage(more)]
    assert supported_share(answer, grown) >= supported_share(answer, passages)


def likelihoods(
    full: tuple[float, ...] = (-1.0, -3.0),
    without_question: tuple[float, ...] = (-2.0, -4.0),
    without_documents: tuple[float, ...] = (-1.0,),
    unasked: tuple[float, ...] = (-3.0,),
    of_class: tuple[float, float] | None = None,
    others: Sequence[tuple[float, float]] = (),
) -> Likelihoods:
    def pair(one: float, other: float) -> tuple[TokenScores, TokenScores]:
        return TokenScores(logprobs=(one,)), TokenScores(logprobs=(other,))

    always = (full, without_question, without_documents, unasked)
    return Likelihoods(
        *(TokenScores(logprobs=found) for found in always),
        of_class=None if of_class is None else pair(*of_class),
        others=tuple(pair(*other) for other in others),
    )


MEASURED = {*SIGNALS, "fit", "type", "class", "echo", "repeated"}


def test_signals_are_what_their_names_say() -> None:
    found = signals(likelihoods(), QUESTION, ANSWER, PASSAGES)
    assert set(found) == MEASURED
    assert found["fit"] == -2.0
    assert found["information"] == pytest.approx(2.0)  # of the whole answer, not per token
    assert found["prior"] == 2.0
    assert found["type"] == 1.0
    assert found["support"] == 1.0
    assert found["echo"] == 0.0
    assert found["repeated"] == 0.0
    assert found["proximity"] == proximity(ANSWER, QUESTION, PASSAGES) > 0.0


def of_names(
    of_class: float, of_any: float, *others: tuple[float, float], answer: str = ANSWER
) -> dict[str, float]:
    found = likelihoods(of_class=(of_class, of_any), others=others)
    return signals(found, QUESTION, answer, PASSAGES)


def test_what_the_class_says_of_an_answer_is_a_chance() -> None:
    assert of_names(-1.0, -1.0)["class"] == 0.5
    assert of_names(-1.0, -3.0)["class"] == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert of_names(-3.0, -1.0)["class"] == pytest.approx(1 / (1 + math.exp(1.0)))
    assert of_names(-1.0, -1e6)["class"] < 1.0  # bounded, as all that likelihoods tell
    assert of_names(-1e6, -1.0)["class"] > 0.0
    # Where no class is known, it is a little above even.
    assert signals(likelihoods(), QUESTION, ANSWER, PASSAGES)["class"] == 0.6
    # The kind is that of class and form together: a year is nobody who built anything.
    assert of_names(-1.0, -3.0)["kind"] == of_names(-1.0, -3.0)["class"]
    assert of_names(-1.0, -3.0, answer="1941")["kind"] == 0.0


def test_what_the_class_says_of_every_name_says_nothing_of_one() -> None:
    around = [(-1.0, -3.0), (-2.0, -6.0)]  # the class speaks for them by 2 and 4 nats
    assert of_names(-1.0, -4.0, *around)["class"] == 0.5
    assert of_names(-1.0, -2.0, *around)["class"] < 0.5 < of_names(-1.0, -2.0)["class"]
    assert of_names(-1.0, -6.0, *around)["class"] == pytest.approx(1 / (1 + math.exp(-1.0)))
    unknown = likelihoods(others=around)
    assert signals(unknown, QUESTION, ANSWER, PASSAGES)["class"] == 0.6


def test_what_the_question_says_without_documents_has_narrow_bounds() -> None:
    def prior(without_documents: float, unasked: float) -> float:
        found = likelihoods(without_documents=(without_documents,), unasked=(unasked,))
        return signals(found, QUESTION, ANSWER, PASSAGES)["prior"]

    assert prior(-1.0, -2.5) == 1.5
    assert prior(-1.0, -5.0) == prior(-1.0, -1e6) == 3.0
    assert prior(-9.0, -1.0) == prior(-1e6, -1.0) == -4.0


@pytest.mark.parametrize(
    ("answer", "fits"), [("Heatley", 1.0), ("1941", 0.0), ("Yes", 0.0), ("an apparatus", 0.0)]
)
def test_the_type_is_that_of_the_question(answer: str, fits: float) -> None:
    found = signals(likelihoods(), QUESTION, answer, PASSAGES)
    assert found["type"] == type_fit(QUESTION, answer) == fits


def test_what_the_question_tells_of_an_answer_has_bounds() -> None:
    """An echo of a long question is told by it entirely, and must not outweigh all the rest."""

    def information(full: float, without_question: float, tokens: int = 1) -> float:
        measured = likelihoods((full,) * tokens, (without_question,) * tokens)
        return signals(measured, QUESTION, ANSWER, PASSAGES)["information"]

    assert information(-1.0, -1.0) == 0.0
    assert information(-1.0, -4.0) == 3.0
    assert information(-4.0, -1.0) == -3.0
    assert information(-1.0, -13.0) == information(-1.0, -2.0, 20) == information(0.0, -1e6) == 12.0
    assert information(-7.0, -1.0) == information(-2.0, -1.0, 20) == information(-1e6, 0.0) == -6.0


@pytest.mark.parametrize(
    ("own", "others", "told"),
    [
        (-20.0, (-22.0, -24.0), 3.0),
        (-20.0, (-20.0,), 0.0),
        (-5.0, (-40.0,), 6.0),
        (-40.0, (-5.0, -6.0), -6.0),
        (-math.inf, (-5.0,), -6.0),
        (-5.0, (-math.inf, -4.0), 6.0),
        (-math.inf, (-math.inf,), 0.0),
        (-5.0, (-math.inf, math.inf), 0.0),  # a difference of likelihoods may be either
        (math.nan, (-4.0,), 0.0),
    ],
)
def test_the_channel_is_held_against_other_names_and_has_bounds(own, others, told) -> None:
    found = signals(replace(likelihoods(), channel=(own, others)), QUESTION, ANSWER, PASSAGES)
    assert found["channel"] == told
    assert "channel" not in signals(likelihoods(), QUESTION, ANSWER, PASSAGES)


def test_texts_count_the_same_whatever_the_likelihoods_are() -> None:
    one = signals(likelihoods(), QUESTION, ANSWER, PASSAGES)
    two = signals(likelihoods((-9.0,), (-1.0,)), QUESTION, ANSWER, PASSAGES)
    changed = {name for name in one if one[name] != two[name]}
    assert changed == {"fit", "information"}


LOGPROBS = st.lists(st.floats(-20.0, 0.0), min_size=1, max_size=5).map(tuple)


PAIRS = st.tuples(st.floats(-20.0, 0.0), st.floats(-20.0, 0.0))


@given(
    st.tuples(*[LOGPROBS] * 4, st.none() | PAIRS, st.lists(PAIRS, max_size=3)),
    TEXT,
    TEXT,
    TEXTS,
)
def test_signals_are_finite_and_in_their_ranges(found, question, answer, passages) -> None:
    measured = likelihoods(*found)
    found = signals(measured, question, answer, passages)
    assert set(found) == MEASURED
    assert all(math.isfinite(value) for value in found.values())
    assert found["fit"] <= 0.0
    assert -6.0 <= found["information"] <= 12.0
    for name in ("type", "class", "kind", "support", "echo", "repeated", "proximity"):
        assert 0.0 <= found[name] <= 1.0
    assert found["kind"] == found["type"] * found["class"]


@given(LOGPROBS, LOGPROBS)
def test_information_has_the_sign_of_what_the_question_adds(full, without_question) -> None:
    def information(one, two) -> float:
        return signals(likelihoods(one, two), QUESTION, ANSWER, PASSAGES)["information"]

    told = sum(full) - sum(without_question)
    found = information(full, without_question)
    assert found * told >= 0.0 and abs(found) <= abs(told)
    if -6.0 <= told <= 6.0:
        assert found == -information(without_question, full) == pytest.approx(told)
    assert information(full, full) == 0.0


def test_the_closest_sentence_is_found_with_its_number() -> None:
    assert closest_sentence("Who built an apparatus?", PASSAGES) == (
        1,
        "Norman Heatley built the apparatus.",
    )
    assert closest_sentence("When did production begin?", PASSAGES) == (
        2,
        "Production began in the United States.",
    )
    assert closest_sentence("Joseph Lister", PASSAGES) is None
    assert closest_sentence("anything", []) is None


def test_sentences_end_before_a_capital_letter() -> None:
    assert sentences_of("One here.  Two\nthere! 3 is 2.5 times as much? yes.") == [
        "One here.",
        "Two there!",
        "3 is 2.5 times as much? yes.",
    ]
    assert sentences_of(" \n ") == []
