"""The context: what is chosen, in which order, within which budget, and how it is shown."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.retrieval.context import aggregate, extend, render_passages
from reflectory.types import Passage, ScoredPassage


def words(text):
    return len(text.split())


def passage(name, text, *, start=0, title="T"):
    document, _, _ = name.partition("#")
    return Passage(
        id=name, document_id=document, title=title, text=text, start=start, end=start + len(text)
    )


def scored(score, *args, **fields):
    return ScoredPassage(passage=passage(*args, **fields), score=score)


def chosen(items, limit=10, budget=1000, count=words):
    return aggregate(items, limit=limit, token_budget=budget, count_tokens=count)


def ids(passages):
    return [p.id for p in passages]


# --- aggregate -------------------------------------------------------------------------


def test_the_best_document_comes_first_and_its_passages_in_reading_order():
    items = [
        scored(0.9, "b#2", "third of beta", start=200),
        scored(0.8, "a#0", "first of alpha"),
        scored(0.7, "b#0", "first of beta", start=0),
        scored(0.6, "c#0", "first of gamma"),
    ]
    assert ids(chosen(items)) == ["b#0", "b#2", "a#0", "c#0"]
    assert ids(chosen(items, limit=2)) == ["b#2", "a#0"]


@given(st.permutations(range(6)))
def test_the_order_of_the_input_does_not_matter(order):
    items = [scored(0.5, f"d{n}#0", f"text number {n}") for n in range(6)]
    assert ids(chosen([items[n] for n in order], limit=3)) == ["d0#0", "d1#0", "d2#0"]


@pytest.mark.parametrize(
    ("text", "other", "repeats"),
    [
        ("The crater is old.", "The crater is old.", True),
        ("The crater is old.", "the  CRATER\nis old", True),
        ("The café is old.", "A cafe is **old**!", True),
        ("The crater is old. It is deep.", "It is deep.", True),
        ("It is deep.", "The crater is old. It is deep.", False),
        ("The crater is 3 million years old.", "The crater is 4 million years old.", False),
        ("The crater is old.", "The crater is not old.", False),
        ("He deepened it.", "deepened", True),
        ("He deepened it.", "deep", False),
    ],
)
def test_repeats_are_left_out_and_disagreements_kept(text, other, repeats):
    items = [scored(0.9, "a#0", text), scored(0.8, "b#0", other)]
    assert ids(chosen(items)) == (["a#0"] if repeats else ["a#0", "b#0"])


def test_the_same_id_is_taken_once():
    items = [scored(0.9, "a#0", "one text"), scored(0.8, "a#0", "another text")]
    assert [p.text for p in chosen(items)] == ["one text"]


def test_what_does_not_fit_is_skipped_for_what_does():
    items = [
        scored(0.9, "a#0", "word " * 10),
        scored(0.8, "b#0", "other " * 50),
        scored(0.7, "c#0", "short one"),
    ]
    assert ids(chosen(items, budget=20)) == ["a#0", "c#0"]


def test_the_best_passage_is_shortened_at_a_sentence_only_when_nothing_fits():
    text = "First sentence is here. Second one is here. " + "Third is long " * 30
    items = [scored(0.9, "a#3", text, start=100)]
    (short,) = chosen(items, budget=12)
    assert short.text == "First sentence is here. Second one is here."
    assert (short.id, short.start, short.end) == ("a#3", 100, 100 + len(short.text))
    other = scored(0.1, "b#0", "It fits.")
    assert ids(chosen([*items, other], budget=12)) == ["b#0"]


def test_without_a_sentence_that_fits_it_is_cut_at_a_word_and_may_lose_its_title():
    (short,) = chosen([scored(0.9, "a#0", "word " * 30, title="A title")], budget=10)
    assert short.text == "word word word word word word word" and short.title == "A title"
    (bare,) = chosen([scored(0.9, "a#0", "word " * 30, title="title " * 20)], budget=5)
    assert (bare.text, bare.title) == ("word word word word", "")


def test_nothing_from_nothing():
    assert chosen([]) == []
    assert chosen([scored(1, "a#0", "text")], limit=0) == []
    assert chosen([scored(1, "a#0", "text")], budget=1) == []


TEXTS = st.lists(
    st.sampled_from(["red", "rock.", "Blue", "sea!", "old", "new", "[3]", "x\n\n", "and"]),
    min_size=1,
)
SCORED = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from("abc"), TEXTS.map(" ".join)),
    max_size=12,
).map(
    lambda rows: [
        scored(score, f"{name}#{n}", text, start=n * 1000)
        for n, (score, name, text) in enumerate(rows)
        if text.strip()
    ]
)


@settings(max_examples=200, deadline=None)
@given(SCORED, st.integers(0, 5), st.integers(3, 60), st.sampled_from([words, len]))
def test_limit_and_budget_hold_and_passages_are_true_to_their_source(items, limit, budget, count):
    result = chosen(items, limit, budget, count)
    assert len(result) <= limit
    assert count(render_passages(result)) <= budget or not result
    originals = {item.passage.id: item.passage for item in items}
    for found in result:
        original = originals[found.id]
        assert original.text.startswith(found.text) and found.text
        assert (found.start, found.end) == (original.start, original.start + len(found.text))
    assert len(set(ids(result))) == len(result)
    if items and limit and budget >= 20:
        assert result or count is len


# --- extend ----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(SCORED, SCORED, st.integers(1, 80))
def test_extend_only_appends_within_the_budget(first, second, budget):
    context = chosen(first, budget=40)
    new = [item.passage for item in second]
    result = extend(context, new, token_budget=budget, count_tokens=words)
    assert result[: len(context)] == context
    assert len(set(ids(result))) == len(result)
    added = result[len(context) :]
    assert ids(added) == [name for name in ids(new) if name in set(ids(added))]
    assert not added or words(render_passages(result)) <= budget


def test_extend_leaves_out_repeats_and_what_does_not_fit():
    context = [passage("a#0", "The crater is old.")]
    new = [
        passage("a#0", "Changed text."),
        passage("b#0", "the crater is OLD"),
        passage("c#0", "long " * 50),
        passage("d#0", "New fact."),
        passage("e#0", "new fact!"),
    ]
    result = extend(context, new, token_budget=20, count_tokens=words)
    assert ids(result) == ["a#0", "d#0"]


# --- rendering -------------------------------------------------------------------------


def test_passages_are_numbered_blocks():
    passages = [passage("a#0", "One.\n\nTwo.", title="Moon"), passage("b#0", "Three.", title="")]
    assert render_passages(passages) == "[1] Moon\nOne.\nTwo.\n\n[2]\nThree."
    assert render_passages(passages[1:], first_number=7) == "[7]\nThree."
    assert render_passages([]) == ""


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("[]12 \n\r\u2028\v\x85\u3000ab<|>/"), max_size=30),
            st.text(st.sampled_from("[]12 \n\r\u2028\v\x85\u3000ab<|>/"), max_size=60),
        ),
        max_size=5,
    )
)
def test_no_text_can_pass_for_a_block_or_a_special_token(rows):
    passages = [passage(f"d#{n}", text, title=title) for n, (title, text) in enumerate(rows)]
    rendered = render_passages(passages, first_number=3)
    headers = [line for line in rendered.splitlines() if re.match(r"\s*\[\s*\d+\s*\]", line)]
    assert [int(re.search(r"\d+", line)[0]) for line in headers] == list(
        range(3, 3 + len(passages))
    )
    assert "<|" not in rendered and "|>" not in rendered
    assert not re.search(r"<[/|]?[a-z|]+>", rendered)


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|start_header_id|>",
        "<\uff5cUser\uff5c>",
        "<start_of_turn>",
        "<s>",
        "</s>",
        "<<SYS>>",
        "[INST]",
        "[/INST]",
        "[TOOL_CALLS]",
        "<think>",
        "</think>",
        "<repo_name>",
        "<unk>",
    ],
)
def test_special_tokens_do_not_survive_in_text_or_title(token):
    shown = render_passages([passage("a#0", f"before {token}system after", title=f"x{token}")])
    assert token not in shown
    assert "before" in shown and "system after" in shown


def test_ordinary_text_is_shown_as_it_is():
    text = "If a < b and b > c, then [sic] f(x) = 3 <= 4; see [12] within a line."
    assert render_passages([passage("a#0", text)]) == f"[1] T\n{text}"


def test_a_long_title_is_cut():
    shown = render_passages([passage("a#0", "x", title="word " * 200)])
    assert len(shown.splitlines()[0]) <= len("[1] ") + 120


def test_rendering_takes_linear_time():
    import time

    for text in (
        "[" * 400_000,
        "<" * 400_000,
        " " * 400_000 + "x",
        "<a" * 200_000,
        "\n \r" * 100_000,
    ):
        start = time.process_time()
        render_passages([passage("a#0", text)])
        assert time.process_time() - start < 2
