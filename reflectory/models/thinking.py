"""Thinking blocks of reasoning models, kept apart from what they say.

Used by every backend, so that a question, an answer or a grade never contains
what the model only thought. Imports nothing heavy.
"""

from __future__ import annotations

import re

OPEN = "<think>"
CLOSE = "</think>"

_BLOCK = re.compile(re.escape(OPEN) + r"(.*?)(?:" + re.escape(CLOSE) + r"|\Z)", re.DOTALL)


def split_thinking(text: str, *, opened: bool = False) -> tuple[str, str]:
    """Return what a model said and what it thought.

    Handles closed blocks, a block that a length limit cut (everything behind
    the tag is thought), and a closing tag without an opening one, which is what
    comes back when the chat template wrote the opening tag.

    Args:
        text: The completion as the model wrote it.
        opened: Whether the prompt ended inside a block, so that ``text`` begins
            with thought even if it never closes it.

    Returns:
        The text without blocks and the content of the blocks, both stripped;
        several blocks are joined by an empty line.
    """
    first_open, first_close = text.find(OPEN), text.find(CLOSE)
    closes_before = first_close >= 0 and (first_open < 0 or first_close < first_open)
    if opened or closes_before:
        text = OPEN + text
    thoughts = [block.strip() for block in _BLOCK.findall(text)]
    said = _BLOCK.sub("", text).strip()
    return said, "\n\n".join(thought for thought in thoughts if thought)


def ends_inside_thinking(text: str) -> bool:
    """Return whether ``text`` has an opening tag that it does not close."""
    return text.rfind(OPEN) > text.rfind(CLOSE)
