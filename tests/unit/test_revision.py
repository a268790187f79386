"""Which draft becomes the next response: grades, ties, short stretches and failures."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from revising import EXPLAIN, HAD, KULIK, PEAT, WHO, WROTE, Bench, cell, listed, response

from reflectory.alignment import CellStatus
from reflectory.errors import BackendError
from reflectory.types import Examination

# What is accepted


@pytest.mark.parametrize(
    ("grade", "text", "score"), [(0.4, HAD, 0.5), (0.5, HAD, 0.5), (0.51, WROTE, 0.51)]
)
def test_a_reflection_is_accepted_when_it_is_graded_above_what_there_was(grade, text, score):
    bench = Bench({WROTE: grade})
    made = bench.revise()
    assert (made.text, made.grade.score, made.failure) == (text, score, None)
    assert made.iteration == 3
    assert [task.answer for task in bench.graded] == [WROTE]  # R_t was graded under C_t
    ranked = [("kept", HAD, 0.5), ("reflection", WROTE, grade)]
    assert listed(made) == sorted(ranked, key=lambda draft: -draft[2])


def test_always_takes_what_was_written_and_grades_nothing():
    bench = Bench({}, [WROTE, "Another."], accept="always", drafts=5, cheap=True, condense="always")
    made = bench.revise(WHO)
    assert (made.text, made.grade, made.drafts) == (WROTE, None, ())
    assert bench.graded == [] and len(bench.model.requests) == 1


@pytest.mark.parametrize(("grade", "text"), [(0.59, HAD), (0.6, HAD), (0.61, WROTE)])
def test_the_minimum_gain_has_to_be_exceeded(grade, text):
    assert Bench({WROTE: grade}, minimum_gain=0.1).revise().text == text


def test_what_stays_keeps_its_record_and_is_not_graded_again():
    named = response(cited=("k",), cited_by="student", thinking="Hm.")
    made = Bench({WROTE: 0.2}).revise(had=named)
    assert made.answer == named.answer and made.grade == named.grade


def test_when_the_context_has_grown_what_there_was_is_graded_again_under_it():
    named = response(f"{HAD} See [2].", 0.9, cited=("k",), cited_by="student", thinking="Hm.")
    bench = Bench({WROTE: 0.6, named.text: 0.3})
    made = bench.revise(had=named, context=(KULIK, PEAT), grown=True)
    assert (made.text, made.grade.score) == (WROTE, 0.6)
    assert {task.answer: task.context for task in bench.graded} == {
        named.text: (KULIK, PEAT),
        WROTE: (KULIK, PEAT),
    }
    stays = Bench({named.text: 0.7}).revise(had=named, context=(KULIK, PEAT), grown=True)
    # The text keeps a number in brackets that named no passage when it was written.
    assert (stays.text, stays.grade.score) == (named.text, 0.7)
    assert stays.answer.context == ("k", "p")
    assert (stays.answer.cited, stays.answer.cited_by) == (("k",), "student")
    assert stays.answer.thinking == "Hm."
    assert "Somebody led it." in stays.answer.unsupported


def test_a_response_of_nothing_but_a_mark_stays_one():
    marked = response("[2]")
    made = Bench({}).revise(had=marked, context=(KULIK, PEAT), grown=True)
    assert made.text == "[2]"


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.none() | st.floats(0.0, 1.0), min_size=1, max_size=6),
    had=st.floats(0.0, 1.0),
    gain=st.sampled_from([0.0, 0.1]),
    grown=st.booleans(),
)
def test_no_grade_falls_under_one_context(scores, had, gain, grown):
    grades = {f"Draft {n}.": score for n, score in enumerate(scores)} | {HAD: had}
    bench = Bench(grades, tuple(grades), drafts=len(scores), minimum_gain=gain)
    made = bench.revise(had=response(score=had), grown=grown)
    assert made.grade.score >= had
    known = [score for score in scores if score is not None and score > had + gain]
    assert made.grade.score == max(known, default=had)
    assert (made.text == HAD) is not bool(known)
    assert {d.text: d.score for d in made.drafts} == grades
    ranked = [d.score for d in made.drafts if d.score is not None]
    assert ranked == sorted(ranked, reverse=True)
    assert [d.score for d in made.drafts[len(ranked) :]] == [None] * (len(scores) + 1 - len(ranked))


def test_among_equals_the_first_written_is_taken_and_kept_before_all():
    bench = Bench(lambda text: 0.6, ["One.", "Two.", "Three."], drafts=3)
    assert bench.revise().text == "One."
    assert bench.revise(had=response(score=0.6)).text == HAD


def test_what_says_the_same_is_graded_once():
    bench = Bench({}, ["Somebody  LED it", WROTE, WROTE.lower()], drafts=3)
    made = bench.revise()
    assert [task.answer for task in bench.graded] == [WROTE]
    assert [(d.origin, d.text) for d in made.drafts] == [("kept", HAD), ("drawn", WROTE)]


# Drafts


def test_further_drafts_are_drawn_and_each_with_a_seed_of_its_own():
    def asked(seed):
        bench = Bench({}, [f"Draft {n}." for n in range(4)], drafts=4, temperature=0.9, seed=seed)
        made = bench.revise()
        origins = [d.origin for d in made.drafts if d.origin != "kept"]
        assert origins == ["reflection", "drawn", "drawn", "drawn"]
        return bench.model.requests

    first, again, other = asked(7), asked(7), asked(8)
    assert first == again
    assert len({request.seed for request in first}) == 4
    assert not {r.seed for r in first} & {r.seed for r in other}
    assert [r.sampling.temperature for r in first] == [0.0, 0.9, 0.9, 0.9]
    assert len({r.segments for r in first}) == 1


def test_the_draws_of_two_iterations_differ():
    seeds = []
    for iteration in (0, 1):
        bench = Bench({}, [HAD], drafts=3)
        bench.revise(had=response().model_copy(update={"iteration": iteration}))
        seeds += [r.seed for r in bench.model.requests if r.sampling.temperature > 0]
    assert len(set(seeds)) == 4


# Short stretches


def test_a_stretch_of_what_was_said_can_be_the_next_response():
    bench = Bench({"Leonid Kulik": 0.8, WROTE: 0.6}, cheap=True, condense="auto", condensed=12)
    made = bench.revise(WHO)
    assert (made.text, made.grade.score) == ("Leonid Kulik", 0.8)
    assert made.answer.context == ("k",) and made.answer.cited == ("k",)
    assert listed(made)[:2] == [("condensed", "Leonid Kulik", 0.8), ("reflection", WROTE, 0.6)]


def test_a_stretch_of_an_examined_answer_counts_and_of_a_failed_cell_does_not():
    mute = Examination(level="basic", iteration=2, status=CellStatus.FAILED)
    bench = Bench({"Anna Berg": 0.9}, condense="always")
    made = bench.revise("Who studied the peat?", context=(KULIK, PEAT), cells=(mute, cell()))
    assert made.text == "Anna Berg"
    assert bench.revise("Who studied the peat?", context=(KULIK, PEAT), cells=(mute,)).text == HAD


@pytest.mark.parametrize(
    ("condense", "cheap", "cuts"),
    [
        ("auto", True, True),
        ("auto", False, False),  # a spoken grade is a call of its own
        ("always", False, True),
        ("never", True, False),
    ],
)
def test_stretches_are_considered_where_grades_are_cheap_or_when_asked_for(condense, cheap, cuts):
    made = Bench({}, cheap=cheap, condense=condense).revise(WHO)
    assert any(d.origin == "condensed" for d in made.drafts) is cuts


@pytest.mark.parametrize("instruction", [EXPLAIN, "Why did Kulik lead it?", "Compare the two."])
def test_an_explanation_is_never_cut_and_brevity_does_not_count(instruction):
    bench = Bench(
        {WROTE: 0.45, "Kulik.": 0.4},
        ["Kulik.", WROTE],
        cheap=True,
        condense="always",
        brevity=1.0,
        drafts=2,
    )
    long = response("Nobody at all could ever say who led it.")
    made = bench.revise(instruction, long)
    assert made.text == long.text
    assert {d.origin for d in made.drafts} == {"kept", "reflection", "drawn"}


def test_a_question_for_yes_or_no_has_both():
    bench = Bench({"No": 0.7}, condense="always")
    made = bench.revise("Was the expedition led by Anna Berg?")
    assert made.text == "No"
    assert [d.text for d in made.drafts if d.origin == "condensed"] == ["No", "Yes"]


@pytest.mark.parametrize(("most", "forms"), [(1, 1), (9, 2)])
def test_no_more_stretches_than_configured_are_graded(most, forms):
    said = "Leonid Kulik came in 1927."
    made = Bench({}, [said], condense="always", condensed=most).revise("Which was it?")
    assert sum(d.origin == "condensed" for d in made.drafts) == forms


@pytest.mark.parametrize(
    ("brevity", "short", "text"),
    [
        (0.0, 0.5, WROTE),
        (0.2, 0.5, "Leonid Kulik"),
        (0.2, 0.39, WROTE),
        (1.0, 0.01, "Leonid Kulik"),
    ],
)
def test_a_short_answer_counts_for_more_where_a_short_one_is_asked_for(brevity, short, text):
    bench = Bench({"Leonid Kulik": short, WROTE: 0.6}, condense="always", brevity=brevity)
    had = response("Nobody has ever known who led it.", 0.2)
    made = bench.revise(WHO, had)
    assert made.text == text
    # The grade is that of the teacher, without what brevity adds, and drafts are listed by it.
    assert made.grade.score == (0.6 if text == WROTE else short)
    assert made.drafts[0].text == WROTE


def test_a_short_answer_that_there_was_counts_for_more_too():
    bench = Bench({WROTE: 0.7}, condense="always", brevity=0.3)
    assert bench.revise(WHO, response("Peat.", 0.5)).text == "Peat."
    # Few words count for no more when no document holds them.
    assert bench.revise(WHO, response("Him.", 0.5)).text == WROTE


@pytest.mark.parametrize(("cheap", "stays"), [(True, True), (False, False)])
def test_a_little_better_is_not_enough_where_grades_are_likelihoods(cheap, stays):
    bench = Bench({WROTE: 0.59}, cheap=cheap, minimum_gain="auto")
    assert (bench.revise(had=response(score=0.5)).text == HAD) is stays


# Failures


def test_a_draft_that_says_nothing_leaves_the_others():
    for says in (["", WROTE], [WROTE, ""]):
        made = Bench({WROTE: 0.9}, says, drafts=2).revise()
        assert (made.text, made.failure) == (WROTE, None)
        assert len(made.drafts) == 2


@pytest.mark.parametrize("accept", ["better", "always"])
def test_when_no_draft_can_be_read_what_there_was_stays_and_the_reason_is_told(accept):
    bench = Bench({}, ["  "], drafts=3, accept=accept)
    made = bench.revise()
    assert made.text == HAD
    assert (made.failure.step, made.failure.kind) == ("reflect", "OutputError")
    assert made.grade == (response().grade if accept == "better" else None)
    assert listed(made) == ([("kept", HAD, 0.5)] if accept == "better" else [])


def test_a_stretch_that_is_taken_although_no_draft_could_be_read_is_no_failure():
    had = response("It was Leonid Kulik, I think, or so.", 0.4)
    made = Bench({"Leonid Kulik": 0.8}, [""], condense="always").revise(WHO, had)
    assert (made.text, made.grade.score, made.failure) == ("Leonid Kulik", 0.8, None)


def test_a_draft_that_cannot_be_graded_is_no_draft_of_grade_zero():
    bench = Bench({WROTE: None, "Two.": 0.0}, [WROTE, "Two."], drafts=2)
    made = bench.revise(had=response(score=0.0))
    assert (made.text, made.grade.score, made.failure) == (HAD, 0.0, None)
    assert listed(made)[-1] == ("reflection", WROTE, None)


def test_when_what_there_was_cannot_be_graded_again_its_earlier_grade_decides():
    for grade, text in ((0.4, HAD), (0.6, WROTE)):
        made = Bench({HAD: None, WROTE: grade}).revise(grown=True)
        assert made.text == text
        assert ("kept", HAD, None) in listed(made)
        if text == HAD:  # its grade under C_{t+1} is unknown, and not that under C_t
            assert (made.grade, made.failure.step, made.failure.raw) == (
                None,
                "grade",
                "well, well",
            )
        else:
            assert made.failure is None


def test_what_could_never_be_graded_gives_way_to_what_can():
    made = Bench({HAD: None, WROTE: 0.0}).revise(had=response(score=None))
    assert (made.text, made.grade.score) == (WROTE, 0.0)


def test_when_nothing_can_be_graded_what_there_was_stays():
    had = response(score=None)
    made = Bench(lambda text: None, ["One.", "Two."], drafts=2).revise(had=had)
    assert (made.text, made.grade, made.failure.step) == (HAD, None, "grade")
    assert listed(made) == [
        ("kept", HAD, None),
        ("reflection", "One.", None),
        ("drawn", "Two.", None),
    ]


def test_a_server_that_is_gone_is_no_grade():
    with pytest.raises(BackendError, match="gone"):
        Bench({WROTE: BackendError}).revise()
