"""Does a verifier of answers keep the contract of its protocol?

See :mod:`reflectory.testing.conformance`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from reflectory.agents.verification.protocol import Verifier
from reflectory.testing.conformance_findings import Findings
from reflectory.types import Evidence, Passage, Statement

_MOULD = "Alexander Fleming saw the mould in London in 1928."
_GLASS = "Glass is made of sand, soda and lime."
_FOREIGN = "The Danube flows through Vienna, Budapest and Belgrade."
_MIXED = f"{_MOULD} {_FOREIGN} {_GLASS}"


def _passage(name: str, title: str, text: str, start: int) -> Passage:
    end = start + len(text)
    return Passage(id=name, document_id=title, title=title, text=text, start=start, end=end)


# They begin somewhere in their documents, so that offsets which count from there show.
_PASSAGES = (
    _passage("p1", "Penicillin", f"{_MOULD} Norman Heatley built apparatus from bedpans.", 1_000),
    _passage("p2", "Glass", f"🙂 Naïve glaziers know: it breaks. {_GLASS} It melts slowly.", 400),
)
_QUESTION = "What do the documents say?"
_ANSWERS = (
    _MOULD,
    _GLASS,
    _FOREIGN,
    _MIXED,
    "",
    " \n\t ",
    "Yes.",
    "?!… 🙂",
    "I do not know.",
    "  - Alexander Fleming, 1928\n- 🙂 Norman Heatley\n\nGlass ",
    "Москва — столица России. 東京は日本の首都です。 Cafe\u0301 \u0301.",
    "glass " * 1_000,
)


async def check_verifier(verifier: Verifier, *, timeout_s: float = 300.0) -> None:
    """Check that a verifier keeps the contract of its protocol.

    Gives it some thirty short answers. How often it is right is another question; here
    it is asked only about a sentence that is copied from a passage and one about
    something that no passage mentions.

    Args:
        verifier: See :class:`~reflectory.agents.verification.Verifier`.
        timeout_s: How long one call may take before it counts as hanging.

    Raises:
        ConformanceError: With every point of the contract that does not hold.
    """
    findings = Findings(verifier, timeout_s=timeout_s)
    expect = findings.expect
    findings.protocol(verifier, Verifier)
    name = findings.fingerprint(verifier)

    async def verify(
        answer: str, question: str = _QUESTION, passages: Sequence[Passage] = _PASSAGES
    ) -> tuple[Statement, ...] | None:
        handed = list(passages)

        async def call() -> tuple[Statement, ...]:
            return await verifier.verify(question, answer, handed)

        found = await findings.call("verify", call())
        expect(handed == list(passages), "verify changes the list of passages")
        if found is None or not expect(
            isinstance(found, tuple) and all(isinstance(entry, Statement) for entry in found),
            "verify gives no tuple of Statement",
        ):
            return None
        _look_at(findings, found, answer, passages)
        return tuple(found)

    alone = {answer: await verify(answer) for answer in _ANSWERS}
    for answer, found in alone.items():
        expect(bool(answer.strip()) or not found, "an empty answer gives statements")
    _look_at_verdicts(findings, alone)
    await verify(_MOULD, question="")
    await verify(_MOULD, passages=_PASSAGES[1:])
    await verify(_MOULD, passages=())
    again = [await verify(answer) for answer in _ANSWERS]
    together = await asyncio.gather(*(verify(answer) for answer in _ANSWERS))
    for before, after, beside in zip(alone.values(), again, together, strict=True):
        if before is not None:
            expect(after in (None, before), "the same answer is judged differently")
            expect(beside in (None, before), "calls that run together change each other")
    expect(findings.fingerprint(verifier) == name, "fingerprint changes with use")
    findings.conclude()


def _look_at(
    findings: Findings, found: Sequence[Statement], answer: str, passages: Sequence[Passage]
) -> None:
    expect = findings.expect
    if expect(
        all(0 <= s.start <= s.end <= len(answer) for s in found),
        "the offsets of a statement lie outside the answer",
    ):
        expect(all(answer[s.start : s.end].strip() for s in found), "a statement is blank")
    starts = [s.start for s in found]
    expect(starts == sorted(starts), "statements are not in the order of the answer")
    ordered = sorted(found, key=lambda s: s.start)
    expect(all(a.end <= b.start for a, b in pairwise(ordered)), "statements overlap")
    texts = {passage.id: passage.text for passage in passages}
    for statement in found:
        evidence = statement.evidence
        expect(bool(evidence) or not statement.supported, "a supported statement has no evidence")
        expect(
            statement.supported or not evidence, "a statement that is not supported has evidence"
        )
        scores = [entry.score for entry in evidence]
        expect(all(0.0 <= score <= 1.0 for score in scores), "a score lies outside [0, 1]")
        expect(scores == sorted(scores, reverse=True), "the best evidence is not the first")
        for entry in evidence:
            if expect(entry.passage in texts, "evidence names a passage that was not given"):
                expect(
                    0 <= entry.start < entry.end <= len(texts[entry.passage]),
                    "the offsets of evidence lie outside the text of its passage",
                )


def _look_at_verdicts(findings: Findings, alone: dict[str, tuple[Statement, ...] | None]) -> None:
    """Copied sentences are supported where they stand, another is not; together as alone."""
    verdicts: dict[str, bool] = {}
    for sentence in (_MOULD, _GLASS, _FOREIGN):
        found = alone[sentence]
        if found is None:
            continue  # Noted when the call failed.
        verdicts[sentence] = _is_supported(found)
        if sentence == _FOREIGN:
            findings.expect(
                not any(s.supported for s in found),
                "a sentence about something else is supported",
            )
        elif findings.expect(
            verdicts[sentence], "a sentence that is copied from a passage is not supported"
        ):
            findings.expect(
                any(_holds(entry, sentence) for s in found for entry in s.evidence),
                "the evidence of a copied sentence is not where it stands",
            )
    for sentence, verdict in verdicts.items():
        start = _MIXED.index(sentence)
        end = start + len(sentence)
        of_sentence = [s for s in alone[_MIXED] or () if s.start < end and s.end > start]
        findings.expect(
            alone[_MIXED] is None or _is_supported(of_sentence) == verdict,
            "a sentence is judged otherwise between others",
        )


def _is_supported(statements: Sequence[Statement]) -> bool:
    return bool(statements) and all(s.supported for s in statements)


def _holds(evidence: Evidence, sentence: str) -> bool:
    """Return whether evidence lies at least partly on a sentence of a passage."""
    for passage in _PASSAGES:
        at = passage.text.find(sentence)
        if passage.id == evidence.passage and at >= 0:
            return evidence.start < at + len(sentence) and evidence.end > at
    return False
