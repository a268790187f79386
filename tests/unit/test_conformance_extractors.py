"""The conformance suite of extractors: what keeps the contract passes, every breach is named."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from violations import MISSING, violations

from reflectory.errors import UserError
from reflectory.retrieval.structure import Extraction, Mention, Relation, RuleExtractor
from reflectory.testing.conformance import check_extractor

COUNT = count()


class Extracting:
    """Extracts by rule, and lets a function spoil what is found in each text."""

    fingerprint = "spoiled"

    def __init__(self, spoil: Callable[[str, Extraction], Any] = lambda text, found: found) -> None:
        self._inner = RuleExtractor()
        self._spoil = spoil

    def extract(self, texts: Sequence[str]) -> Any:
        found = self._inner.extract(texts)
        return [self._spoil(text, e) for text, e in zip(texts, found, strict=True)]


def stretches(field: str, change: Callable[[str, Mention], dict[str, Any]]) -> type[Extracting]:
    """Return an extractor that changes each mention or phrase without looking at what is valid."""

    def spoil(text: str, found: Extraction) -> Extraction:
        changed = tuple(m.model_copy(update=change(text, m)) for m in getattr(found, field))
        return found.model_copy(update={field: changed})

    return lambda: Extracting(spoil)  # type: ignore[return-value]


def relations(change: Callable[[str, Relation], dict[str, Any]]) -> type[Extracting]:
    return stretches("relations", change)  # type: ignore[arg-type]


def extra(field: str, *more: Any) -> Callable[[], Extracting]:
    """Return an extractor that finds something more at the end of every list that has some."""

    def spoil(text: str, found: Extraction) -> Extraction:
        old = getattr(found, field)
        return found.model_copy(update={field: (*old, *(more or old[:1])) if old else ()})

    return lambda: Extracting(spoil)


class OnTheList(Extracting):
    """Lets a function spoil a whole call."""

    def __init__(self, spoil: Callable[[Any, list[Extraction]], Any]) -> None:
        super().__init__()
        self._spoil_call = spoil

    def extract(self, texts: Sequence[str]) -> Any:
        return self._spoil_call(texts, super().extract(texts))


def on_the_list(spoil: Callable[[Any, list[Extraction]], Any]) -> Callable[[], Extracting]:
    return lambda: OnTheList(spoil)


def forgetful(texts: Any, found: list[Extraction]) -> list[Extraction]:
    texts.clear()
    return found


def by_text(texts: Any, found: list[Extraction]) -> list[Extraction]:
    """What is found is in the order of the alphabet."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    return [found[place] for place in order]


def of_the_longest(texts: Any, found: list[Extraction]) -> list[Extraction]:
    """Nothing is found in a text that stands beside one with more names."""
    most = max((len(e.mentions) for e in found), default=0)
    return [e if len(e.mentions) == most else Extraction() for e in found]


class Crowded(Extracting):
    """Finds nothing while another thread is at it."""

    running = False

    def extract(self, texts: Sequence[str]) -> Any:
        if self.running:
            return [Extraction() for _ in texts]
        self.running = True
        time.sleep(0.02)
        self.running = False
        return super().extract(texts)


class Renamed(Extracting):
    """Has another name after it was used."""

    used = False

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"used: {self.used}"

    def extract(self, texts: Sequence[str]) -> Any:
        self.used = True
        return super().extract(texts)


class Nameless(Extracting):
    fingerprint = " "


class Wavering(Extracting):
    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"reading {next(COUNT)}"


def test_the_rules_keep_the_contract() -> None:
    assert violations(check_extractor(RuleExtractor())) == ()
    assert violations(check_extractor(RuleExtractor(), ["Ann saw Rome.", "'It' is a film."])) == ()
    assert violations(check_extractor(Extracting())) == ()


def test_a_pipeline_of_spacy_keeps_the_contract() -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra: structure)")
    from reflectory.retrieval.structure.spacy_extractor import SpacyExtractor

    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "GPE", "pattern": "Paris"}, {"label": "PERSON", "pattern": "Marie Curie"}]
    )
    assert violations(check_extractor(SpacyExtractor(pipeline))) == ()


def before_cut(text: str, mention: Mention) -> dict[str, Any]:
    """Offsets of the text without the white space before it."""
    left = len(text) - len(text.lstrip())
    return {"start": max(0, mention.start - left), "end": mention.end - left}


def in_utf16(text: str, mention: Mention) -> dict[str, Any]:
    """Offsets that count as other languages do."""
    wide = len(text[: mention.start].encode("utf-16-le")) // 2 - mention.start
    return {"start": mention.start + wide, "end": mention.end + wide}


AT_HEAD = Mention(name="", start=0, end=0)
WRONG_NAME = "the name of a mention is not what stands at its offsets"
OUTSIDE = "the offsets of a mention lie outside its text"
NO_SENTENCE = "the offsets of a relation are not those of a sentence"


