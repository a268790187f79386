"""English verbs: the irregular ones, the regular ones that texts about facts are made of."""

from __future__ import annotations

from reflectory.retrieval.sentences import words

# Present, past and participle where they differ; forms that are far more often
# something else ("found" is both) are sorted out by their place in the sentence.
IRREGULAR_PAST = words(
    "arose ate awoke beat became began bent bit bled blew bore born borne bought bound bred broke "
    "broken brought built burnt came caught chose chosen clung cost crept cut dealt did died dove "
    "drank drawn dreamt drew driven drove drunk dug eaten fallen fed fell felt fled flew flown "
    "forbade forbidden forced forgave forgiven forgot forgotten fought found froze frozen gave "
    "given gone gotten got grew ground grown had heard held hid hidden hit hung hurt kept knew "
    "known laid lay led left lent let lit lost made meant met mistook overcame overtook overthrew "
    "overthrown paid put quit ran rang read ridden risen rode rose run said sang sank sat saw "
    "seen sent set shaken shone shook shot shown shrank shut slain slept slew slid sold sought "
    "spent split spoke spoken spread sprang stole stolen stood strove struck sung swam swept "
    "swore sworn swung taken taught thought threw thrown told took torn tore understood undertook "
    "undertaken underwent upheld went withdrew withdrawn withheld withstood woke won wore worn "
    "wove woven wound written wrote overseen oversaw undergone become begun bidden come"
)
"""Past forms and participles of irregular verbs."""

_BASES = words(
    "accept accompany accuse achieve acknowledge acquire act adapt add address administer admit "
    "adopt advance advise advocate affect agree aid aim allege allow analyse analyze announce "
    "answer appear apply appoint approve argue arrange arrest arrive ask assassinate assemble "
    "assert assign assist associate assume attack attain attempt attend attract attribute award "
    "ban base battle become begin believe belong block boost borrow break bring broadcast build "
    "buy call campaign cancel capture carry cast cause celebrate challenge change charge choose "
    "cite claim coach coin collaborate collapse collect combine command commission commit compare "
    "compete compile complete compose comprise conceive conclude condemn conduct confirm connect "
    "conquer consider consist construct contain continue contribute control convert convict "
    "convince cover create criticise criticize cross cultivate cure damage date deal debut decide "
    "declare decline decorate dedicate defeat defend define deliver demand demonstrate denounce "
    "deny depart depend depict derive describe design destroy detect determine develop devise "
    "devote die differ direct disappear discover discuss dismiss display dispute dissolve "
    "distribute divide divorce dominate donate draft draw drive drop earn edit educate elect "
    "eliminate embrace emerge emigrate emit employ enable end endorse engage engineer enjoy enter "
    "entitle erect escape establish estimate evaluate examine execute exist expand expel explain "
    "explore export express extend face fail favor favour feature fight file fill finance find "
    "finish flee flow fly follow forbid force form found free fund gain generate get give govern "
    "graduate grant grow guide halt happen head heat help hire hold honor honour host house "
    "identify illustrate imagine implement import imprison improve include incorporate increase "
    "indicate influence inform inhabit inherit initiate injure inspire install instruct introduce "
    "invade invent invest investigate invite involve isolate issue join judge keep kill know "
    "label lack land last launch lead learn leave lend license link list live locate lose love "
    "maintain make manage manufacture march mark marry mean measure meet mentor merge migrate "
    "model modify move murder name need negotiate nominate note observe obtain occupy occur offer "
    "open operate oppose orbit order organise organize originate overlook oversee own paint "
    "participate pass patent pay perform permit persuade photograph pioneer plan play pledge "
    "poison portray position possess power practice practise praise predict prefer prepare "
    "present preserve preside prevent print proclaim produce promise promote propose prosecute "
    "protect prove provide publish pull purchase pursue push qualify quit raise rank reach read "
    "realise realize rebuild receive recognise recognize recommend record recover recruit reduce "
    "refer reform refuse regard reign reject relate release rely remain remember remove rename "
    "render renovate repair replace report represent request require rescue research resemble "
    "reside resign resist resolve respond rest restore restrict result resume retain retire "
    "return reveal reverse review revise revive rise rule run sail save say score sculpt search "
    "secure see seek select sell send separate serve settle shape share shoot show sign sing sink "
    "situate solve span speak specialise specialize sponsor stage stand star start state stay "
    "stop strike struggle study style submit succeed sue suffer suggest supervise supply support "
    "surrender surround survive suspect suspend sustain swear take target teach tell terminate "
    "test testify thank think threaten tour trace train transfer transform translate transmit "
    "travel treat trigger try turn undergo understand unify unite unveil urge use value view "
    "violate visit vote walk want warn wear welcome win withdraw witness work worship write yield "
    "bear absorb attract convert hunt eat feed regulate"
)
_NOT_PAST = words(
    "hundred hundreds need speed seed breed bed red shed sacred kindred naked wicked indeed weed "
    "deed greed reed creed steed exceed proceed succeed feed bleed agreed-upon so-called infrared "
    "embed ted"
)
_NOT_ING = words(
    "king ring thing things something anything nothing everything spring string wing being during "
    "morning evening ceiling building painting meeting beijing wedding sterling viking sibling "
    "darling ping sing bring swing bowling boxing"
)


def _with_s(base: str) -> str:
    if base.endswith(("s", "x", "z", "ch", "sh")):
        return base + "es"
    if base.endswith("y") and base[-2:-1] not in "aeiou":
        return base[:-1] + "ies"
    return base + "s"


PRESENT = frozenset(_with_s(base) for base in _BASES) | {"goes", "does"}
"""Third persons of the present; many are plurals of nouns as well."""

BASES = _BASES
"""Bare forms; many are nouns as well."""


def is_past(word: str) -> bool:
    """Return whether a word in lower case looks like a past form or participle."""
    if word in IRREGULAR_PAST:
        return True
    return len(word) > 3 and word.endswith("ed") and word not in _NOT_PAST


def is_gerund(word: str) -> bool:
    """Return whether a word in lower case looks like a form in -ing."""
    return len(word) > 4 and word.endswith("ing") and word not in _NOT_ING


def is_verb(word: str) -> bool:
    """Return whether a word in lower case can be the finite verb behind a name."""
    return is_past(word) or word in PRESENT
