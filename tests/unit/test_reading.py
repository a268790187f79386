"""A trajectory as it is read: the changes of words, and that nothing is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.report.reading import word_changes


def kinds(before, after):
    return [(change.kind, change.text.strip()) for change in word_changes(before, after)]


def test_words_that_changed_are_named_in_reading_order():
    assert kinds("The core is 3.5 km wide.", "The outer core is 3.6 km wide.") == [
        ("same", "The"),
        ("added", "outer"),
        ("same", "core is"),
        ("removed", "3.5"),
        ("added", "3.6"),
        ("same", "km wide."),
    ]


@pytest.mark.parametrize("text", ["", "a", "one two\n three", "太阳的核心", "  ", "नमस्ते दुनिया"])
def test_equal_texts_have_no_change(text):
    assert all(change.kind == "same" for change in word_changes(text, text))


def test_scripts_without_spaces_are_compared_by_character_and_accents_stay_with_their_word():
    assert kinds("太阳的核心", "太阳的内核心") == [
        ("same", "太阳的"), ("added", "内"), ("same", "核心"),
    ]  # fmt: skip
    assert kinds("नमस्ते दुनिया", "नमस्ते भारत")[1:] == [("removed", "दुनिया"), ("added", "भारत")]


@given(st.text(alphabet="ab .\n"), st.text(alphabet="ab .\n"))
def test_nothing_is_lost(before, after):
    changes = word_changes(before, after)
    assert "".join(c.text for c in changes if c.kind != "removed") == after
    kept = "".join(c.text for c in changes if c.kind != "added")
    assert "".join(kept.split()) == "".join(before.split())
    assert all(one.kind != other.kind for one, other in pairwise(changes))
