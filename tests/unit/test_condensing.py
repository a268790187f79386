"""Short answers inside long ones: which stretches count, and for which questions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.agents.citations import content_words
from reflectory.agents.condensing import (
    BRIEF_WORDS,
    asks_shortly,
    holds,
    is_short_answer,
    short_forms,
)
from reflectory.types import Passage


def passage(text: str, title: str = "") -> Passage:
    return Passage(id="k", document_id="k", title=title, text=text, start=0, end=len(text))


HELD = [
    passage(
        "Leonid Kulik led the first expedition to the crater in 1927. He found 60 million "
        "fallen trees near the Stony Tunguska River.",
        "Tunguska Event",
    )
]


@pytest.mark.parametrize(
    ("question", "said", "expected"),
    [
        (
            "Who led the first expedition?",
            "The expedition was led by Leonid Kulik in 1927.",
            {"Leonid Kulik", "1927"},
        ),
        ("When was it?", "It was in 1927, or in 1908.", {"1927"}),
        ("What is it called?", "They call it the Tunguska Event.", {"Tunguska Event"}),
        ("Who led the first expedition?", "Anna Berg led it.", set()),
        ("Who led the first expedition?", "", set()),
    ],
)
def test_names_and_dates_that_the_documents_hold_are_found(question, said, expected):
    assert set(short_forms(question, [said], HELD, most=12)) == expected


def test_what_was_said_most_often_comes_first():
    said = ["It was in 1927.", "Leonid Kulik, he.", "Leonid Kulik and Leonid Kulik, 1927.", "Kulik"]
    assert short_forms("Who led it?", [*said, "Leonid Kulik"], HELD, most=2) == [
        "Leonid Kulik",
        "1927",
    ]


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Leonid Kulik.", True),
        ("the CRATER", True),
        ("Tunguska event", True),
        ("No!", True),
        ("Leon", False),
        ("Kulik Leonid", False),
        ("", False),
        ("...", False),
    ],
)
def test_documents_hold_words_in_their_order(text, held):
    assert holds(HELD, text) is held


@pytest.mark.parametrize(
    ("question", "text", "short"),
    [
        ("Who led the expedition?", "Leonid Kulik.", True),
        ("Who led the first expedition?", "The first expedition.", False),
        ("What did Kulik find?", "60 million fallen trees", True),
        ("What did Kulik find?", "Kulik", False),
        ("What did Kulik find?", "Leonid Kulik", True),  # one word of its own is enough
        ("What did Kulik find?", "a crater of iron", False),  # no document holds it
        ("What did Kulik find?", "It.", False),  # no word that tells anything
        ("When was it?", "1927", True),
        ("Was the expedition in 1927?", "No.", True),
        ("Was it an expedition?", "an expedition", False),
        ("Which is older, the crater or the river?", "The crater", True),
    ],
)
def test_a_short_answer_says_what_the_question_does_not(question, text, short):
    assert is_short_answer(question, text, HELD) is short


def test_a_name_is_held_as_whole_words_only():
    assert short_forms("Who was it?", ["It was Leon Kuli."], HELD, most=12) == []
    assert short_forms("Who was it?", ["It was Kulik."], HELD, most=12) == ["Kulik"]


def test_what_the_question_says_is_no_answer_to_it():
    said = ["Leonid Kulik led it, says Leonid."]
    assert short_forms("Whom did Leonid Kulik meet?", said, HELD, most=12) == []


def test_yes_or_no_has_these_two_whatever_was_said():
    question = "Was the expedition led by Kulik?"
    assert short_forms(question, ["Leonid Kulik, in 1927"], HELD, most=12) == ["Yes", "No"]
    assert short_forms(question, [], [], most=1) == ["Yes"]


def test_a_choice_has_what_the_question_names():
    question = "Was it Leonid Kulik or the Stony Tunguska River?"
    found = short_forms(question, ["I do not know."], HELD, most=12)
    assert found == ["Leonid Kulik", "Stony Tunguska River"]


def test_the_first_come_first_and_each_comes_once():
    said = ["In 1927, Leonid Kulik.", "leonid kulik came in 1927 to the Stony Tunguska River."]
    found = short_forms("Who was it?", said, HELD, most=12)
    assert {"1927", "Leonid Kulik"} <= set(found[: found.index("Stony Tunguska River")])
    assert len({name.lower() for name in found}) == len(found)
    assert short_forms("Who was it?", said, HELD, most=1) == found[:1]


def test_the_order_of_texts_is_the_order_of_forms():
    said = ["It was Leonid Kulik.", "It was in 1927."]
    assert short_forms("What was it?", said, HELD, most=12) == ["Leonid Kulik", "1927"]
    assert short_forms("What was it?", said[::-1], HELD, most=12) == ["1927", "Leonid Kulik"]


@pytest.mark.parametrize(
    ("question", "shortly"),
    [
        ("Who led the first expedition?", True),
        ("In which year was it?", True),
        ("How many trees fell?", True),
        ("Was it Kulik?", True),
        ("Was it Kulik or Berg?", True),
        ("Why did the trees fall?", False),
        ("How did the trees fall?", False),
        ("Explain why the trees fell.", False),
        ("Summarise the documents.", False),
        ("Write about the trees.", False),
        ("", False),
    ],
)
def test_a_question_for_an_explanation_is_not_answered_shortly(question, shortly):
    assert asks_shortly(question) is shortly


@settings(max_examples=60, deadline=None)
@given(
    question=st.sampled_from(["Who was it?", "When?", "Was it Kulik or Berg?", "Is it?", "Why?"])
    | st.text(max_size=30),
    said=st.lists(
        st.text(max_size=40) | st.sampled_from(["Leonid Kulik, 1927.", "[3]", "60 million trees"]),
        max_size=3,
    ),
    most=st.integers(1, 5),
)
def test_every_form_is_short_known_and_new(question, said, most):
    forms = short_forms(question, said, HELD, most=most)
    assert len(forms) <= most
    assert forms == short_forms(question, said, HELD, most=most)
    if forms and forms[0] == "Yes":
        return
    held = content_words(HELD[0].title + " " + HELD[0].text)
    for form in forms:
        assert 1 <= len(form.split()) <= BRIEF_WORDS
        assert set(content_words(form)) <= set(held)
