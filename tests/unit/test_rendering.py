"""Prompts as a model's template renders them, and thoughts kept apart from words."""

import pytest
from engines import TOKENIZER
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine.rendering import messages_of, prompt_text, render
from reflectory.models.protocol import Segment
from reflectory.models.thinking import split_thinking
from reflectory.testing.tiny import tiny_model

SHARED = (
    Segment(text="You answer from documents.", speaker="system", shared=True),
    Segment(text="Document 1: the crater is three million years old.", shared=True),
)


def test_messages_join_segments() -> None:
    segments = (*SHARED, Segment(text="Why?"))
    assert messages_of(segments) == [
        {"role": "system", "content": SHARED[0].text},
        {"role": "user", "content": f"{SHARED[1].text}\n\nWhy?"},
    ]
    (folded,) = messages_of(segments, system_role=False)
    assert folded["content"].startswith(SHARED[0].text)


def test_a_template_without_system_role_gets_one_user_message() -> None:
    _, tokenizer = tiny_model()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}"
        "[{{ m['content'] | trim }}]{% endfor %}>"
    )
    assert prompt_text(tokenizer, (*SHARED, Segment(text="Why? "))) == (
        f"[{SHARED[0].text}\n\n{SHARED[1].text}\n\nWhy?]>"
    )
    tokenizer.chat_template = None
    assert prompt_text(tokenizer, (Segment(text="a"), Segment(text="b"))) == "a\n\nb\n"


@given(st.text(alphabet="abteh \n?", max_size=12), st.text(alphabet="abteh \n?", max_size=12))
@settings(max_examples=50, deadline=None)
def test_shared_tokens_are_the_same_in_every_call(one: str, other: str) -> None:
    first = render(TOKENIZER, (*SHARED, Segment(text=one)))
    second = render(TOKENIZER, (*SHARED, Segment(text=other)))
    count = first.shared_tokens
    assert count == second.shared_tokens > 0
    assert first.token_ids[:count] == second.token_ids[:count]
    assert SHARED[1].text[:-4] in TOKENIZER.decode(list(first.token_ids[:count]))


def test_thinking_templates_are_closed_for_prefills() -> None:
    _, tokenizer = tiny_model()
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    asked = (Segment(text="Why?"),)
    assert render(tokenizer, asked).thinking
    closed = render(tokenizer, asked, "It is")
    assert not closed.thinking
    assert TOKENIZER.decode(list(closed.token_ids)).endswith("<think>\n</think>\n\nIt is")


@pytest.mark.parametrize(
    ("text", "opened", "said", "thought"),
    [
        ("plain", False, "plain", ""),
        ("<think>a</think> b", False, "b", "a"),
        ("<think>a</think>b<think>c</think>", False, "b", "a\n\nc"),
        ("b <think>cut", False, "b", "cut"),
        ("a</think>b", False, "b", "a"),
        ("cut before the end", True, "", "cut before the end"),
        ("a</think>b", True, "b", "a"),
    ],
)
def test_thinking_is_kept_apart(text: str, opened: bool, said: str, thought: str) -> None:
    assert split_thinking(text, opened=opened) == (said, thought)
