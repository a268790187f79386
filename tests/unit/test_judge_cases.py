"""What the cases of a trial are made of: right is right, and wrong is wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import passage, world

from reflectory.errors import UserError
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.judge import cases as kinds
from reflectory.evaluation.judge.cases import make_cases, padded, wordings
from reflectory.evaluation.judge.spans import overlap, spans_of, type_of
from reflectory.evaluation.metrics import contains_answer
from reflectory.retrieval.structure import RuleExtractor

ITEMS = world()


def extract(text):
    return RuleExtractor().extract([text])[0]


def of_kind(cases, kind):
    return [case for case in cases if kind in case.kinds]


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("1908", "year"),
        ("30 June 1908", "date"),
        ("May 1908", "date"),
        ("six", "number"),
        ("1,250", "number"),
        ("32 metres", "amount"),
        ("German", "group"),
        ("Leonid Kulik", "name"),
        ("the Avarkitta River", "name"),
        ("20th Century Fox", "name"),
        ("a failed attempt", "phrase"),
        ("", "phrase"),
        ("?!", "phrase"),
    ],
)
def test_types(text, type_):
    assert type_of(text) == type_


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Leonid Kulik", "Kulik"),
        ("Germany", "German"),
        ("six", "6"),
        ("1,250", "1250 people"),
        ("30 June 1908", "1908"),
        ("GmbH", "Gesellschaft mit beschränkter Haftung"),
        ("Federal Bureau of Investigation", "F.B.I."),
    ],
)
def test_what_may_mean_the_same_overlaps(one, two):
    assert overlap(one, two)
    assert overlap(two, one)


@pytest.mark.parametrize(
    ("one", "two"), [("Paris", "Rome"), ("1941", "1945"), ("seven", "8"), ("", "Rome"), ("", "")]
)
def test_what_means_something_else_does_not(one, two):
    assert not overlap(one, two)


@given(st.text(max_size=40), st.text(max_size=40))
def test_overlap_is_symmetric_and_takes_every_text(one, two):
    assert overlap(one, two) == overlap(two, one)


def test_spans_are_found_once_with_years_out_of_dates():
    text = "It fell on 30 June 1908 near Vanavara (Vanavara, 65 km away), with 18 reindeer."
    named, _ = spans_of([passage("a", "Fall (event)", text)], extract)
    found = {span.text: span.type for span in named}
    assert found["Fall"] == "name"
    assert found["30 June 1908"] == "date"
    assert found["1908"] == "year"
    assert found["Vanavara"] == "name"
    assert found["65"] == "number"
    assert [span.text for span in named].count("Vanavara") == 1


def test_wrong_answers_are_wrong():
    for case in make_cases(ITEMS):
        item = ITEMS[case.item]
        if not case.right:
            assert not contains_answer(case.text, item.references)
            plain = {kinds.SAME_DOCUMENTS, kinds.OTHER_ROWS, kinds.COPY}
            if not plain.isdisjoint(case.kinds):
                assert not overlap(case.text, item.references[0])
        elif kinds.RIGHT in case.kinds:
            assert case.text in item.references


def test_every_kind_is_there_and_no_more_than_asked_for():
    cases = make_cases(ITEMS, wrong_per_kind=3)
    for place in range(len(ITEMS)):
        mine = [case for case in cases if case.item == place]
        counts = {kind: len(of_kind(mine, kind)) for kind in kinds.WRONG_KINDS}
        assert counts[kinds.SAME_DOCUMENTS] == counts[kinds.OTHER_ROWS] == 3
        assert 1 <= counts[kinds.SAME_TYPE] <= 3
        assert counts[kinds.ECHO] == counts[kinds.COPY] == counts[kinds.EMPTY] == 1
        assert counts[kinds.OPPOSITE] == counts[kinds.OTHER_OPTION] == 0
        assert len(of_kind(mine, kinds.RIGHT)) == 1
        assert len(of_kind(mine, kinds.PADDED)) == len(of_kind(mine, kinds.PADDED_WRONG)) == 1
        assert of_kind(mine, kinds.WORDING)


def test_a_year_is_told_from_years_and_a_name_from_names():
    for case in of_kind(make_cases(ITEMS), kinds.SAME_TYPE):
        assert type_of(case.text) == type_of(ITEMS[case.item].references[0])


def test_names_of_the_same_documents_stand_there():
    for case in of_kind(make_cases(ITEMS), kinds.SAME_DOCUMENTS):
        where = " ".join(f"{p.title} {p.text}" for p in ITEMS[case.item].context)
        assert case.text in where


def test_what_the_question_says_is_no_candidate():
    for case in of_kind(make_cases(ITEMS), kinds.SAME_DOCUMENTS):
        assert not overlap(case.text, ITEMS[case.item].question)


def test_the_same_seed_gives_the_same_and_another_one_something_else():
    assert make_cases(ITEMS, seed=1) == make_cases(ITEMS, seed=1)
    assert make_cases(ITEMS, seed=1) != make_cases(ITEMS, seed=2)


def test_cases_of_a_question_do_not_depend_on_the_others():
    def own(cases, name):
        mine = [c for c in cases if ITEMS[c.item].id == name and kinds.OTHER_ROWS not in c.kinds]
        return [(c.text, c.kinds) for c in mine]

    assert own(make_cases(ITEMS), "q2") == own(make_cases(ITEMS[:9]), "q2")


def test_yes_and_no_get_the_opposite_alone_and_are_nobody_elses_answer():
    closed = ITEMS[0].model_copy(update={"id": "closed", "references": ("Yes",)})
    cases = make_cases([closed, *ITEMS])
    mine = [c for c in cases if c.item == 0 and not c.right and c.of is None]
    assert [(c.text, c.kinds) for c in mine] == [("No", (kinds.OPPOSITE,))]
    others = {c.text.lower() for c in of_kind(cases, kinds.OTHER_ROWS)}
    assert others.isdisjoint({"yes", "no"})


def test_a_question_that_names_its_answer_gets_the_other_option():
    text = "Ada Adler was born in 1850. Boris Brandt was born in 1860."
    item = HeldOutItem(
        id="older",
        question="Who was born first, Ada Adler or Boris Brandt?",
        references=("Ada Adler",),
        context=(passage("a", "Births", text),),
    )
    options = of_kind(make_cases([item]), kinds.OTHER_OPTION)
    assert [case.text for case in options] == ["Boris Brandt"]


def test_known_right_answers_are_right_and_never_wrong():
    item = ITEMS[0]
    free = [c.text for c in of_kind(make_cases([item]), kinds.SAME_DOCUMENTS)]
    cases = make_cases([item], known_right={item.id: [free[0], item.references[0].upper()]})
    right = [c.text for c in of_kind(cases, kinds.RIGHT)]
    assert right == [item.references[0], free[0]]  # capitals alone make no other answer
    assert free[0] not in [c.text for c in of_kind(cases, kinds.SAME_DOCUMENTS)]


def test_wordings_and_padding_keep_the_answer():
    assert wordings("The Moon.") == ("The Moon", "Moon")
    assert wordings("Moon") == ("Moon.",)
    assert wordings(".") == ("..",)
    assert contains_answer(padded("Leonid Kulik."), "Leonid Kulik")


@pytest.mark.parametrize(
    ("items", "options"),
    [([], {}), ([ITEMS[0], ITEMS[0]], {}), (ITEMS, {"wrong_per_kind": 0})],
)
def test_what_cannot_be_a_trial_is_said(items, options):
    with pytest.raises(UserError) as caught:
        make_cases(items, **options)
    assert caught.value.hint


@settings(max_examples=40, deadline=None)
@given(
    reference=st.text(min_size=1, max_size=30).filter(str.strip),
    question=st.text(max_size=60),
    text=st.text(max_size=200),
)
def test_every_text_makes_cases(reference, question, text):
    item = HeldOutItem(
        id="any",
        question=question,
        references=(reference,),
        context=(passage("a", "", text),) if text else (),
    )
    cases = make_cases([item, *ITEMS[:3]])
    right = {c.text for c in cases if c.item == 0 and c.right and c.of is None}
    wrong = {c.text for c in cases if c.item == 0 and not c.right}
    assert right and right.isdisjoint(wrong)
    assert all(case.text.strip() for case in cases)
