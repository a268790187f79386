"""Drafts of questions: facts, bridges over two documents, and comparisons of two."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.practice import Drafter
from reflectory.agents.practice.drafts import _plural, subject_of
from reflectory.types import Passage


def about(title, text, *, document="", start=0):
    document = document or title
    return Passage(
        id=f"{document}#{start}",
        document_id=document,
        title=title,
        text=text,
        start=start,
        end=start + len(text),
    )


NOVEL = about("The Glass Tower", "Anna Berg wrote The Glass Tower in 1931.")
ANNA = about("Anna Berg", "Anna Berg (born 3 May 1902) was a Danish writer. She lived in Lund.")
CARL = about("Carl Holm", "Carl Holm (born June 8, 1911) was a Swedish writer.")
ROE = about("Lake Roe", "Lake Roe is a small lake. It has the shape of a bowl.")
PEOPLE = [ANNA, CARL, NOVEL, ROE]


def by_question(drafts):
    return {question: draft for draft in drafts for question in draft.questions}


def test_a_fact_asks_one_passage_and_knows_what_else_could_be_the_answer():
    draft = by_question(Drafter(PEOPLE).facts(ANNA))["Where did Anna Berg live?"]
    assert (draft.kind, draft.answer, draft.passages) == ("fact", "Lund", (ANNA,))
    assert "3 May 1902" in draft.rivals
    assert "Lund" not in draft.rivals


def test_a_bridge_says_in_place_of_a_name_what_another_document_says_of_it():
    found = by_question(Drafter(PEOPLE).bridges())
    draft = found["Where did the Danish writer that wrote The Glass Tower in 1931 live?"]
    assert (draft.kind, draft.answer) == ("bridge", "Lund")
    assert draft.passages == (NOVEL, ANNA)
    assert draft.rivals[0] == "Anna Berg"
    assert not any("Anna Berg" in question for question in found)


@pytest.mark.parametrize(
    ("said", "described"),
    [
        # "Ann" is part of another word, and is named beside its gap.
        ("Hannah met Ann in Anniston.", about("Ann", "Ann was a writer. Hannah wrote in May.")),
        # What is described has no 's.
        ("Carl Holm painted Lake Roe in 1931.", about("Lake Roe", "Lake Roe's tower is a ruin.")),
        # Nothing says what it is.
        ("Carl Holm painted Lake Roe in 1931.", about("Lake Roe", "Lake Roe froze in 1940.")),
    ],
)
def test_what_cannot_be_put_in_place_of_a_name_is_no_bridge(said, described):
    assert Drafter([about("Diary", said), described]).bridges() == []


def test_one_document_alone_has_neither_bridges_nor_comparisons():
    whole = f"{NOVEL.text} {ANNA.text}"
    drafter = Drafter([about("Anna Berg", whole), about("Anna Berg", whole, start=200)])
    assert drafter.bridges() == []
    assert drafter.comparisons(10) == []


def test_who_was_born_first_is_right():
    found = [d for d in Drafter(PEOPLE).comparisons(20) if "born first" in d.questions[0]]
    assert len(found) == 1
    assert found[0].answer == "Anna Berg"
    assert found[0].rivals == ("Carl Holm",)
    assert {ANNA, CARL} == set(found[0].passages)


@pytest.mark.parametrize(
    "text",
    [
        "Eva Lind was a singer. Her son Olaf was born in 1890.",  # somebody else
        "Eva Lind (born 1911) was a singer.",  # the same year
        "Eva Lind was a singer.",
    ],
)
def test_who_was_born_first_is_not_asked_where_nobody_can_say(text):
    drafts = Drafter([CARL, about("Eva Lind", text)]).comparisons(20)
    assert not any("born first" in d.questions[0] for d in drafts)


def test_two_documents_of_one_title_are_not_compared():
    twins = [ANNA, about("Anna Berg", CARL.text, document="another")]
    assert Drafter(twins).comparisons(20) == []


def test_both_of_a_kind_is_answered_by_what_they_are():
    found = [d for d in Drafter(PEOPLE).comparisons(20) if "both" in d.questions[0]]
    assert {d.answer for d in found} == {"yes", "no"}
    for draft in found:
        heads = {"Anna Berg": "writers", "Carl Holm": "writers", "Lake Roe": "lakes"}
        kind = draft.questions[0].rstrip("?").split()[-1]
        same = all(heads[subject_of(p)] == kind for p in draft.passages)
        assert draft.answer == ("yes" if same else "no")
        assert draft.rivals == ("no" if same else "yes",)


def test_no_is_never_the_answer_where_a_text_says_that_it_is_one_too():
    actor = about("Eva Lind", "Eva Lind was an actor and a writer.")
    drafts = Drafter([ANNA, actor]).comparisons(40)
    assert not any("both writers" in q for d in drafts for q in d.questions)


@pytest.mark.parametrize("title", ["C++ (a+b)*[", "What?", ".*", "\\", "(only)", "a" * 300, "\n"])
def test_titles_are_no_patterns(title):
    odd = about(title, "It was a writer. C++ (born 3 May 1902) was a writer. It lived in Lund.")
    drafter = Drafter([odd, *PEOPLE, about("B", f"Anna Berg met {title} in 1931.")])
    drafts = [*drafter.facts(odd), *drafter.bridges(), *drafter.comparisons(9)]
    assert all(draft.questions for draft in drafts)


def test_the_same_seed_draws_the_same_pairs():
    many = [
        about(f"Eva Lind{n}", f"Eva Lind{n} (born 3 May {1900 + n}) was a {kind}.")
        for n in range(20)
        for kind in [("writer", "painter")[n % 2]]
    ]

    def drawn(seed):
        return [d.questions for d in Drafter(many, seed).comparisons(8)]

    assert len(drawn(1)) == 8
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert Drafter(many).comparisons(0) == []
    assert len({frozenset(d.passages) for d in Drafter(many).comparisons(500)}) > 5
    assert len(set(drawn(1))) == 8  # none twice


def test_nothing_comes_of_nothing():
    drafter = Drafter([])
    assert drafter.bridges() == []
    assert drafter.comparisons(5) == []


_TITLES = st.sampled_from(["Anna Berg", "Carl Holm", "Lake Roe", "Diary", "", "Carl (x)"])
_TEXTS = st.lists(
    st.sampled_from(
        [
            "Anna Berg (born 3 May 1902) was a writer. ",
            "Carl Holm was a painter. ",
            "He was born in 1911. ",
            "Carl Holm met Anna Berg in 1931. ",
            "Lake Roe is a lake. ",
            "It has a tower. ",
            "Anna Berg painted Lake Roe. ",
            "No writer lived in Lund. ",
        ]
    ),
    max_size=4,
).map("".join)


@given(st.lists(st.tuples(_TITLES, _TEXTS), max_size=5))
def test_drafts_hold_for_any_documents(given_documents):
    passages = [about(t, text, document=str(n)) for n, (t, text) in enumerate(given_documents)]
    drafter = Drafter(passages)
    multi = [*drafter.bridges(), *drafter.comparisons(10)]
    for draft in [*multi, *(d for p in passages for d in drafter.facts(p))]:
        said = " ".join(f"{p.title} {p.text}" for p in draft.passages)
        if draft.kind != "comparison":
            assert draft.answer in said
            assert all(draft.answer.casefold() not in q.casefold() for q in draft.questions)
        assert draft.answer not in draft.rivals
        assert all(re.fullmatch(r"[^?]+\?", q) for q in draft.questions)
    for draft in multi:
        assert len(draft.documents) == 2


def test_plurals():
    words = ["city", "day", "box", "church", "series", "woman", "human", "person", "lake"]
    found = " ".join(map(_plural, words))
    assert found == "cities days boxes churches series women humans people lakes"
