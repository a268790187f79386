"""The class of thing that a question asks for: the noun behind what and which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.asked_class import asked_class


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What prize did the bridge win?", "prize"),
        ("Which river does the old mill stand on?", "river"),
        ("WHICH COUNTRY bought the ship?", "country"),
        # Without what stands before the noun, and behind a small word of place or time.
        ("Which wide green valley holds the observatory?", "valley"),
        ("In which valley was the observatory built?", "valley"),
        ("Of which orchestra was she the leader?", "orchestra"),
        ("At what temperature does tin melt?", "temperature"),
        # "What is the": the noun is on the other side of the verb.
        ("What are the colours of the flag?", "colours"),
        ("What is the name of the ferry that crossed the strait?", "ferry"),
        # A kind of something is that thing.
        ("What kind of stone is the lighthouse made of?", "stone"),
        ("what type of animal is a newt", "animal"),
        # At the end of a sentence, or behind its beginning.
        ("The ship was built in what shipyard?", "shipyard"),
        ("The expedition left from which port?", "port"),
        ("Regarding Ada Frey, what instrument did she play?", "instrument"),
    ],
)
def test_the_noun_of_what_and_which_is_asked_for(question: str, found: str) -> None:
    assert asked_class(question) == found


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Who designed the clock tower?", "person"),
        ("Where was the treaty signed?", "place"),
        ("When did the mine close?", "date"),
        ("How many arches has the aqueduct?", "number"),
    ],
)
def test_who_where_when_and_how_many_have_classes_of_their_own(question: str, found: str) -> None:
    assert asked_class(question) == found


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What?",
        "The mayor was called what?",
        "Is the harbour deep?",  # yes or no
        "Which is older, the mill or the barn?",  # one of two that are named
        "Why did the bridge fall?",  # no name at all
        "Explain the tides.",
        "Which composer's opera opened the hall?",  # an opera, which the rules do not reach
        "What did the surveyors measure first?",  # says nothing of what it is
    ],
)
def test_what_names_no_class_has_none(question: str) -> None:
    assert asked_class(question) == ""


SMALL = (
    "what",
    "which",
    "who",
    "whose",
    "where",
    "how",
    "many",
    "in",
    "of",
    "the",
    "a",
    "is",
    "was",
)
OTHERS = ("kind", "sort", "name", "part", "mill", "mill's", "old", "called", "3", ",", "?", "-")
WORDS = st.lists(st.sampled_from((*SMALL, *OTHERS)), max_size=12).map(" ".join)


@given(WORDS | st.text(max_size=80))
def test_it_is_one_word_in_lower_case_or_nothing(question: str) -> None:
    found = asked_class(question)
    assert found == "" or len(found.split()) == 1
    assert found == found.lower()
    assert asked_class(f"  {question}\n") == found


@given(WORDS)
def test_capitals_and_blanks_change_nothing(question: str) -> None:
    found = asked_class(question)
    assert asked_class(question.upper()) == asked_class(question.replace(" ", "  ")) == found
