"""Which passages an answer rests on: marks that are read, and overlap where there are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.citations import attribute, content_words, split_citations
from reflectory.types import Passage


def passage(number: int, text: str, title: str = "") -> Passage:
    return Passage(
        id=f"p{number}",
        document_id=f"d{number}",
        title=title,
        text=text,
        start=0,
        end=len(text),
    )


CONTEXT = [
    passage(1, "Fleming saw a mould in London in 1928."),
    passage(2, "Florey and Chain made penicillin in Oxford."),
    passage(3, "A policeman was the first patient.", title="Heatley"),
]


@pytest.mark.parametrize(
    ("said", "text", "cited"),
    [
        ("In London [1].", "In London.", ("p1",)),
        ("In Oxford [2], after London [1], in Oxford [2].", "", ("p2", "p1")),
        ("Both [1, 2] say so.", "Both say so.", ("p1", "p2")),
        ("Both [2;1] say so.", "Both say so.", ("p2", "p1")),
        ("Both [1][3].", "Both.", ("p1", "p3")),
        ("[1] In London", "In London", ("p1",)),
        ("In 1928\n[3]", "In 1928", ("p3",)),
        ("The flight [447] was late.", "The flight [447] was late.", ()),
        ("Nothing [0].", "Nothing [0].", ()),
        ("One of these [1, 9] is not there.", "One of these [1, 9] is not there.", ()),
        ("No [source] here [].", "No [source] here [].", ()),
        ("[2]", "", ("p2",)),
        ("", "", ()),
    ],
)
def test_marks(said: str, text: str, cited: tuple[str, ...]) -> None:
    found = split_citations(said, CONTEXT)
    assert found[1] == cited
    if text or not cited or said == "[2]":
        assert found[0] == text


def test_without_context_no_number_is_a_mark() -> None:
    assert split_citations("It is so [1].", []) == ("It is so [1].", ())


WORD = st.text(alphabet="abc ,.\n", min_size=1, max_size=8)
NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=3)


@given(st.lists(st.tuples(WORD, NUMBERS), max_size=6), st.integers(0, 6))
def test_marks_that_name_passages_go_and_all_others_stay(
    pieces: list[tuple[str, list[int]]], size: int
) -> None:
    context = [passage(n, "x") for n in range(1, size + 1)]
    said = "".join(f"{word}[{', '.join(map(str, numbers))}]" for word, numbers in pieces)
    text, cited = split_citations(said, context)

    known = [numbers for _, numbers in pieces if all(1 <= n <= size for n in numbers)]
    order = list(dict.fromkeys(f"p{n}" for numbers in known for n in numbers))
    assert list(cited) == order
    for _, numbers in pieces:
        mark = f"[{', '.join(map(str, numbers))}]"
        assert (mark in text) == (numbers not in known)
    letters = [c for word, _ in pieces for c in word if c.isalpha()]
    assert [c for c in text if c.isalpha()] == letters
    assert split_citations(text, context) == (text, ())


@given(st.text(max_size=200), st.integers(0, 5))
def test_any_text_can_be_split(said: str, size: int) -> None:
    text, cited = split_citations(said, [passage(n, "x") for n in range(1, size + 1)])
    assert len(set(cited)) == len(cited)
    assert set(cited) <= {f"p{n}" for n in range(1, size + 1)}
    assert text == text.strip()


def test_an_answer_is_attributed_to_the_passage_with_its_rarer_words() -> None:
    assert attribute("It was Fleming, in London.", CONTEXT) == ("p1",)
    assert attribute("Chain worked in Oxford.", CONTEXT) == ("p2",)
    # A title is part of what the student reads.
    assert attribute("Heatley", CONTEXT) == ("p3",)
    assert attribute("Fleming in London, Florey in Oxford", CONTEXT) == ("p1", "p2")
    assert attribute("Fleming in London, Florey in Oxford", CONTEXT, most=1) == ("p1",)


def test_an_answer_that_repeats_nothing_is_attributed_to_none() -> None:
    assert attribute("Nobody knows.", CONTEXT) == ()
    assert attribute("It was in the.", CONTEXT) == ()
    assert attribute("", CONTEXT) == ()
    assert attribute("Fleming", []) == ()
    # What is left of a genitive is no word.
    assert attribute("Joseph's", [passage(1, "Fleming's mould")]) == ()


WORDS = st.lists(
    st.sampled_from(["ash", "birch", "cedar", "elm", "fir", "the", "of", "is"]), max_size=8
)


@given(WORDS, st.lists(WORDS, max_size=6), st.integers(1, 4))
def test_attribution_names_only_what_shares_a_word(
    said: list[str], texts: list[list[str]], most: int
) -> None:
    context = [passage(n, " ".join(words)) for n, words in enumerate(texts, start=1)]
    answer = " ".join(said)
    named = attribute(answer, context, most=most)
    assert len(named) <= most
    assert len(set(named)) == len(named)
    words = set(content_words(answer))
    shared = {p.id: words & set(content_words(p.text)) for p in context}
    assert all(shared[i] for i in named)
    assert bool(named) == any(shared.values())
    # The best one is first: no other passage holds all of its words and more.
    if named:
        assert not any(shared[named[0]] < other for other in shared.values())


def test_passages_with_equal_claims_keep_their_order() -> None:
    """A sum over a set depends on the order of hashes, and with it on the process."""
    for trial in range(50):
        # Word i of either passage is also held by i others, so both weigh the same.
        first = [f"first{trial}x{i}" for i in range(9)]
        second = [f"second{trial}x{i}" for i in range(9)]
        others = [" ".join(first[i:] + second[i:]) for i in range(1, 9)]
        context = [
            passage(n, text)
            for n, text in enumerate([" ".join(second), " ".join(first), *others], start=1)
        ]
        named = attribute(" ".join([*first, *second]), context, most=9)
        both = attribute(" ".join([*first, *second]), context[:2], most=2)
        assert named.index("p1") + 1 == named.index("p2"), trial
        assert both == ("p1", "p2")
