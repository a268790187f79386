"""Which keys name the same thing: inside a document, and across documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from reflectory.retrieval.structure.aliases import stated_aliases
from reflectory.retrieval.structure.keys import bare_title, is_acronym_of, name_key
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS, PARTICLES
from reflectory.retrieval.structure.records import DocumentStructure
from reflectory.retrieval.structure.short_forms import short_forms, without_suffix
from reflectory.types import Document

_SMALL = FUNCTION_WORDS | PARTICLES


def local_names(
    document: Document, structure: DocumentStructure, titles: Collection[str]
) -> dict[str, str]:
    """Return what each key of a document stands for there, where that is a fuller one.

    Args:
        document: The document.
        structure: Its structure.
        titles: Keys of the titles of all documents.
    """
    names = [m.name for m in structure.mentions if m.kind == "name"]
    forms = short_forms([*structure.subjects, *names])
    for name, alias in stated_aliases(document.text, structure.mentions):
        full, short = name_key(name), name_key(alias)
        if full and short and full != short:
            forms.setdefault(short, forms.get(full, full))
    full, bare = name_key(document.title), name_key(bare_title(document.title))
    # In "Mercury (planet)", Mercury is the planet. Where another document has the bare
    # title, the mention may well be of that one ("Ed Wood (film)" names the director).
    if bare and bare != full and bare not in titles:
        forms[bare] = full
    return forms


def joined_keys(
    documents: Sequence[Document],
    structures: Sequence[DocumentStructure],
    titles: Collection[str],
) -> dict[str, str]:
    """Return the canonical key of every key that has another one, by aliases that are stated.

    Args:
        documents: The documents.
        structures: Their structures, in the same order.
        titles: Keys of the titles of all documents.
    """
    claims: defaultdict[str, set[str]] = defaultdict(set)
    stripped: set[str] = set()
    for document, structure in zip(documents, structures, strict=True):
        full, bare = name_key(document.title), name_key(bare_title(document.title))
        if full and bare and full != bare:
            claims[bare].add(full)
            stripped.add(bare)
        for name, alias in stated_aliases(document.text, structure.mentions):
            one, other = name_key(name), name_key(alias)
            if one and other and one != other:
                claims[other].add(one)
        main = bare or (name_key(structure.subjects[0]) if structure.subjects else "")
        for name in structure.subjects:
            key = name_key(name)
            if _same_subject(main, key):
                claims[key].add(main)
    union = _Union()
    for alias, fulls in sorted(claims.items()):
        # A title of its own is another thing than what a title with brackets is short for,
        # and a single word is too little to tell.
        apart = alias in titles and (alias in stripped or " " not in alias)
        own = {alias} if apart else set()
        if len(fulls | own) == 1:
            union.join(alias, next(iter(fulls)))
    return union.canonical()


def _same_subject(main: str, other: str) -> bool:
    """Return whether a document's other subject is its main one under another name."""
    if not main or not other or main == other:
        return False
    one, two = without_suffix(main.split()), without_suffix(other.split())
    if is_acronym_of(main, two, small=_SMALL) or is_acronym_of(other, one, small=_SMALL):
        return True
    # "Tom Hanks" and "Thomas Jeffrey Hanks", but not "History of Rome" and "Rome".
    return len(one) > 1 and len(two) > 1 and one[-1] == two[-1] and not _SMALL & {*one, *two}


class _Union:
    """Sets of keys that name one thing."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def _root(self, key: str) -> str:
        while self._parents.get(key, key) != key:
            self._parents[key] = self._parents.get(self._parents[key], self._parents[key])
            key = self._parents[key]
        return key

    def join(self, one: str, other: str) -> None:
        """Make two keys name the same."""
        first, second = sorted((self._root(one), self._root(other)))
        self._parents.setdefault(first, first)
        self._parents[second] = first

    def canonical(self) -> dict[str, str]:
        """Return for every joined key the fullest of its set (the first of equals)."""
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for key in self._parents:
            groups[self._root(key)].append(key)
        best = {root: min(keys, key=lambda k: (-len(k), k)) for root, keys in groups.items()}
        return {key: best[self._root(key)] for key in self._parents}


def aliases_of(
    local: Sequence[Mapping[str, str]], canon: Mapping[str, str], ids: Mapping[str, int]
) -> dict[str, int]:
    """Return the keys that are no entity themselves and name the same one everywhere."""
    meant: defaultdict[str, set[str]] = defaultdict(set)
    for forms in local:
        for short, full in forms.items():
            meant[short].add(canon.get(full, full))
    for key, full in canon.items():
        meant[key].add(full)
    return {
        key: ids[next(iter(fulls))]
        for key, fulls in sorted(meant.items())
        if key not in ids and len(fulls) == 1 and fulls <= ids.keys()
    }
