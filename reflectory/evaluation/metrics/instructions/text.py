"""How IFEval's checks cut a text into words and sentences, and tell its language.

They use the very libraries of the published checks, nltk and langdetect, without what nltk
would download: its trained sentence model. The same algorithm (Punkt; Kiss and Strunk 2006)
runs here with a list of English abbreviations instead. How often the two count alike stands
in docs/metrics.md.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_ABBREVIATIONS = """
    mr mrs ms dr prof rev gen col lt sgt capt cmdr maj gov sen rep hon pres supt st jr sr messrs
    e.g i.e etc vs cf al viz ca approx est fig figs vol vols no nos pp ed eds ch sec ref
    inc ltd co corp bros dept univ assn u.s u.k u.n u.s.a d.c l.a n.y p.m a.m ph.d m.d b.a m.a
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun
    ave blvd rd mt ft lb lbs oz min max avg tel ext p.s p.p.s
"""
_WORD = re.compile(r"\w+")


def count_words(text: str) -> int:
    """Return the number of runs of letters, digits and underscores."""
    return len(_WORD.findall(text))


def count_sentences(text: str) -> int:
    """Return the number of sentences; a line end alone ends none."""
    return len(_sentence_tokenizer().tokenize(text))


def capital_words(text: str) -> list[str]:
    """Return the words that are written in capitals, "I" and "A" included."""
    tokenizer = _word_tokenizer()
    sentences = _sentence_tokenizer().tokenize(text)
    return [w for sentence in sentences for w in tokenizer.tokenize(sentence) if w.isupper()]


def detect_language(text: str) -> str | None:
    """Return the language that langdetect finds, the same every time.

    Returns:
        A code such as ``en`` or ``zh-cn``; ``None`` where the text has no letters to tell by.
    """
    from langdetect.lang_detect_exception import LangDetectException

    detector = _detector_factory().create()
    try:
        detector.append(text)
        return str(detector.detect())
    except LangDetectException:
        return None


@cache
def _sentence_tokenizer() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    return PunktSentenceTokenizer(parameters)


@cache
def _word_tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@cache
def _detector_factory() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    # A factory of our own: the seed of the library's own one is a global setting.
    factory = DetectorFactory()
    factory.set_seed(0)
    factory.load_profile(PROFILES_DIRECTORY)
    return factory
