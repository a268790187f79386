"""Words of any script, for comparing texts.

Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer) are
taken character by character: a run of n of these is a shorter text than n words, so a
comparison errs on the side of finding something.
"""

from __future__ import annotations

import re
import unicodedata

from reflectory.evaluation.metrics import normalise_answer

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# What separates words besides white space: ASCII's, general and CJK punctuation, and the
# marks of Latin, Greek, Armenian, Hebrew, Arabic, Devanagari and Ethiopic texts.
_BETWEEN = (
    "\\s!-/:-@\\[-`{-~\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    "\u037e\u0387\u055a-\u055f\u0589\u05be\u05c0\u05c3\u060c\u060d\u061b\u061f\u066a-\u066d\u06d4"
    "\u0964\u0965\u1361-\u1368\u2000-\u206f\u2190-\u23ff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020"
    "\u3030\u30fb\ufe30-\ufe4f"
)
_WORD = re.compile(f"[{_SPACELESS}]|[^{_BETWEEN}{_SPACELESS}]+")
_APOSTROPHES = str.maketrans("", "", "\u2018\u2019\u02bc")


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared, in order.

    Compatibility forms are folded (NFKC), then the text is normalised as answers are
    (:func:`~reflectory.evaluation.metrics.normalise_answer`: lower case, no punctuation, no
    English articles), and punctuation of other scripts goes as well.
    """
    folded = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    return _WORD.findall(normalise_answer(folded))


def count_words(text: str) -> int:
    """Return how many words a text has, articles included."""
    return sum(1 for _ in _WORD.finditer(text))


def runs_of(words: list[str], length: int) -> list[str]:
    """Return every run of ``length`` words, in order; none when there are fewer words."""
    return [" ".join(words[i : i + length]) for i in range(len(words) - length + 1)]
