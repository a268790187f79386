"""The names under which the first sentence of a document introduces its subject."""

# ruff: noqa: RUF001  (dashes between years are what this is about)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.retrieval.structure.definitions import defined_names


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("Marktown is a community in Indiana.", ["Marktown"]),
        ("The Missouri Compromise was an agreement.", ["Missouri Compromise"]),
        ("Relativity is the debut album of a band.", ["Relativity"]),
        ("Beer mug (stein), or simply mug, is a vessel.", ["Beer mug"]),
        ("Life Is Rough is a film.", ["Life Is Rough"]),
        ("Salt & Pepper's Kitchen (also seen elsewhere) is a show.", ["Salt & Pepper's Kitchen"]),
        (
            "Anna Carey, Viscountess of Hill (1801 – 1870) was a writer.",
            ["Anna Carey, Viscountess of Hill", "Anna Carey"],
        ),
        ("Mary Ann Field (born 2 May 1951) is a pilot.", ["Mary Ann Field", "Mary Field"]),
        (
            'Leslie "Les" Witt (1911 – 1973) was a player.',
            ["Leslie Les Witt", "Leslie Witt", "Les Witt"],
        ),
        ("John van Dorn AIA (1869 – 1926) was an architect.", ["John van Dorn AIA"]),
        (
            "Glen F. Post III (born 1952) is a manager.",
            ["Glen F. Post III", "Glen F. Post", "Glen Post"],
        ),
        ("Kathe or Katoe is a word.", ["Kathe", "Katoe"]),
    ],
)
def test_the_stretch_before_the_verb_and_its_shorter_forms(sentence, names):
    assert list(defined_names(sentence)) == names


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "In 1820 Maine was admitted.",
        "Here Mercury is a planet.",
        "This is a list of ministers.",
        "It rained.",
        "a lower-case beginning is no name.",
        "Somebody ran away.",
        "One two three four five six seven eight nine ten eleven is a lot of words.",
    ],
)
def test_a_sentence_that_defines_nothing(sentence):
    assert list(defined_names(sentence)) == []


@given(st.text())
def test_no_text_breaks_it_and_no_name_is_given_twice(text):
    names = list(defined_names(text))
    assert len(names) == len(set(names))
    assert all(name.strip() for name in names)
