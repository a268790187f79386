"""Closed lists of English words, and patterns, that the making of questions stands on."""

from __future__ import annotations

import re

from reflectory.retrieval.sentences import words
from reflectory.retrieval.structure.lexicon import BE

TIME = words("in on")
PLACE = words("in at near from")
INVERTING = BE | words("has have had can could will would shall should may might must do does did")
PROMISING = INVERTING - BE - words("has have had")
"""Auxiliaries that a verb has to follow; where none was read, it was taken for a noun."""

EMPTY = words(
    "thing things way ways example examples fact one ones part parts kind kinds type types other "
    "others same many some several most use uses number amount form forms case cases result "
    "results figure table section chapter text term terms due effect time none reason latter "
    "former rest place advantage account"
)
"""Nouns that answer no question by themselves."""

DESCRIBING = words("called named known based")
"""Without an auxiliary they say more of the noun before them: *cells called neurons*."""

UNFINISHED = words("being been be having")
STANDS_FOR = words("it he she they")
POINTING = words("this these those that such another other")
OWN = words("its his her their")
THIRD = words("it he she they him her them")
NONE_OR_ALL = words("no neither nor few each every any all both")
"""Without these a noun phrase says something else: *no crater* is not a crater."""

DEGREE = words("very too so rather quite almost as how")
LINKING = re.compile(
    r" (?:also|hence|therefore|thus|however|moreover|furthermore|consequently|nevertheless)(?= )"
)
"""What ties a sentence to the one before it, which the question does not have."""

BROKEN = re.compile(r'[.!]"? |" *"')
"""Two sentences that were not told apart, or a title that went with its brackets."""

NOT_A_NAME = words("how why what who when where which if on in to about")
"""Words that titles begin with which say what is told and not what it is told of."""

SPACE_BEFORE = re.compile(r"\s+([,.;:?])")
