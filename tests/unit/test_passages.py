"""Passages: invariants over any text, and the choices that follow a text's structure."""

# ruff: noqa: RUF001  (the marks of other scripts are meant)

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.retrieval.passages import estimate_tokens, longest_prefix, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.sentences import blocks, sentences
from reflectory.types import Document


def words(text):
    return len(text.split())


def pieces(text):
    """Like a subword tokenizer: four characters a token, and line ends count too."""
    return sum(-(-len(word) // 4) for word in text.split()) + text.count("\n")


def white(text):
    return "".join(text.split())


def split(text, max_tokens=20, count=words, **fields):
    document = preprocess(Document(id="d", title="T", text=text, **fields))
    return document, split_passages(document, max_tokens=max_tokens, count_tokens=count)


ATOMS = st.sampled_from(
    [
        "Dr. ",
        "A fact. ",
        "word ",
        "Why? ",
        "\n",
        "\n\n",
        "# Head\n",
        "- item\n",
        "1. one\n",
        "3.14 ",
        "```\n",
        "===\n",
        "今天很好。",
        "\t",
        "e\u0301",
        "👩\u200d🚀",
        "x" * 50,
        '"Yes." ',
        "\u00a0",
        "(a) ",
    ]
)
TEXTS = st.one_of(st.lists(ATOMS, max_size=60).map("".join), st.text(max_size=300))


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 30), st.sampled_from([words, len, pieces, estimate_tokens]))
@example("a", 1, len)
@example("\n# a\n\n# b\n", 1, len)
def test_passages_are_slices_in_order_that_cover_everything_within_the_limit(text, limit, count):
    document, passages = split(text, limit, count)
    end = 0
    for number, passage in enumerate(passages):
        assert passage.id == f"d#{number}"
        assert passage.text == document.text[passage.start : passage.end]
        assert passage.text and passage.text == passage.text.strip()
        assert passage.start >= end
        assert not document.text[end : passage.start].strip()
        assert count(passage.text) <= limit or len(passage.text) == 1
        end = passage.end
    assert not document.text[end:].strip()


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_blocks_and_sentences_lose_nothing(text):
    assert white("".join(text[b.start : b.end] for b in blocks(text))) == white(text)
    assert white("".join(text[a:b] for a, b in sentences(text))) == white(text)
    assert all(text[b.start : b.end].strip() == text[b.start : b.end] for b in blocks(text))


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(lambda t: not t[0].isspace()), st.integers(1, 60))
def test_longest_prefix_fits_or_is_one_character(text, limit):
    cut = longest_prefix(text, 0, len(text), lambda piece: len(piece) <= limit, guess=7)
    assert 1 <= cut <= len(text)
    assert len(text[:cut].rstrip()) <= limit
    if len(text) <= limit:
        assert cut == len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. J. R. Smith came. He left.", 2),
        ("It cost $3.5 million. It sank.", 2),
        ('"Why?" he asked. Nobody knew.', 2),
        ("See Fig. 2 and pp. 3 to 5. Then rest.", 2),
        ("The U.S. Army moved. It won.", 2),
        ("He lives in the U.S. He works.", 2),
        ("Apple Inc. Magazine is new.", 1),
        ("Yahoo! is a company.", 1),
        ("Wait... what is it?", 1),
        ("It ended... The rest is known.", 2),
        ("Am 3. Oktober kam er. Dann ging er.", 2),
        ("今天天气很好。我们去公园！「好。」他说。", 4),
        ("यह एक है। वह दो है।", 2),
        ("The answer is no. He left.", 2),
        ("It is No. 5 of them.", 1),
        ("e.g. this, i.e. that.", 1),
        ("George W. Bush spoke.", 1),
        ("(It rained.) We left.", 2),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, expected):
    assert len(list(sentences(text))) == expected


def test_a_passage_ends_with_a_sentence_when_sentences_fit():
    text = " ".join(f"Sentence number {n} has exactly seven words." for n in range(50))
    _, passages = split(text, 20)
    assert all(passage.text.endswith("words.") for passage in passages)
    assert all(words(passage.text) == 14 for passage in passages)


def test_a_paragraph_is_kept_whole_when_the_passage_before_it_is_half_full():
    first, second = "one two three. " * 4, "four five six. " * 4
    _, passages = split(f"{first}\n\n{second}", 20)
    assert [passage.text for passage in passages] == [first.strip(), second.strip()]


def test_short_paragraphs_share_a_passage():
    _, passages = split("One line here.\n\nAnother line here.\n\nA third.", 20)
    assert len(passages) == 1


def test_a_heading_starts_a_passage_and_stays_with_its_text():
    text = "# One\n\nShort text.\n\n## Two\n\nOther text.\n\nThree\n=====\n\nLast."
    _, passages = split(text, 40)
    assert [p.text.split("\n")[0] for p in passages] == ["# One", "## Two", "Three"]
    assert passages[1].text.endswith("Other text.")


def test_a_title_line_is_not_left_at_the_end_of_a_passage():
    body = "alpha beta gamma delta. " * 4
    _, passages = split(f"{body}\n\nChapter Two\n\n{body}", 19)
    assert passages[1].text.startswith("Chapter Two")


def test_a_comment_in_a_code_fence_is_no_heading():
    _, passages = split("Text here.\n\n```\n# not a heading\nx = 1\n```\n\nMore text.", 40)
    assert len(passages) == 1


def test_a_long_sentence_is_cut_between_words_and_a_long_word_between_characters():
    _, passages = split("word " * 95, 10)
    assert [words(p.text) for p in passages] == [10] * 9 + [5]
    _, passages = split("x" * 95, 10, len)
    assert sum(len(p.text) for p in passages) == 95
    assert all(len(p.text) <= 10 for p in passages)


def test_an_emoji_made_of_several_characters_is_not_cut_apart():
    rocket = "👩\u200d🚀"
    _, passages = split(rocket * 20, 7, len)
    assert all(len(p.text) % 3 == 0 for p in passages)


def test_pages_count_from_one():
    text = "First page here.\n\nSecond page here."
    _, passages = split(text, 3, pages=(0, 18))
    assert [p.page for p in passages] == [1, 2]
    assert split("No pages.")[1][0].page is None


def test_empty_text_has_no_passages_and_a_limit_below_one_is_refused():
    assert split(" \n\n ")[1] == []
    with pytest.raises(UserError, match="max_tokens is 0"):
        split("text", 0)


def test_the_counter_reads_each_character_only_a_few_times():
    seen = []

    def count(text):
        seen.append(len(text))
        return words(text)

    text = ("The station measured ice near the coast in winter. " * 12 + "\n\n") * 100
    _, passages = split(text, 120, count)
    assert sum(seen) < 3.5 * len(text)
    assert len(seen) < 16 * len(passages)


@pytest.mark.parametrize(
    "unit",
    ["word ", "x", "Mr. ", "# a\n", "\n \t", "- a\n", "`", "...", "a. ", "e\u0323\u0301\u0302"],
)
def test_a_strange_text_takes_linear_time(unit):
    def seconds(size):
        # Of this thread: torch's workers, which earlier tests started, spin beside it.
        start = time.thread_time()
        split(unit * (size // len(unit)), 100, estimate_tokens)
        return time.thread_time() - start

    seconds(20_000)
    assert seconds(400_000) < 12 * max(seconds(100_000), 0.02)
