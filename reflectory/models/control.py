"""Control tokens spelt out in a text, broken so that no model reads them as control.

A chat template marks who speaks with tokens such as ``<|im_end|>``. A tokenizer makes
the same token of the same characters wherever they stand, so a document, an answer or a
question that holds them could end the user's turn and speak as the system. A space
behind the first character keeps the text readable and the token away.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from reflectory.models.thinking import CLOSE, OPEN

_SHORTEST = 3
"""Characters of a token that a space can break without changing ordinary text."""
_WIDESPREAD = re.compile(
    r"<\|[\w ./-]{1,40}\|>"  # ChatML, Llama 3, Phi, GPT
    r"|<\uff5c[^<>\uff5c]{1,40}\uff5c>"  # DeepSeek
    r"|</?(?:s|bos|eos|start_of_turn|end_of_turn|think)>"  # Llama 2, Gemma, thinking
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]|<</?SYS>>"  # Mistral
)
_KNOWN: WeakKeyDictionary[Any, tuple[str, ...]] = WeakKeyDictionary()
"""A tokenizer is asked once, for it makes its list anew each time."""


def control_tokens_of(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts of a tokenizer's control tokens, and the marks of thinking.

    Args:
        tokenizer: A transformers tokenizer.
    """
    known = _KNOWN.get(tokenizer)
    if known is None:
        known = _KNOWN[tokenizer] = _control_tokens(tokenizer)
    return known


def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    found = {str(token) for token in added.values() if getattr(token, "special", False)}
    found |= {str(token) for token in getattr(tokenizer, "all_special_tokens", None) or ()}
    found = {token for token in found if len(token.strip()) >= _SHORTEST}
    return tuple(sorted(found | {OPEN, CLOSE}))


def without_control(text: str, tokens: tuple[str, ...]) -> str:
    """Return a text in which none of the tokens stands any more.

    Args:
        text: What the model is to read as text.
        tokens: From :func:`control_tokens_of`.
    """
    return _broken(text, _pattern(tokens))


def without_widespread_control(text: str) -> str:
    """Return a text without the control tokens of widespread model families.

    For models on servers, whose tokenizer is not known here.
    """
    return _broken(text, _WIDESPREAD)


def _broken(text: str, pattern: re.Pattern[str]) -> str:
    # What is left of one token can be the beginning of another: until there is none.
    while pattern.search(text):
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


@lru_cache(maxsize=64)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))
