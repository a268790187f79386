"""Signals of an answer's quality: what an echo, a constant and a copied sentence look like."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.graders.features import (
    MAX_RIVALS,
    Likelihoods,
    closest_sentence,
    echo_share,
    proximity,
    repeated_share,
    rivals_in,
    sentences_of,
    signals,
    supported_share,
)
from reflectory.agents.graders.likelihood import SIGNALS
from reflectory.models.protocol import TokenScores
from reflectory.types import Passage


def passage(text: str, title: str = "") -> Passage:
    return Passage(id=text[:8], document_id="d", title=title, text=text, start=0, end=len(text))


QUESTION = "Who built the apparatus that extracted the drug?"
ANSWER = "Norman Heatley"
CONSTANT = "The answer can be found in the documents."
PASSAGES = [
    passage("Howard Florey took up the old paper in 1939. Norman Heatley built the apparatus."),
    passage("In 1941 a policeman got the drug. Production began in the United States.", "Oxford"),
]
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
    assert repeated_share(QUESTION, QUESTION) == 1.0
    assert repeated_share(f"{QUESTION} {QUESTION}", QUESTION) == 1.0
    assert repeated_share("Who built the apparatus", QUESTION) == pytest.approx(2 / 4)
    choice = "Which of them is older, Plato or Socrates?"
    assert repeated_share("Plato", choice) == pytest.approx(1 / 3)
    # One word of its own, and it is no echo.
    sentence = "Norman Heatley built the apparatus that extracted the drug."
    assert repeated_share(sentence, QUESTION) == 0.0
    assert repeated_share("Yes, he built the apparatus.", QUESTION) == 0.0
    for answer in (ANSWER, COPIED, CONSTANT, "", "It is."):
        assert repeated_share(answer, QUESTION) == 0.0
    assert repeated_share(ANSWER, "") == 0.0


def test_an_answer_is_near_when_its_sentence_holds_the_questions_words() -> None:
    near = proximity(ANSWER, QUESTION, PASSAGES)
    assert near == pytest.approx(2 / 4)  # built and apparatus, not extracted and drug
    assert proximity("Howard Florey", QUESTION, PASSAGES) == 0.0
    assert proximity("1941", QUESTION, PASSAGES) == pytest.approx(1 / 4)
    assert proximity(ANSWER, QUESTION, PASSAGES) > proximity("Norman Chain", QUESTION, PASSAGES) > 0
    # The title says what every sentence of its passage is about.
    assert proximity("1941", "What happened in Oxford?", PASSAGES) == pytest.approx(1 / 2)
    assert proximity(QUESTION, QUESTION, PASSAGES) == 0.0
    assert proximity(CONSTANT, QUESTION, PASSAGES) == 0.0
    assert proximity("Yes", QUESTION, PASSAGES) == 0.0
    assert proximity("", QUESTION, PASSAGES) == 0.0


def test_rivals_are_other_names_and_numbers_of_the_passages() -> None:
    rivals = rivals_in(PASSAGES, QUESTION, ANSWER)
    assert {"Howard Florey", "1939", "1941", "United States"} <= set(rivals)
    assert not any("Heatley" in rival for rival in rivals)
    assert "In" not in rivals
    assert "1939" not in rivals_in(PASSAGES, "What happened in 1939?", ANSWER)
    assert rivals_in([], QUESTION, ANSWER) == []


def test_rivals_are_few_and_come_from_all_passages() -> None:
    many = [passage(". ".join(f"town {letter}{n}" for n in range(20))) for letter in "ABC"]
    rivals = rivals_in(many, QUESTION, ANSWER)
    assert len(rivals) == len(set(rivals)) == MAX_RIVALS
    assert {rival[0] for rival in rivals} == {"A", "B", "C"}
    assert rivals == rivals_in(many, QUESTION, ANSWER)


TEXT = st.text(alphabet=st.sampled_from("AbcD 12.?\n'\u2019"), max_size=60)
TEXTS = st.lists(TEXT.map(passage), max_size=3)


@given(TEXT, TEXT, TEXTS)
def test_shares_lie_in_the_unit_interval(answer: str, question: str, passages: list) -> None:
    for share in (
        supported_share(answer, passages),
        echo_share(answer, question),
        repeated_share(answer, question),
        proximity(answer, question, passages),
    ):
        assert 0.0 <= share <= 1.0
    rivals = rivals_in(passages, question, answer)
    assert len(rivals) <= MAX_RIVALS
    assert all(rival in " ".join(p.text for p in passages) for rival in rivals)


@given(TEXT, TEXT, TEXTS, TEXT)
def test_more_passages_never_take_support_or_proximity_away(
    answer: str, question: str, passages: list, more: str
) -> None:
    grown = [*passages, passage(more)]
    assert proximity(answer, question, grown) >= proximity(answer, question, passages)
    assert supported_share(answer, grown) >= supported_share(answer, passages)


WORDS = st.sampled_from(["ash", "birch", "cedar", "elm", "fir", "gorse"])


@given(WORDS, st.lists(WORDS, min_size=1), st.lists(WORDS))
def test_proximity_rises_with_the_words_that_the_sentence_shares(
    answer: str, question: list[str], sentence: list[str]
) -> None:
    asked = " ".join(question)
    without = proximity(answer, asked, [passage(" ".join(sentence))])
    for word in [answer, *question]:
        with_word = proximity(answer, asked, [passage(" ".join([*sentence, word]))])
        assert with_word >= without


def likelihoods(
    full: tuple[float, ...] = (-1.0, -3.0),
    without_question: tuple[float, ...] = (-2.0, -4.0),
    without_documents: tuple[float, ...] = (-5.0, -5.0),
) -> Likelihoods:
    return Likelihoods(
        TokenScores(logprobs=full),
        TokenScores(logprobs=without_question),
        TokenScores(logprobs=without_documents),
    )


def test_signals_are_what_their_names_say() -> None:
    found = signals(likelihoods(), QUESTION, ANSWER, PASSAGES)
    assert set(found) == {*SIGNALS, "repeated"}
    assert found["fit"] == -2.0
    assert found["weakest"] == -3.0
    assert found["evidence"] == 3.0
    assert found["relevance"] == 1.0
    assert found["length"] == pytest.approx(math.log(2))
    assert found["support"] == 1.0
    assert found["echo"] == 0.0
    assert found["repeated"] == 0.0
    assert found["proximity"] == pytest.approx(2 / 4)
    rivals = rivals_in(PASSAGES, QUESTION, ANSWER)
    mean = sum(proximity(r, QUESTION, PASSAGES) for r in rivals) / len(rivals)
    assert found["nearest"] == pytest.approx(2 / 4 - mean)


def test_without_rivals_the_comparison_says_nothing() -> None:
    found = signals(likelihoods(), QUESTION, ANSWER, [passage("it was so")])
    assert found["nearest"] == 0.0


LOGPROBS = st.lists(st.floats(-20.0, 0.0), min_size=1, max_size=5).map(tuple)


@given(LOGPROBS, LOGPROBS, LOGPROBS, TEXT, TEXT, TEXTS)
def test_signals_are_finite_and_in_their_ranges(
    full, without_question, without_documents, question, answer, passages
) -> None:
    found = signals(
        likelihoods(full, without_question, without_documents),
        question,
        answer,
        passages,
    )
    assert set(found) == {*SIGNALS, "repeated"}
    assert all(math.isfinite(value) for value in found.values())
    assert found["weakest"] <= found["fit"] + 1e-9
    assert found["fit"] <= 0.0 <= found["length"]
    assert -1.0 <= found["nearest"] <= 1.0
    for name in ("support", "echo", "repeated", "proximity"):
        assert 0.0 <= found[name] <= 1.0


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
