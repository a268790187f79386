"""Bare forms of English verbs, for questions with *do*, *does* and *did*."""

from __future__ import annotations

from functools import cache

from reflectory.retrieval.sentences import words
from reflectory.retrieval.structure.verbs import BASES, PRESENT

# Past form and bare form; participles that only stand behind an auxiliary are not needed.
_IRREGULAR = dict(
    pair.split(":")
    for pair in words(
        "became:become began:begin bent:bend bit:bite bled:bleed blew:blow bore:bear bought:buy "
        "bound:bind bred:breed broke:break brought:bring built:build burnt:burn came:come "
        "caught:catch chose:choose clung:cling crept:creep dealt:deal drank:drink drew:draw "
        "drove:drive ate:eat fed:feed fell:fall felt:feel fled:flee flew:fly forbade:forbid "
        "forgot:forget fought:fight found:find froze:freeze gave:give got:get grew:grow had:have "
        "heard:hear held:hold hid:hide hung:hang kept:keep knew:know laid:lay led:lead left:leave "
        "lent:lend lit:light lost:lose made:make meant:mean met:meet overcame:overcome paid:pay "
        "ran:run rang:ring rode:ride rose:rise said:say sang:sing sank:sink sat:sit saw:see "
        "sent:send shook:shake shone:shine shot:shoot shrank:shrink slept:sleep slid:slide "
        "sold:sell sought:seek spent:spend spoke:speak sprang:spring stole:steal stood:stand "
        "stuck:stick struck:strike strove:strive swam:swim swept:sweep swore:swear swung:swing "
        "taught:teach thought:think threw:throw told:tell took:take tore:tear "
        "understood:understand underwent:undergo went:go withdrew:withdraw woke:wake won:win "
        "wore:wear wove:weave wound:wind wrote:write oversaw:oversee arose:arise did:do"
    )
)
_UNCHANGED = words(
    "beat bet broadcast burst cast cost cut hit hurt let put quit read set shed shut split spread"
)
_THIRD = {"be": "is", "do": "does", "go": "goes", "have": "has"}
_VOWELS = "aeiou"


@cache
def _past_of_regular() -> dict[str, str]:
    return {form: base for base in sorted(BASES) for form in _regular_past(base)}


@cache
def _base_of_present() -> dict[str, str]:
    found = {with_s(base): base for base in sorted(BASES)}
    return {form: found[form] for form in PRESENT if form in found} | {"goes": "go", "has": "have"}


def with_s(base: str) -> str:
    """Return the third person of the present of a bare form."""
    if base in _THIRD:
        return _THIRD[base]
    if base.endswith(("s", "x", "z", "ch", "sh")):
        return base + "es"
    if base.endswith("y") and base[-2:-1] not in _VOWELS:
        return base[:-1] + "ies"
    return base + "s"


def is_bare(verb: str) -> bool:
    """Return whether a finite verb is in its bare form and not in the past, as *read* may be."""
    return verb in BASES and verb not in _UNCHANGED and verb not in _IRREGULAR


def _regular_past(base: str) -> tuple[str, ...]:
    if base.endswith("e"):
        return (base + "d",)
    if base.endswith("y") and base[-2:-1] not in _VOWELS:
        return (base[:-1] + "ied",)
    doubled = base + base[-1] + "ed"
    return (base + "ed", doubled)


def auxiliary_of(verb: str) -> tuple[str, str] | None:
    """Return the form of *do* and the bare form that stand for a finite verb in a question.

    Args:
        verb: A finite verb in lower case.

    Returns:
        As in ``("did", "write")`` for *wrote*; ``None`` when the verb is not known.
    """
    if verb in _IRREGULAR:
        return "did", _IRREGULAR[verb]
    if verb in _past_of_regular():
        return "did", _past_of_regular()[verb]
    if verb in _base_of_present():
        return "does", _base_of_present()[verb]
    if is_bare(verb):
        return "do", verb
    return None
