"""What the student writes for the next response: fresh answers, and which drafts vote."""

import asyncio
from collections import Counter

import pytest
from revising import HAD, KULIK, PEAT, WHO, WROTE, Bench, cell, response

from reflectory.report.reading.words import draft_words
from reflectory.types import Draft, Feedback


def test_fresh_answers_are_drafts_that_see_nothing_of_the_examination():
    says = {
        "student.reflect": [WROTE],
        "student.respond": ["Leonid Kulik.", "Leonid.", "It was he."],
    }
    grades = {"Leonid Kulik.": 0.9}
    bench = Bench(grades, lambda request: says[request.role].pop(0), fresh=3)
    made = bench.revise(WHO)
    assert made.text == "Leonid Kulik."
    assert [d.origin for d in made.drafts].count("fresh") == 3
    asked = [r for r in bench.model.requests if r.role == "student.respond"]
    assert len({r.seed for r in asked}) == 3
    for request in asked:
        prompt = "".join(segment.text for segment in request.segments)
        assert KULIK.text in prompt and HAD not in prompt and "Anna Berg" not in prompt


def test_fresh_answers_read_one_passage_each_where_that_is_configured():
    seen = Counter()

    def student(request):
        if request.role == "student.respond":
            prompt = "".join(segment.text for segment in request.segments)
            seen[KULIK.text in prompt, PEAT.text in prompt] += 1
        return f"It was Leonid Kulik, say {request.seed}."

    bench = Bench({"Leonid Kulik": 0.9}, student, fresh=5, reading="apart", condense="always")
    made = bench.revise(WHO, context=(KULIK, PEAT))
    # This teacher gives no likelihoods, so no passage is likelier than another.
    assert seen == {(True, False): 3, (False, True): 2}
    assert Counter(d.passage for d in made.drafts if d.origin == "fresh") == {"k": 3, "p": 2}
    assert {d.passage for d in made.drafts if d.origin != "fresh"} == {None}
    # What one passage said is judged, and rests on, all that there is.
    assert {task.context for task in bench.graded} == {(KULIK, PEAT)}
    assert made.text == "Leonid Kulik" and made.answer.context == ("k", "p")


@pytest.mark.parametrize(("reading", "context"), [("together", (KULIK, PEAT)), ("apart", (KULIK,))])
def test_fresh_answers_read_all_where_that_is_configured_or_there_is_one_passage(reading, context):
    bench = Bench({}, lambda r: f"Said {r.seed}", fresh=3, reading=reading)
    made = bench.revise(WHO, context=context)
    asked = [r for r in bench.model.requests if r.role == "student.respond"]
    shown = {tuple(segment.text for segment in r.segments) for r in asked}
    assert len(asked) == 3 and len(shown) == 1
    assert all(passage.text in "".join(next(iter(shown))) for passage in context)
    assert {d.passage for d in made.drafts} == {None}


def test_where_there_are_fresh_answers_reflections_do_not_vote():
    says = {
        "student.reflect": ["It was 1927.", "It was in 1927, yes."],
        "student.respond": ["Leonid Kulik led it."],
    }
    bench = Bench({}, lambda r: says[r.role].pop(0), condense="always", drafts=2, fresh=1)
    made = bench.revise(WHO)
    votes = {d.text: d.agreement for d in made.drafts}
    assert (votes["Leonid Kulik"], votes["1927"]) == (1.0, 0.0)


@pytest.mark.parametrize(("cheap", "written"), [(True, 12), (False, 1)])
def test_auto_writes_more_where_grades_are_cheap(cheap, written):
    bench = Bench({}, lambda r: f"Said {r.seed}", cheap=cheap, drafts="auto", fresh="auto")
    bench.revise()
    assert len(bench.model.requests) == written


def test_taking_every_reflection_needs_no_fresh_answer():
    bench = Bench({}, fresh=5, drafts=5, accept="always")
    assert bench.revise().text == WROTE and len(bench.model.requests) == 1


