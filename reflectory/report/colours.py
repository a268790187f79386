"""The colour of a value where no matplotlib is at hand: in HTML."""

from __future__ import annotations

from itertools import pairwise

# ColorBrewer's Oranges, from which matplotlib makes its map of the same name.
_ORANGES = (
    (255, 245, 235),
    (254, 230, 206),
    (253, 208, 162),
    (253, 174, 107),
    (253, 141, 60),
    (241, 105, 19),
    (217, 72, 1),
    (166, 54, 3),
    (127, 39, 4),
)
_FIRST = 0.1  # the palest end is that of a pending cell, as in the pictures


def orange(value: float) -> tuple[str, str]:
    """Return background and ink for a value, the background as in the pictures.

    Args:
        value: In [0, 1].

    Returns:
        Two colours as CSS writes them; their contrast is at least 4.5 (WCAG 2).
    """
    place = (_FIRST + (1.0 - _FIRST) * min(max(value, 0.0), 1.0)) * (len(_ORANGES) - 1)
    index = min(int(place), len(_ORANGES) - 2)
    low, high = list(pairwise(_ORANGES))[index]
    part = place - index
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    light = _luminance(red, green, blue)
    ink = "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"
    return f"#{red:02x}{green:02x}{blue:02x}", ink


def _luminance(*channels: int) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in channels)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
