"""Closed lists of English words that the rules of extraction stand on.

Which words these are is a fact of the language: function words, forms of irregular
verbs, months, forms of address. Words of the open classes are recognised by their
endings, except for the verbs that texts about facts are made of.
"""

from __future__ import annotations

from reflectory.retrieval.sentences import words

DETERMINERS = words(
    "the a an this that these those its his her their our my your whose each every some any no "
    "both all several many most few other another such"
)
PREPOSITIONS = words(
    "of in on at by for from with to into onto upon about against between among amongst through "
    "throughout during before after above below under over near across along around behind beside "
    "beyond despite except inside outside off toward towards until till via within without per "
    "like than since"
)
CONJUNCTIONS = words("and or but nor yet plus & versus vs")
RELATIVE = words("who which that whom where when whose")
SUBORDINATE = words(
    "because although though while whereas if unless whether as so how why what once whatever "
    "whoever however"
)
PRONOUNS = words(
    "i you he she it we they me him us them himself herself itself themselves someone something "
    "everyone everybody everything nobody nothing somebody anybody anyone "
    "anything one there here mine yours hers ours theirs "
    "myself yourself ourselves"
)
ADVERBS = words(
    "not never also then now later soon often always sometimes once again still already just only "
    "even ever almost quite rather very too well together instead perhaps maybe today yesterday "
    "tomorrow tonight eventually meanwhile nevertheless nonetheless therefore thus hence moreover "
    "furthermore indeed besides otherwise currently first afterwards ago away back up down out "
    "originally formerly currently else more less much least yes oh please best better early long "
    "further twice abroad alone later jointly"
)
BE = words("is are was were be been being am 's")
AUXILIARIES = BE | words(
    "has have had having do does did can could will would shall should may might must"
)
MONTHS = words(
    "january february march april may june july august september october november december"
)
DAYS = words("monday tuesday wednesday thursday friday saturday sunday")
NUMERALS = words(
    "two three four five six seven eight nine ten eleven twelve hundred hundreds thousand "
    "thousands million millions billion billions trillion dozen dozens half second third fourth "
    "last next"
)

FUNCTION_WORDS = (
    DETERMINERS
    | PREPOSITIONS
    | CONJUNCTIONS
    | RELATIVE
    | SUBORDINATE
    | PRONOUNS
    | ADVERBS
    | AUXILIARIES
    | NUMERALS
)
"""Words that are no name when they begin a sentence, and no topic by themselves."""

PARTICLES = words(
    "de von van der den du la le di da del della dos das do bin ibn al el af av ter ten zu zum y "
    "des degli dal bint und"
)
"""Small words inside names of persons and places."""

INSTITUTIONS = words(
    "university institute institution ministry department agency organization organisation "
    "committee commission center centre centers centres council court society association academy "
    "endowment foundation fund bureau office board college school bank conference campaign "
    "union federation "
    "prize award medal journal museum library church house party company act "
    "treaty convention treaty programme program service services"
)
"""Words after which ``for``, ``on``, ``in`` or a later ``and`` can be part of a name."""

ADDRESS = words(
    "mayor "
    "architect journalist poet novelist painter historian philosopher "
    "mr mrs ms mx messrs mme mlle dr prof professor sir dame president senator governor minister "
    "chancellor ambassador rev reverend hon gen col lt capt sgt maj cmdr adm gov sen rep pres fr "
    "herr frau madame monsieur señor señora doctor congressman congresswoman ceo chairman director "
    "actor actress author singer composer writer physicist chemist"
)
"""Forms of address and professions, which are not part of the name behind them."""
ROLES = ADDRESS | words(
    "chief secretary head officer commissioner fellow professor member members founder "
    "scientist adviser advisor staff minister ministers presidents directors "
    "senators leader manager coach captain speaker judge"
)
"""Words before *of* that say what somebody is of the name behind it."""
BEFORE_ADDRESS = words("prime vice federal deputy former foreign chief executive")

ABBREVIATIONS = ADDRESS | words("st mt ft jr sr no inc ltd co corp bros")
"""Words that a full stop follows inside a name."""

COMPANY_FORMS = words(
    "inc ltd co corp corporation company limited llc plc gmbh ag sa nv incorporated group holdings"
)
NOT_SURNAME_FIRST = words(
    "new north south east west northern southern eastern western central upper lower great little "
    "san santa los las el la saint st fort mount mt lake river cape port point big old grand "
    "united royal national international american british world"
)
"""First words of names whose last word does not stand for the whole."""

UNITS = words(
    "mhz khz ghz kw mw kwh mwh gb mb kb tv cd dvd cds dvds eps kilometers kilometres celsius"
)
"""Units and carriers that are written with capitals and are no names."""

GROUPS = words(
    "northern southern eastern western "
    "ottomans aztec aztecs inca incas olympic "
    "american british english french german italian spanish russian chinese japanese korean "
    "indian canadian australian dutch swedish norwegian danish finnish polish greek turkish irish "
    "scottish welsh mexican brazilian argentine egyptian israeli iranian iraqi austrian swiss "
    "belgian portuguese hungarian czech romanian ukrainian soviet european african asian roman "
    "arab jewish christian muslim islamic catholic protestant latin cuban chilean colombian "
    "pakistani afghan vietnamese thai indonesian philippine nigerian kenyan ethiopian "
    "south-african icelandic serbian croatian bulgarian slovak estonian latvian lithuanian "
    "persian byzantine ottoman victorian americans germans italians russians indians canadians "
    "australians europeans africans asians romans greeks jews christians muslims arabs "
    "republicans democrats republican democratic hawaiian californian texan tibetan mongolian "
    "peruvian moroccan algerian syrian lebanese"
)
"""Nationalities and peoples: named, but shared by too many documents to link them."""
