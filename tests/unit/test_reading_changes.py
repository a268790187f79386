"""What changed from one text to the next: the words, that nothing is lost, and huge texts."""

import random
import time
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


def test_the_end_of_a_text_may_go_without_its_words_running_together():
    changes = word_changes("It is a dam. It broke.", "It is a dam.")
    assert [(c.kind, c.text) for c in changes] == [
        ("same", "It is a dam."),
        ("removed", " It broke."),
    ]


def test_a_lone_word_amid_others_is_no_common_ground():
    before = "Wilhelm reached Edinburgh the seventeenth afterwards completely exhausted"
    after = "Nobody understood why the engineers abandoned everything"
    assert kinds(before, after) == [("removed", before), ("added", after)]


@pytest.mark.parametrize(("count", "vocabulary"), [(20_000, 5_000), (5_000, 2), (100_000, 1)])
def test_huge_texts_are_compared_in_seconds(count, vocabulary):
    draw = random.Random(0)
    before, after = (
        " ".join(f"w{draw.randrange(vocabulary)}" for _ in range(count + extra)) for extra in (0, 9)
    )
    start = time.process_time()
    changes = word_changes(before, after)
    assert time.process_time() - start < 10
    assert "".join(c.text for c in changes if c.kind != "removed") == after


def test_where_there_are_too_many_words_sentences_are_compared():
    same = " ".join(f"Number {n} is a number." for n in range(3_000))
    changes = word_changes(f"First one. {same} Last one.", f"First two! {same} Last two!")
    shared = max((c for c in changes if c.kind == "same"), key=lambda c: len(c.text))
    assert shared.text.strip() == same
