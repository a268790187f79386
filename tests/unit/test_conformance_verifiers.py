"""The conformance suite of verifiers: what keeps the contract passes, every breach is named."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from violations import MISSING, violations

from reflectory.agents.verification import LexicalVerifier
from reflectory.testing.conformance import check_verifier
from reflectory.types import Evidence, Passage, Statement

COUNT = count()


class Verifying:
    """Compares words, and lets a function spoil the statements."""

    fingerprint = "spoiled"

    def __init__(
        self, spoil: Callable[[str, Any, tuple[Statement, ...]], Any] = lambda a, p, s: s
    ) -> None:
        self._inner = LexicalVerifier()
        self._spoil = spoil

    async def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
        found = await self._inner.verify(question, answer, passages)
        return self._spoil(answer, passages, found)


def spoiling(spoil: Callable[[str, Any, tuple[Statement, ...]], Any]) -> Callable[[], Verifying]:
    return lambda: Verifying(spoil)


def statements(**changes: Any) -> Callable[[], Verifying]:
    """Return a verifier that changes every statement."""
    return spoiling(lambda a, p, found: tuple(s.model_copy(update=changes) for s in found))


def evidence(change: Callable[[Evidence, Any], dict[str, Any]]) -> Callable[[], Verifying]:
    """Return a verifier that changes every piece of evidence without looking at what is valid."""

    def spoil(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
        return tuple(
            s.model_copy(
                update={
                    "evidence": tuple(
                        e.model_copy(update=change(e, {p.id: p for p in passages}))
                        for e in s.evidence
                    )
                }
            )
            for s in found
        )

    return spoiling(spoil)


def forgetful(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    passages.clear()
    return found


def whole(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    """One statement of all that is said, supported when anything in it is."""
    together = tuple(e for s in found for e in s.evidence)[:1]
    return (Statement(start=0, end=len(answer), supported=bool(together), evidence=together),)


def twice(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    return tuple(s for s in found for _ in range(2))


def everything(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    given = tuple(Evidence(passage=p.id, start=0, end=9, score=1.0) for p in passages[:1])
    return tuple(s.model_copy(update={"supported": bool(given), "evidence": given}) for s in found)


def nothing(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    return tuple(s.model_copy(update={"supported": False, "evidence": ()}) for s in found)


def misses(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    """The nearest misses count as evidence."""
    near = tuple(Evidence(passage=p.id, start=0, end=9, score=0.1) for p in passages[:1])
    return tuple(s if s.supported else s.model_copy(update={"evidence": near}) for s in found)


def rising(answer: str, passages: Any, found: tuple[Statement, ...]) -> Any:
    return tuple(
        s.model_copy(
            update={
                "evidence": (
                    *(e.model_copy(update={"score": 0.1}) for e in s.evidence),
                    *s.evidence,
                )
            }
        )
        for s in found
    )


class Crowded(Verifying):
    """Supports nothing while another call is running."""

    running = 0

    async def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
        self.running += 1
        await asyncio.sleep(0.001)
        found = await super().verify(question, answer, passages)
        found = found if self.running == 1 else nothing(answer, passages, found)
        await asyncio.sleep(0.001)
        self.running -= 1
        return found


class Remembering(Verifying):
    """Looks into what it was given before, too."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Passage] = {}

    async def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
        self._known |= {p.id: p for p in passages}
        return await super().verify(question, answer, list(self._known.values()))


class Renamed(Verifying):
    """Has another name after it was used."""

    used = False

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"used: {self.used}"

    async def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
        self.used = True
        return await super().verify(question, answer, passages)


class Nameless(Verifying):
    fingerprint = " "


class Wavering(Verifying):
    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"reading {next(COUNT)}"


class Unasked(Verifying):
    """Cannot do without a question."""

    async def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
        assert question[0]
        return await super().verify(question, answer, passages)


class Synchronous(Verifying):
    def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
        raise KeyError(answer[:5])


def test_the_comparison_of_words_keeps_the_contract() -> None:
    assert violations(check_verifier(LexicalVerifier())) == ()
    assert violations(check_verifier(LexicalVerifier(threshold=0.6))) == ()
    assert violations(check_verifier(Verifying())) == ()


OUTSIDE = "the offsets of evidence lie outside the text of its passage"
RANGE = "a score lies outside [0, 1]"


@pytest.mark.parametrize(
    ("broken", "violation"),
    [
        (Nameless, "fingerprint is no text"),
        (Wavering, "fingerprint changes from one reading to the next"),
        (Renamed, "fingerprint changes with use"),
        (Crowded, "calls that run together change each other"),
        (Remembering, "evidence names a passage that was not given"),
        (Unasked, "verify raised IndexError"),
        (Synchronous, "verify raised KeyError: 'Alexa'"),
        (spoiling(lambda a, p, found: None), "verify gives None"),
        (spoiling(lambda a, p, found: list(found)), "verify gives no tuple of Statement"),
        (spoiling(lambda a, p, found: (True,)), "verify gives no tuple of Statement"),
        (spoiling(lambda a, p, found: p[0] and found), "verify raised IndexError"),
        (spoiling(forgetful), "verify changes the list of passages"),
        (spoiling(lambda a, p, found: found[::-1]), "statements are not in the order of the"),
        (spoiling(twice), "statements overlap"),
        (spoiling(whole), "an empty answer gives statements"),
        (spoiling(whole), "a sentence is judged otherwise between others"),
        (spoiling(whole), "a statement is blank"),
        (statements(end=10_000), "the offsets of a statement lie outside the answer"),
        (statements(start=-1), "the offsets of a statement lie outside the answer"),
        (statements(end=0), "the offsets of a statement lie outside the answer"),
        (statements(evidence=()), "a supported statement has no evidence"),
        (spoiling(misses), "a statement that is not supported has evidence"),
        (spoiling(rising), "the best evidence is not the first"),
        (spoiling(everything), "a sentence about something else is supported"),
        (spoiling(everything), "the evidence of a copied sentence is not where it stands"),
        (spoiling(nothing), "a sentence that is copied from a passage is not supported"),
        (spoiling(lambda a, p, found: ()), "a sentence that is copied from a passage is not"),
        (evidence(lambda e, given: {"score": 1.5}), RANGE),
        (evidence(lambda e, given: {"score": float("nan")}), RANGE),
        (evidence(lambda e, given: {"passage": "p9"}), "evidence names a passage that was not"),
        (evidence(lambda e, given: {"end": e.end + 500}), OUTSIDE),
        (evidence(lambda e, given: {"end": e.start}), OUTSIDE),
        (
            evidence(lambda e, given: {"end": e.end + given[e.passage].start}),
            OUTSIDE,  # counted from the head of the document
        ),
        (
            evidence(lambda e, given: {"score": 1.0 / (2 + next(COUNT))}),
            "the same answer is judged differently",
        ),
    ],
)
def test_a_verifier_that_breaks_a_point_is_caught(
    broken: Callable[[], Verifying], violation: str
) -> None:
    found = violations(check_verifier(broken()))
    assert any(line.startswith(violation) for line in found), found


def test_a_verifier_that_hangs_does_not_hang_the_check() -> None:
    class Hanging(Verifying):
        async def verify(self, question: str, answer: str, passages: Sequence[Passage]) -> Any:
            await asyncio.sleep(3600)

    found = violations(check_verifier(Hanging(), timeout_s=0.001))
    assert found == ("verify gave nothing within 0.001 s",)


def test_something_else_is_no_verifier() -> None:
    assert violations(check_verifier(object())) == MISSING  # type: ignore[arg-type]
