"""Does an extractor of names and relations keep the contract of its protocol?

See :mod:`reflectory.testing.conformance`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import TypeVar

from reflectory.errors import UserError
from reflectory.retrieval.structure.records import Extraction, Extractor, Mention, Relation
from reflectory.testing.conformance_findings import Findings

T = TypeVar("T")

# No splitter can disagree about where these begin and end.
_SENTENCES = (
    "Marie Curie discovered radium in Paris in 1898.",
    "Alexander Fleming wrote a report about penicillin.",
    "The Royal Society published another book on 3 May 1929.",
)
_STORY = " ".join(_SENTENCES)
_TEXTS = (
    _STORY,
    "",
    "   ",
    "\n\n \t\n",
    "word " * 1_000,
    "Москва — столица России. 東京は日本の首都です。 القاهرة عاصمة مصر.",
    "🙂 Marie Curie met Niels Bohr 👩‍🚀👍🏽 in 🇫🇷 Paris.",
    "\u0301\u0308",
    "Zoe\u0308 Renaud \u0301 opened the Cafe\u0301 de\u0301 Flore in Paris.",
    "\n  Marie Curie\r\nmet Alexander  Fleming\tin Paris. ",
    '# A heading\n\n- Paris (one\n- "Rome two\n\n?!… ;:—«» [',
)


async def check_extractor(
    extractor: Extractor, texts: Sequence[str] = (), *, timeout_s: float = 300.0
) -> None:
    """Check that an extractor keeps the contract of its protocol.

    Whether it finds what a reader would is another question.

    Args:
        extractor: See :class:`~reflectory.retrieval.structure.Extractor`.
        texts: More texts, where it finds nothing in a few English sentences with
            names and dates.
        timeout_s: How long one call may take before it counts as hanging.

    Raises:
        ConformanceError: With every point of the contract that does not hold.
        UserError: It finds nothing in any text, so that there is nothing to look at.
    """
    findings = Findings(extractor, timeout_s=timeout_s)
    expect = findings.expect
    findings.protocol(extractor, Extractor)
    name = findings.fingerprint(extractor)
    everything = (*_TEXTS, *texts)

    async def extract(*given: str) -> list[Extraction] | None:
        handed = list(given)
        found = await findings.call("extract", _in_thread(lambda: extractor.extract(handed)))
        expect(handed == list(given), "extract changes the list of texts")
        if found is None or not expect(
            isinstance(found, list) and all(isinstance(entry, Extraction) for entry in found),
            "extract gives no list of Extraction",
        ):
            return None
        if not expect(len(found) == len(given), "extract does not give one extraction per text"):
            return None
        for text, extraction in zip(given, found, strict=True):
            _look_at(findings, text, extraction)
        return list(found)

    whole = await extract(*everything)
    await extract()
    alone = [await extract(text) for text in everything]
    if whole is not None:
        backward = await extract(*everything[::-1])
        expect(backward in (None, whole[::-1]), "extractions do not follow their texts")
        expect(await extract(*everything) in (None, whole), "the same texts give something else")
        for expected, single in zip(whole, alone, strict=True):
            expect(single in (None, [expected]), "an extraction depends on the texts beside it")
    # Searches run in threads, and each reads its question.
    together = await asyncio.gather(*(extract(text) for text in everything))
    for before, beside in zip(alone, together, strict=True):
        expect(
            before is None or beside in (None, before), "calls that run together change each other"
        )
    expect(findings.fingerprint(extractor) == name, "fingerprint changes with use")
    findings.conclude()
    if not any(entry.mentions or entry.phrases or entry.relations for entry in whole or ()):
        raise UserError(
            f"{findings.subject} finds nothing in any text, so nothing can be checked",
            hint="give texts in which it finds something",
        )


def _look_at(findings: Findings, text: str, extraction: Extraction) -> None:
    _look_at_stretches(findings, text, "mention", extraction.mentions)
    _look_at_stretches(findings, text, "phrase", extraction.phrases)
    ordered = sorted(extraction.mentions, key=lambda mention: mention.start)
    findings.expect(all(a.end <= b.start for a, b in pairwise(ordered)), "mentions overlap")
    _look_at_relations(findings, text, extraction.relations)


def _look_at_stretches(findings: Findings, text: str, what: str, found: Sequence[Mention]) -> None:
    expect = findings.expect
    inside = [m for m in found if 0 <= m.start <= m.end <= len(text)]
    expect(len(inside) == len(found), f"the offsets of a {what} lie outside its text")
    expect(
        all(m.name == text[m.start : m.end] for m in inside),
        f"the name of a {what} is not what stands at its offsets",
    )
    expect(all(m.name.strip() for m in found), f"a {what} is blank")
    expect(all(m.kind.strip() for m in found), f"a {what} has no kind")
    starts = [m.start for m in found]
    expect(starts == sorted(starts), f"{what}s are not in the order of the text")


def _look_at_relations(findings: Findings, text: str, found: Sequence[Relation]) -> None:
    expect = findings.expect
    expect(
        all(part.strip() for r in found for part in (r.subject, r.verb, r.object)),
        "a part of a relation is blank",
    )
    if not expect(
        all(0 <= r.start <= r.end <= len(text) for r in found),
        "the offsets of a relation lie outside its text",
    ):
        return
    for relation in found:
        sentence = _plain(text[relation.start : relation.end])
        expect(
            _plain(relation.subject) in sentence and _plain(relation.object) in sentence,
            "subject or object of a relation do not stand in its sentence",
        )
        # Elsewhere splitters may differ.
        expect(
            text != _STORY or sentence in _SENTENCES,
            "the offsets of a relation are not those of a sentence",
        )
    starts = [r.start for r in found]
    expect(starts == sorted(starts), "relations are not in the order of the text")
    spans = sorted({(r.start, r.end) for r in found})
    expect(
        all(one[1] <= other[0] for one, other in pairwise(spans)),
        "the sentences of two relations overlap",
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


async def _in_thread(function: Callable[[], T]) -> T:
    """Return what a function gives in a thread that nobody has to wait for.

    ``asyncio.to_thread`` would do, but the loop waits for its threads when it ends, so
    that an extractor that hangs would hang the check.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # From now on a timeout does not touch it.

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed on to who waits
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)
