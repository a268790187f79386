"""What a page or a terminal cannot show of the texts of models and documents."""

from __future__ import annotations

import re

_HALVES = re.compile("[\ud800-\udfff]")
# Control characters, and those that turn the rest of a line around, also what others wrote.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return a text without what a page or a terminal cannot show.

    Control characters go, except line breaks and tabs, and so do those that change the
    direction of writing for what follows; halves of characters become U+FFFD.
    """
    return _UNSHOWN.sub("", _HALVES.sub("\N{REPLACEMENT CHARACTER}", text))
