"""Subjects, sections, and mentions of the same thing across documents."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.structure import (
    Gazetteer,
    NameFinder,
    RuleExtractor,
    link_entities,
    name_key,
    structure_of,
)
from reflectory.types import Document

EXTRACTOR = RuleExtractor()


def world(*texts):
    """Return documents of (title, text) with their structures and links."""
    documents = [
        preprocess(Document(id=f"d{n}", title=title, text=text))
        for n, (title, text) in enumerate(texts)
    ]
    structures = [
        structure_of(document, found)
        for document, found in zip(
            documents, EXTRACTOR.extract([d.text for d in documents]), strict=True
        )
    ]
    return documents, structures, link_entities(documents, structures)


def mentioned(links, document):
    return [links.names[entity] for entity, _, _ in links.mentions[document]]


def about(links, document):
    return [links.keys[entity] for entity in links.about[document]]


def subjects(title, text):
    return world((title, text))[1][0].subjects


# Structure


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Ed Wood (film)", "A film of 1994.", ("Ed Wood (film)", "Ed Wood")),
        ("", "Marie Curie was a physicist.", ("Marie Curie",)),
        ("", "The Beatles were a band.", ("Beatles",)),
        ("", "It was cold in Rome.", ()),
        (
            "WHO",
            "The World Health Organization (WHO) is an agency.",
            ("WHO", "World Health Organization"),
        ),
        (
            "Pelé",
            "Edson Arantes do Nascimento (born 1940), better known as Pelé, played football.",
            ("Pelé", "Edson Arantes do Nascimento"),
        ),
        (
            "",
            "# Notes\n\nAda Lovelace, also known as Ada Byron, wrote.",
            ("Ada Lovelace", "Ada Byron"),
        ),
    ],
)
def test_what_a_document_is_about(title, text, expected):
    assert subjects(title, text) == expected


def test_sections_reach_to_the_next_of_their_level():
    text = "# One #\n\nText here.\n\n## Two\n\nMore.\n\n# Three\n\nEnd.\n\nFour\n----\n\nLast."
    (structure,) = world(("t", text))[1]
    found = [(s.title, s.level) for s in structure.sections]
    assert found == [("One", 1), ("Two", 2), ("Three", 1), ("Four", 2)]
    one, two, three, four = structure.sections
    assert text[one.start : one.end].endswith("More.\n\n")
    assert two.end == three.start == one.end
    assert three.end == four.end == len(text)


def test_a_line_of_capitals_is_a_heading():
    (structure,) = world(("t", "THE EARLY YEARS\n\nShe lived in Rome."))[1]
    assert [s.title for s in structure.sections] == ["THE EARLY YEARS"]


# Links


def test_one_name_is_one_entity_across_documents():
    _, _, links = world(
        ("Rome", "Rome is a city."),
        ("", "They went to Rome's walls. The café of ROME closed."),
    )
    rome = links.keys.index("rome")
    assert links.about[0] == (rome,)
    assert [entity for entity, _, _ in links.mentions[1]].count(rome) == 2


def test_a_surname_stands_for_the_only_full_name():
    _, _, links = world(("", "Marie Curie worked. Later Curie won. With Paul Newman, Newman left."))
    assert mentioned(links, 0) == ["Marie Curie", "Marie Curie", "Paul Newman", "Paul Newman"]
    assert links.aliases["curie"] == links.keys.index("marie curie")


def test_an_ambiguous_surname_stands_for_itself():
    _, _, links = world(("", "Marie Curie and Pierre Curie worked. Everybody liked Curie."))
    assert mentioned(links, 0) == ["Marie Curie", "Pierre Curie", "Curie"]
    _, _, links = world(
        ("", "Here is Marie Curie. Then Curie won."), ("", "Here is Eve Curie. Then Curie wrote.")
    )
    assert "curie" not in links.aliases


def test_places_are_not_shortened():
    _, _, links = world(("", "He left New York for York."))
    assert mentioned(links, 0) == ["New York", "York"]


def test_an_acronym_joins_where_it_is_stated_once():
    texts = [
        ("", "We asked the World Health Organization (WHO) then."),
        ("", "They said the WHO knew."),
    ]
    _, _, links = world(*texts)
    assert mentioned(links, 1) == ["World Health Organization"]
    _, _, links = world(*texts, ("", "Here is the Western Harbour Office (WHO) too."))
    assert mentioned(links, 1) == ["WHO"]


def test_an_alias_that_is_stated_joins_across_documents():
    _, _, links = world(
        ("Istanbul", "Istanbul, formerly known as Constantinople, is a city."),
        ("", "He reached Constantinople then."),
    )
    assert mentioned(links, 1) == ["Istanbul"]


def test_a_title_with_brackets_is_its_bare_form_unless_that_is_shared():
    _, _, links = world(("Dune (novel)", "A book."), ("", "She liked Dune very much."))
    assert mentioned(links, 1) == ["Dune"]
    assert links.mentions[1][0][0] in links.about[0]
    _, _, links = world(
        ("Mercury (planet)", "Here Mercury is a planet."),
        ("Mercury (element)", "Here Mercury is an element."),
        ("", "She liked Mercury."),
    )
    planet, element = (links.keys.index(f"mercury {kind}") for kind in ("planet", "element"))
    assert [row[0][0] for row in links.mentions] == [planet, element, links.keys.index("mercury")]
    assert about(links, 0) == ["mercury", "mercury planet"]
    assert planet != element


def test_common_words_as_titles_match_as_names_only():
    _, _, links = world(
        ("It", "A novel."),
        ("Home", "A film."),
        ("", "It rained. They saw it at home. Then Home opened, and they read It."),
        ("", "Home of many."),
    )
    assert mentioned(links, 2) == ["Home", "It"]
    assert mentioned(links, 3) == []


def test_subjects_are_found_where_the_extractor_sees_no_name():
    _, _, links = world(("Black hole", "A thing."), ("", "There is a black hole."))
    assert mentioned(links, 1) == ["Black hole"]
    _, _, links = world(("It Follows", "A film."), ("", "From this it follows that."))
    assert mentioned(links, 1) == []


def test_a_single_word_inside_a_longer_name_is_a_part_of_it():
    _, _, links = world(("Paris", "A city."), ("", "We met Paris Hilton."))
    assert mentioned(links, 1) == ["Paris Hilton"]


def test_relations_join_entities_by_any_of_their_names():
    _, structures, links = world(
        ("", "Marie Curie married Pierre Curie. Marie Curie taught students.")
    )
    ((subject, thing, at),) = links.relations[0]
    assert (links.keys[subject], links.keys[thing]) == ("marie curie", "pierre curie")
    assert structures[0].relations[at].verb == "married"


def test_kinds_are_kept_so_that_weak_ones_can_be_told():
    _, _, links = world(("", "In 1999 the French team met Anna Roth."))
    kinds = dict(zip(links.keys, links.kinds, strict=True))
    assert kinds == {"1999": "date", "french": "group", "anna roth": "name"}


def test_structures_of_other_documents_are_refused():
    documents, structures, _ = world(("a", "b"), ("c", "d"))
    with pytest.raises(UserError, match="belong together"):
        link_entities(documents, structures[::-1])


WORDS = ["Ann Lee", "Lee", "Bo Lee", "Rome", "the", "met", "in", ".", "(AL)", "also known as", "it"]
TITLES = ["", "Rome", "Rome (film)", "Lee", "Ann Lee", "It"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TITLES), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
        ),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_documents_changes_positions_only(texts, rng):
    documents, structures, links = world(*texts)
    order = list(range(len(documents)))
    rng.shuffle(order)
    moved = link_entities([documents[n] for n in order], [structures[n] for n in order])
    assert (moved.keys, moved.names, moved.kinds) == (links.keys, links.names, links.kinds)
    assert moved.aliases == links.aliases
    assert moved.mentions == tuple(links.mentions[n] for n in order)
    assert moved.about == tuple(links.about[n] for n in order)
    assert list(links.keys) == sorted(set(links.keys))
    for document, row in zip(documents, links.mentions, strict=True):
        assert [start for _, start, _ in row] == sorted(start for _, start, _ in row)
        assert all(0 <= start < end <= len(document.text) for _, start, end in row)


# Questions


def finder(*texts):
    links = world(*texts)[2]
    names = [links.keys[entity] for row in links.about for entity in row]
    return links, NameFinder(links.keys, names, EXTRACTOR, links.aliases)


def test_a_question_names_entities():
    links, find = finder(
        ("Ed Wood", "Ed Wood was a director. Wood met Bela Lugosi. They say Lugosi sang."),
        ("It", "A novel by Stephen King."),
        ("Photosynthesis", "It makes sugar."),
    )

    def named(question):
        return [links.names[entity] for entity in find.find(question)]

    assert named("Who directed Bela Lugosi and Ed Wood?") == ["Bela Lugosi", "Ed Wood"]
    assert named("what did ed wood direct with bela lugosi?") == ["Ed Wood", "Bela Lugosi"]
    assert named("What is it?") == []
    assert named("Who wrote It?") == ["It"]
    assert named("Photosynthesis makes what?") == ["Photosynthesis"]
    assert named("Where did Lugosi live?") == ["Bela Lugosi"]
    assert named("") == []


# Size


def test_the_gazetteer_takes_the_longest_name_and_whole_words():
    gazetteer = Gazetteer(["new york", "new york times", "york", "ann"])
    text = "The New York Times, New York and Anna of York."
    assert [text[h.start : h.end] for h in gazetteer.find(text)] == [
        "New York Times",
        "New York",
        "York",
    ]


def test_many_names_are_found_quickly():
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdefgh", k=6)).title() for _ in range(20_000)]
    gazetteer = Gazetteer(map(name_key, names))
    text = " ".join(f"and {name} met someone" for name in names[:5_000])
    began = time.process_time()
    assert len(list(gazetteer.find(text))) >= 5_000
    assert time.process_time() - began < 2


ENDLESS = {
    "letters": "A ",
    "capitals": "A",
    "no stop": "the king saw a house in Paris and ",
    "names": "Paris, London, ",
    "brackets": ") was ( is ",
    "quotes": '"Ab ',
    "acronyms": "Alpha Beta (AB) ",
    "aliases": "A, also known as B ",
    "verbs": "was made by ",
    "of": "king of ",
}


@pytest.mark.parametrize("unit", ENDLESS.values(), ids=ENDLESS.keys())
def test_time_grows_with_the_length_of_a_text_only(unit):
    def seconds(length):
        document = Document(id="d", title="Paris", text=unit * (length // len(unit)))
        began = time.process_time()
        structure = structure_of(document, EXTRACTOR.extract([document.text])[0])
        link_entities([document], [structure])
        return time.process_time() - began

    # Quadratic time would be 64 times as long. The shortest of two, because a busy machine
    # changes its speed between one measurement and the next.
    short, long = (min(seconds(length) for _ in range(2)) for length in (20_000, 160_000))
    assert long < 24 * short + 0.5