def test_a_fresh_answer_that_fails_leaves_the_others():
    says = {"student.reflect": [""], "student.respond": ["Leonid Kulik.", ""]}
    bench = Bench({"Leonid Kulik.": 0.9}, lambda r: says[r.role].pop(0), fresh=2)
    made = bench.revise()
    assert (made.text, made.failure) == ("Leonid Kulik.", None)


def test_what_the_student_says_again_and_again_counts_more():
    says = ["Leonid Kulik led it.", "Kulik led it in 1927, not 1908.", "Mr Leonid Kulik did."]
    grades = {"Leonid Kulik": 0.5, "1927": 0.6, "first expedition": 0.1}
    wanted = {"condense": "always", "brevity": 0.3, "drafts": 3}
    made = Bench(grades, says, **wanted).revise(WHO, response("He did.", 0.2))
    assert made.text == "1927"
    made = Bench(grades, says, agreement=0.5, **wanted).revise(WHO, response("He did.", 0.2))
    assert made.text == "Leonid Kulik"
    votes = {d.text: d.agreement for d in made.drafts}
    assert votes["Leonid Kulik"] == pytest.approx(2 / 3)  # of three drafts; R_2 had none
    assert votes["1927"] == pytest.approx(1 / 3)
    assert votes[says[0]] is None


def test_words_of_the_question_are_said_by_all_and_have_no_votes():
    says = ["The first expedition.", "The first expedition was led by him.", "Leonid Kulik led it."]
    grades = {says[0]: 0.6, "Leonid Kulik": 0.5}
    bench = Bench(grades, says, condense="always", brevity=0.3, agreement=0.5, drafts=3)
    made = bench.revise("Who led the first expedition?", response("He did.", 0.2))
    assert made.text == "Leonid Kulik"
    votes = {draft.text: draft.agreement for draft in made.drafts}
    assert votes[says[0]] is None and votes["Leonid Kulik"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("counts", "chosen"), [(0.0, "1927"), (0.05, "Leonid Kulik")])
def test_a_short_answer_behind_which_the_question_is_likely_counts_more(counts, chosen):
    def graded(score, nats):
        return Feedback(score=score, reason="so", grader="g", signals={"channel": nats})

    grades = {"Leonid Kulik": graded(0.5, 3.0), "1927": graded(0.6, -1.0)}
    says = ["Leonid Kulik led it in 1927."]
    bench = Bench(grades, says, condense="always", channel=counts)
    made = bench.revise(WHO, response("He did.", 0.2))
    # It chooses and is no part of the grade; a sentence has none.
    assert (made.text, made.grade) == (chosen, grades[chosen])
    known = {d.text: d.channel for d in made.drafts}
    assert known == {"Leonid Kulik": 3.0, "1927": -1.0, says[0]: None, "He did.": None}


def test_earlier_drafts_and_the_first_response_vote_too():
    first = response("It was Leonid Kulik.").model_copy(update={"iteration": 0})
    drawn = Draft(text="Kulik, that is Leonid Kulik", origin="drawn", score=0.1)
    cut = Draft(text="1927", origin="condensed", score=0.1)
    had = response("He did.", 0.2).model_copy(update={"iteration": 1, "drafts": (drawn, cut)})
    bench = Bench({"1927": 0.5}, ["It was in 1927."], condense="always", agreement=0.2)
    made = asyncio.run(
        bench.reviser.revise(WHO, (KULIK,), had, (cell(),), grown=False, earlier=(first,))
    )
    assert {d.text: d.agreement for d in made.drafts}["1927"] == pytest.approx(1 / 3)


def test_people_are_told_which_passage_a_fresh_answer_was_written_from():
    of_one = Draft(text="Kulik.", origin="fresh", score=0.4, agreement=0.5, passage="kulik.txt#0")
    told = "an answer written without the examination, from kulik.txt#0 alone"
    assert draft_words(of_one) == f"{told}; 50% of what the student wrote by itself says it"
    asked = of_one.model_copy(update={"channel": -1.25})
    assert draft_words(asked).endswith("says it; the question is 1.2 nats less likely behind it")
    of_all = of_one.model_copy(update={"passage": None, "agreement": None})
    assert draft_words(of_all) == "an answer written without the examination"
