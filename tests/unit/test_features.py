"""Signals of an answer's quality: what an echo, a constant and a copied sentence look like."""

import math
from random import Random

import pytest
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


DIRECTOR = passage("The town of Ulm saw the birth of Ada Frey.", "Ada Frey (director)")
FILM = passage("The Lamp is a film of 1931. Ada Frey made it about a lighthouse.", "The Lamp")
TWO_STEPS = "In which town was the director of the film about a lighthouse born?"


def test_the_words_of_a_sentence_that_names_the_title_count_too() -> None:
    """The answer stands in one passage, and what the question says of it in another."""
    alone = proximity("Ulm", TWO_STEPS, [DIRECTOR])
    assert alone == pytest.approx(1 / 6)  # town, of town, director, film, about, lighthouse, born
    linked = proximity("Ulm", TWO_STEPS, [DIRECTOR, FILM])
    assert linked == pytest.approx(3 / 6)  # and "about a lighthouse", beside her name
    # Who is not named in the other passage has no part in what it says.
    other = passage(DIRECTOR.text.replace("Frey", "Rau"), "Ada Rau")
    assert proximity("Ulm", TWO_STEPS, [other, FILM]) == proximity("Ulm", TWO_STEPS, [other])
    untitled = passage(DIRECTOR.text)
    assert proximity("Ulm", TWO_STEPS, [untitled, FILM]) == proximity("Ulm", TWO_STEPS, [untitled])
    # A link joins to the answer's sentence the one that names her, and not all of its passage.
    film = passage("Ada Frey made a film. It shows a lighthouse.", "The Lamp")
    assert proximity("Ulm", TWO_STEPS, [DIRECTOR, film]) == pytest.approx(2 / 6)
    # Nor does a passage link to itself: its own sentences stay apart.
    both = passage(f"{DIRECTOR.text} Ada Frey made a film about a lighthouse.", "Ada Frey")
    assert proximity("Ulm", TWO_STEPS, [both]) == alone
    # What is not said in any sentence is not near to anything, however well linked.
    assert proximity("Bonn", TWO_STEPS, [DIRECTOR, FILM]) == 0.0


def test_what_stands_in_brackets_behind_a_title_is_no_part_of_the_name() -> None:
    plain = passage(DIRECTOR.text, "Ada Frey")
    asked = "In which town was the maker of the film about a lighthouse born?"
    for link in (plain, DIRECTOR, passage(DIRECTOR.text, "Ada Frey (1901) (director)")):
        assert proximity("Ulm", asked, [link, FILM]) == proximity("Ulm", asked, [plain, FILM])
    # A title of brackets alone names nobody, so it links nothing.
    nameless = passage(DIRECTOR.text, "(director)")
    assert proximity("Ulm", asked, [nameless, FILM]) == proximity("Ulm", asked, [nameless])


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


NAMES = st.lists(WORDS, min_size=1, max_size=2).map(" ".join)
SENTENCES = st.lists(
    st.lists(WORDS, min_size=1, max_size=4).map(lambda words: " ".join(words).capitalize() + "."),
    min_size=1,
    max_size=3,
)
LINKED = st.lists(
    st.builds(lambda text, title: passage(" ".join(text), title), SENTENCES, NAMES),
    min_size=1,
    max_size=4,
)


@given(WORDS, NAMES, LINKED)
def test_linked_passages_are_never_worth_less_than_each_alone(
    answer: str, question: str, passages: list[Passage]
) -> None:
    together = proximity(answer, question, passages)
    assert max(proximity(answer, question, [p]) for p in passages) <= together <= 1.0
    # Without titles there is nothing to name, and the best passage alone decides.
    untitled = [passage(p.text) for p in passages]
    best = max(proximity(answer, question, [p]) for p in untitled)
    assert proximity(answer, question, untitled) == best


@given(WORDS, NAMES, LINKED, st.randoms(use_true_random=False))
def test_the_order_of_the_passages_does_not_matter(
    answer: str, question: str, passages: list[Passage], random: Random
) -> None:
    shuffled = list(passages)
    random.shuffle(shuffled)
    assert proximity(answer, question, shuffled) == proximity(answer, question, passages)
    assert supported_share(answer, shuffled) == supported_share(answer, passages)


@given(WORDS, NAMES, LINKED)
def test_a_link_adds_no_place_to_an_answer(
    answer: str, question: str, passages: list[Passage]
) -> None:
    """However the passages name each other, the answer has to stand in one of them."""
    said = any(answer in sentence.lower() for p in passages for sentence in sentences_of(p.text))
    assert said or proximity(answer, question, passages) == 0.0


def likelihoods(
    full: tuple[float, ...] = (-1.0, -3.0), without_question: tuple[float, ...] = (-2.0, -4.0)
) -> Likelihoods:
    return Likelihoods(TokenScores(logprobs=full), TokenScores(logprobs=without_question))


def test_signals_are_what_their_names_say() -> None:
    found = signals(likelihoods(), QUESTION, ANSWER, PASSAGES)
    assert set(found) == {*SIGNALS, "repeated"}
    assert found["fit"] == -2.0
    assert found["information"] == pytest.approx(2.0)  # of the whole answer, not per token
    assert found["type"] == 1.0
    assert found["support"] == 1.0
    assert found["echo"] == 0.0
    assert found["repeated"] == 0.0
    assert found["proximity"] == pytest.approx(2 / 4)


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


def test_texts_count_the_same_whatever_the_likelihoods_are() -> None:
    one = signals(likelihoods(), QUESTION, ANSWER, PASSAGES)
    two = signals(likelihoods((-9.0,), (-1.0,)), QUESTION, ANSWER, PASSAGES)
    changed = {name for name in one if one[name] != two[name]}
    assert changed == {"fit", "information"}


LOGPROBS = st.lists(st.floats(-20.0, 0.0), min_size=1, max_size=5).map(tuple)


@given(LOGPROBS, LOGPROBS, TEXT, TEXT, TEXTS)
def test_signals_are_finite_and_in_their_ranges(
    full, without_question, question, answer, passages
) -> None:
    found = signals(likelihoods(full, without_question), question, answer, passages)
    assert set(found) == {*SIGNALS, "repeated"}
    assert all(math.isfinite(value) for value in found.values())
    assert found["fit"] <= 0.0
    assert -6.0 <= found["information"] <= 12.0
    for name in ("type", "support", "echo", "repeated", "proximity"):
        assert 0.0 <= found[name] <= 1.0


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
