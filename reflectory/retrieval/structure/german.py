"""German writes every noun with a capital; what tells names from nouns there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reflectory.retrieval.sentences import words
from reflectory.retrieval.structure.tokens import Token

PARTICLES = words("von van zu zum zur de di")
"""Small words inside German names."""

_FREQUENT = words(
    "der die und das ist nicht ein eine einen einem einer den dem des mit wurde im auf als für "
    "sich zu zum zur von bei nach aus auch sie er es wird war hat dass werden oder"
)
_BEFORE_NOUNS = words(
    "der die das den dem des ein eine einen einem einer eines kein keine keinen im am zum zur beim "
    "vom ins ans sein seine seinen seinem seiner seines ihr ihre ihren ihrem ihrer ihres dieser "
    "diese dieses diesen diesem jeder jede jedes jeden viele einige mehrere alle unser unsere zwei "
    "drei vier fünf zehn"
)
_ADJECTIVE = ("e", "en", "er", "es", "em")
_NOT_ADJECTIVES = words(
    "werden wurden haben hatten sein waren gegen neben zwischen wegen ohne über unter hinter oder "
    "aber wurde hatte heute später leitete lebte kannte nannte wollte konnte sollte aber unter"
)
_NOUN = (
    "ung ungen heit keit schaft tion tionen ismus tum nis nisse ität keiten heiten "
    "schaften eur erin innen"
)
_NOUN_ENDINGS = tuple(_NOUN.split())
_SHARE = 0.1
"""Share of frequent German words from which a text is taken to be German; English
texts have next to none of them, so the exact value matters little."""


def is_german(tokens: Iterable[str]) -> bool:
    """Return whether the words of a text are German by its most frequent ones."""
    total = found = 0
    for token in tokens:
        total += 1
        found += token in _FREQUENT
    return found > _SHARE * total


def is_function_word(token: Token) -> bool:
    """Return whether a word is a frequent one that no name begins with."""
    return token.lower in _FREQUENT or token.lower in _BEFORE_NOUNS


def is_name(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a single capitalised word of a German sentence looks like a name.

    Names stand without an article and without an adjective before them; nouns
    seldom do. The first word of a sentence is left to the rest of the text.
    """
    token = tokens[at]
    if token.text.isupper() and len(token.text) > 1:
        return True
    if token.lower.endswith(_NOUN_ENDINGS) or token.lower in _BEFORE_NOUNS | _FREQUENT:
        return False
    if at == 0:
        return True
    before = tokens[at - 1]
    if before.lower in _BEFORE_NOUNS:
        return False
    return before.capital or not (
        before.lower.endswith(_ADJECTIVE) and before.lower not in _NOT_ADJECTIVES
    )
