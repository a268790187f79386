"""A step that finds what identifies a person and can be found by its form.

Found are mail addresses, telephone numbers (international ones, and those of North America),
bank accounts (IBAN), card numbers and IP addresses. What has a checksum is checked, so that an
ordinary number is left alone. Names and postal addresses have no form to find them by.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from reflectory.training.curation.reading import completions_of, prompt_of
from reflectory.training.curation.steps import AnyRow, Outcome, R, decided
from reflectory.training.rows import Message, PreferenceRow


def _is_iban(text: str) -> bool:
    """Return whether the check digits are right (ISO 7064, mod 97-10)."""
    code = re.sub(r"\s", "", text).upper()
    if not 15 <= len(code) <= 34:
        return False
    digits = "".join(str(int(character, 36)) for character in code[4:] + code[:4])
    return int(digits) % 97 == 1


_CARD_LENGTHS = {2: (16,), 3: (14, 15, 16), 4: (13, 16, 19), 5: (16,), 6: range(16, 20)}
"""Digits of a card number by the first of them, which names the network."""


def _is_card(text: str) -> bool:
    """Return whether there are as many digits as its network has, and the last is right (Luhn)."""
    digits = [int(character) for character in text if character.isdigit()]
    if len(digits) not in _CARD_LENGTHS[digits[0]] or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _is_address(text: str) -> bool:
    """Return whether it is an IP address of somebody, and no placeholder."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _is_phone(text: str) -> bool:
    return 8 <= sum(character.isdigit() for character in text) <= 15  # E.164: at most 15


def _always(text: str) -> bool:
    return True


@dataclass(frozen=True)
class _Kind:
    """One kind of personal data: how it looks, and what makes sure."""

    name: str
    pattern: re.Pattern[str]
    sure: Callable[[str], bool] = _always

    @property
    def mask(self) -> str:
        return f"[{self.name.upper()}]"


# Every repetition is bounded, so that no text takes more than linear time.
_KINDS = (
    _Kind(
        "email",
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"),
    ),
    _Kind(
        "iban",
        re.compile(
            r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?"
            r"(?![A-Za-z0-9])"
        ),
        _is_iban,
    ),
    _Kind("card", re.compile(r"(?<![0-9])[2-6](?:[ -]?[0-9]){12,18}(?![0-9])"), _is_card),
    _Kind(
        "ip",
        re.compile(
            r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])"
            r"|[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?![\w:]))"
        ),
        _is_address,
    ),
    _Kind(
        "phone",
        re.compile(
            r"(?<![\w+])(?:\+[0-9]{1,3}(?:[ ./()-]{0,3}[0-9]){6,13}"
            r"|\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[.-][0-9]{4})(?![\w-])"
        ),
        _is_phone,
    ),
)


def personal_data_in(text: str) -> Counter[str]:
    """Return how often each kind of personal data occurs in a text."""
    return Counter(
        kind.name
        for kind in _KINDS
        for found in kind.pattern.finditer(text)
        if kind.sure(found.group())
    )


def masked(text: str) -> str:
    """Return the text with its personal data replaced by its kind, like ``[EMAIL]``."""
    while True:
        before = text
        for kind in _KINDS:
            text = kind.pattern.sub(
                lambda found, kind=kind: kind.mask if kind.sure(found[0]) else found[0],  # type: ignore[misc]
                text,
            )
        # What stood beside a masked piece can look like another one now; each turn has
        # fewer of them.
        if text == before:
            return text


@dataclass(frozen=True)
class PersonalData:
    """Masks personal data, or refuses the rows that hold some.

    Args:
        action: What to do.
        prompts: Whether to look at prompts too.
    """

    action: Literal["mask", "refuse"]
    prompts: bool = False
    name: ClassVar[str] = "personal data"

    @property
    def explanation(self) -> str:
        """What is looked for, where, and what happens."""
        where = "completions and prompts" if self.prompts else "completions"
        done = "are masked" if self.action == "mask" else "lead to the row being refused"
        return (
            f"Mail addresses, telephone numbers, IBANs, card numbers and IP addresses in {where} "
            f"{done}. Names are not looked for."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows without personal data."""
        if self.action == "refuse":
            return await decided(rows, self._reason)
        return await asyncio.to_thread(self._mask, rows)

    def _reason(self, row: AnyRow) -> str:
        found: Counter[str] = Counter()
        for text in self._texts(row):
            found += personal_data_in(text)
        return min(found, key=lambda name: (-found[name], name)) if found else ""

    def _texts(self, row: AnyRow) -> tuple[str, ...]:
        return (*completions_of(row), *((prompt_of(row),) if self.prompts else ()))

    def _mask(self, rows: Sequence[R]) -> Outcome[R]:
        kept = tuple(self._masked(row) for row in rows)
        changed = sum(new is not old for new, old in zip(kept, rows, strict=True))
        return Outcome(kept, {}, changed)

    def _masked(self, row: R) -> R:
        places = ["chosen", "rejected"] if isinstance(row, PreferenceRow) else ["completion"]
        learnt = places[0]
        if self.prompts:
            places.append("prompt")
        changes: dict[str, object] = {}
        for place in places:
            messages: tuple[Message, ...] = getattr(row, place)
            new = tuple(m.model_copy(update={"content": masked(m.content)}) for m in messages)
            if new != messages:
                changes[place] = new
        provenance: dict[str, object] = {}
        if learnt in changes:
            # Their offsets count characters of the text as it was.
            provenance["statements"] = ()
        if self.prompts and (question := masked(row.provenance.question)) != (
            row.provenance.question
        ):
            provenance["question"] = question
        if provenance:
            changes["provenance"] = row.provenance.model_copy(update=provenance)
        return row.model_copy(update=changes) if changes else row