@pytest.mark.parametrize(
    ("broken", "violation"),
    [
        (Nameless, "fingerprint is no text"),
        (Wavering, "fingerprint changes from one reading to the next"),
        (Renamed, "fingerprint changes with use"),
        (Crowded, "calls that run together change each other"),
        (on_the_list(lambda texts, found: None), "extract gives None"),
        (on_the_list(lambda texts, found: tuple(found)), "extract gives no list of Extraction"),
        (on_the_list(lambda texts, found: [{} for _ in found]), "extract gives no list of"),
        (on_the_list(lambda texts, found: found[:1]), "extract does not give one extraction per"),
        (on_the_list(lambda texts, found: found or [Extraction()]), "extract does not give one"),
        (on_the_list(lambda texts, found: [1 / 0]), "extract raised ZeroDivisionError"),
        (
            on_the_list(lambda texts, found: sorted(found, key=lambda e: len(e.mentions))),
            "an extraction depends on the texts beside it",
        ),
        (
            on_the_list(by_text),
            "extractions do not follow their texts",
        ),
        (on_the_list(of_the_longest), "an extraction depends on the texts beside it"),
        (on_the_list(forgetful), "extract changes the list of texts"),
        (
            lambda: Extracting(lambda text, found: found if text.strip() else [1][2]),
            "extract raised IndexError",
        ),
        (
            stretches("mentions", lambda text, m: {"kind": f"kind {next(COUNT)}"}),
            "the same texts give something else",
        ),
        (stretches("mentions", lambda text, m: {"end": m.end + 1_000}), OUTSIDE),
        (stretches("mentions", lambda text, m: {"start": m.end, "end": m.start}), OUTSIDE),
        (stretches("mentions", lambda text, m: {"start": m.start - 1_000}), OUTSIDE),
        (stretches("mentions", lambda text, m: {"name": m.name.lower()}), WRONG_NAME),
        (stretches("mentions", before_cut), WRONG_NAME),
        (stretches("mentions", in_utf16), WRONG_NAME),
        (stretches("mentions", lambda text, m: {"name": "", "end": m.start}), "a mention is blank"),
        (stretches("mentions", lambda text, m: {"kind": ""}), "a mention has no kind"),
        (extra("mentions"), "mentions overlap"),
        (extra("mentions"), "mentions are not in the order of the text"),
        (
            stretches("phrases", lambda text, m: {"end": m.end + 1_000}),
            "the offsets of a phrase lie outside its text",
        ),
        (
            stretches("phrases", lambda text, m: {"name": f"the {m.name}"}),
            "the name of a phrase is not what stands at its offsets",
        ),
        (extra("phrases", AT_HEAD), "phrases are not in the order of the text"),
        (relations(lambda text, r: {"verb": " "}), "a part of a relation is blank"),
        (relations(lambda text, r: {"subject": "She"}), "subject or object of a relation do not"),
        (
            relations(lambda text, r: {"end": r.end + 10_000}),
            "the offsets of a relation lie outside its text",
        ),
        (relations(lambda text, r: {"start": 0, "end": len(text)}), NO_SENTENCE),
        (relations(lambda text, r: {"end": r.end - 1}), NO_SENTENCE),
        (
            relations(lambda text, r: {"start": max(0, r.start - 3)}),
            "the sentences of two relations overlap",
        ),
        (extra("relations"), "relations are not in the order of the text"),
    ],
)
def test_an_extractor_that_breaks_a_point_is_caught(
    broken: Callable[[], Extracting], violation: str
) -> None:
    found = violations(check_extractor(broken()))
    assert any(line.startswith(violation) for line in found), found


def test_an_extractor_that_hangs_does_not_hang_the_check() -> None:
    class Hanging(Extracting):
        def extract(self, texts: Sequence[str]) -> Any:
            threading.Event().wait()

    found = violations(check_extractor(Hanging(), timeout_s=0.01))
    assert found == ("extract gave nothing within 0.01 s",)


def test_an_extractor_that_finds_nothing_shows_nothing_until_it_has_texts_for_it() -> None:
    class Ships(Extracting):
        def extract(self, texts: Sequence[str]) -> Any:
            return [found if "Titanic" in text else Extraction() for text, found in self._of(texts)]

        def _of(self, texts: Sequence[str]) -> Any:
            return zip(texts, self._inner.extract(texts), strict=True)

    with pytest.raises(UserError, match="Ships finds nothing in any text"):
        asyncio.run(check_extractor(Ships()))
    assert violations(check_extractor(Ships(), ["They sailed on the Titanic."])) == ()


def test_something_else_is_no_extractor() -> None:
    assert violations(check_extractor(object())) == MISSING  # type: ignore[arg-type]
