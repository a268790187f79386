"""Answers to choose from: which are gathered, how they are graded, and which is chosen."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents import PromptSet
from reflectory.agents.graders import FunctionGrader
from reflectory.agents.student import Student
from reflectory.alignment import CellStatus
from reflectory.config import CandidateConfig, SamplingConfig
from reflectory.errors import OutputError
from reflectory.testing.models import ScriptedModel
from reflectory.training.candidates import choose, gather_candidates
from reflectory.types import (
    Answer,
    Candidate,
    CandidateSet,
    Examination,
    Failure,
    Feedback,
    Passage,
    PracticeQuestion,
    Question,
    Response,
    Trajectory,
)

PROMPTS = PromptSet.with_replacements()


def passage(name, text, title=""):
    return Passage(id=name, document_id=name, title=title, text=text, start=0, end=len(text))


KULIK = passage("k", "Leonid Kulik led the first expedition to the crater in 1927.", "Kulik")
PEAT = passage("p", "Evgeny Kolesnikov studied the peat of the area.", "Peat")
ASKED = "Who led the first expedition?"
SAID = "The expedition was led by Leonid Kulik in 1927."


def response(text=SAID, iteration=0, score=0.5, failure=None, context=("k",)):
    grade = None if score is None else Feedback(score=score, reason="so", grader="rule")
    answer = Answer(text=text, context=context)
    return Response(iteration=iteration, answer=answer, grade=grade, failure=failure)


def failed(step):
    return Failure(step=step, kind="OutputError", message="unreadable")


def trajectory(name="t", *, responses=None, examinations=(), **changes):
    return Trajectory(
        **{
            "id": name,
            "instruction": ASKED,
            "levels": ("basic",),
            "passages": {"k": KULIK, "p": PEAT},
            "responses": (response(),) if responses is None else responses,
            "examinations": examinations,
            **changes,
        }
    )


def cell(text="Evgeny Kolesnikov", *, level="basic", context=("k", "p"), **changes):
    return Examination(
        **{
            "level": level,
            "iteration": 0,
            "status": CellStatus.DONE,
            "question": Question(text="Who studied the peat?"),
            "answer": Answer(text=text, context=context),
            **changes,
        }
    )


def practised(answer="Leonid Kulik", passages=(PEAT, KULIK)):
    return PracticeQuestion(
        id="t",
        instruction=ASKED,
        answer=answer,
        kind="fact",
        level="basic",
        passages=passages,
    )


def gathered(*trajectories, says=("Leonid Kulik",), grade=lambda task: 0.5, practice=None, **kw):
    settings = {k: kw.pop(k) for k in list(kw) if k in CandidateConfig.model_fields}
    lines = {"student.respond": list(says)} if isinstance(says, tuple) else says
    student = Student(ScriptedModel(lines), PROMPTS, SamplingConfig(), seed=1)
    grader = FunctionGrader(grade) if callable(grade) else grade
    config = CandidateConfig(**{"samples": 2, **settings})
    work = gather_candidates(
        trajectories, config, student=student, grader=grader, practice=practice, **kw
    )
    return asyncio.run(work)


def by_origin(choice, origin):
    return [c.text for c in choice.candidates if c.origin == origin]


def test_the_loop_samples_and_stretches_are_gathered_once_each():
    (made,) = gathered(trajectory(), says=("It was Kulik!", "it was kulik"))
    assert (made.what, made.question, made.context) == ("response", ASKED, (KULIK,))
    assert by_origin(made, "loop") == [SAID]
    assert by_origin(made, "sample") == ["It was Kulik!"]
    assert "Leonid Kulik" in by_origin(made, "condensed")
    assert len({c.text.casefold() for c in made.candidates}) == len(made.candidates)
    seeds = [c.seed for c in made.candidates]
    assert [s is not None for s in seeds] == [c.origin == "sample" for c in made.candidates]


def test_nothing_is_drawn_or_cut_when_that_is_off():
    (made,) = gathered(trajectory(), samples=0, condense=False)
    assert [c.origin for c in made.candidates] == ["loop"]
    assert made.candidates[0].agreement is None


def test_the_teachers_answer_is_learnt_whatever_it_is_graded():
    def grade(task):
        return 0.1 if task.answer == "Evgeny Kolesnikov" else 0.9

    practice = {"t": practised("Evgeny Kolesnikov")}
    (made,) = gathered(trajectory(), practice=practice, grade=grade)
    chosen = made.candidates[made.chosen]
    assert (chosen.text, chosen.origin, chosen.score) == ("Evgeny Kolesnikov", "teacher", 0.1)
    assert made.reason.startswith("the teacher wrote the question")
    assert made.context == (PEAT, KULIK)  # those of the session, in its order


def test_an_answer_that_others_say_too_stays_the_teachers():
    practice = {"t": practised()}
    same = trajectory(responses=(response("leonid kulik."),))
    (made,) = gathered(same, practice=practice)
    assert made.candidates[made.chosen].origin == "teacher"
    assert made.candidates[made.chosen].text == "Leonid Kulik"
    assert by_origin(made, "loop") == []


def test_a_teachers_answer_that_could_not_be_graded_leaves_the_others_to_choose_from():
    def grade(task):
        if task.answer == "Leonid Kulik":
            raise OutputError("no score", raw="?", hint="ask again")
        return 0.4

    (made,) = gathered(trajectory(), practice={"t": practised()}, grade=grade, says=("Nobody",))
    chosen = made.candidates[made.chosen]
    assert chosen.origin != "teacher"
    assert chosen.score == 0.4
    ungraded = [c for c in made.candidates if c.origin == "teacher"]
    assert [(c.score, c.failure) for c in ungraded] == [(None, "no score")]


def test_a_failed_grading_is_named_and_is_no_zero():
    def grade(task):
        raise OutputError("no score", raw="?", hint="ask again")

    (made,) = gathered(trajectory(), grade=grade)
    assert made.chosen is None
    assert made.reason == "no answer could be graded"
    assert {(c.score, c.grader, c.failure) for c in made.candidates} == {(None, "", "no score")}
    assert all(c.agreement is not None for c in made.candidates)


def test_a_grader_with_a_fault_is_not_hidden():
    def grade(task):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        gathered(trajectory(), grade=grade)


@pytest.mark.parametrize(
    "nothing",
    [
        trajectory(error=failed("respond")),
        trajectory(responses=()),
        trajectory(responses=(response(failure=failed("reflect")),)),
        trajectory(responses=(response(context=()),)),
        trajectory(responses=(response(context=("gone",)),)),
        trajectory(responses=(), examinations=(cell(status=CellStatus.FAILED, answer=None),)),
        trajectory(responses=(), examinations=(cell(question=None),)),
    ],
)
def test_what_failed_or_read_nothing_gives_no_set(nothing):
    assert gathered(nothing) == ()


def test_a_response_that_could_not_be_graded_in_the_loop_is_graded_again():
    lone = response(score=None, failure=failed("grade"))
    (made,) = gathered(trajectory(responses=(lone,)), samples=0, condense=False)
    assert [(c.text, c.score) for c in made.candidates] == [(SAID, 0.5)]


def test_the_context_is_that_of_the_best_response():
    several = trajectory(
        responses=(
            response("One.", 0, 0.2, context=("k",)),
            response("Two.", 1, 0.9, context=("k", "p")),
            response("Three.", 2, 0.3, context=("p",)),
        )
    )
    (made,) = gathered(several, samples=0)
    assert made.iteration == 1
    assert made.context == (KULIK, PEAT)
    assert by_origin(made, "loop") == ["One.", "Two.", "Three."]


def test_a_cell_is_graded_by_its_level_and_keeps_what_it_alone_retrieved():
    seen = []

    def grade(task):
        seen.append((task.rubric, task.extra))
        return 0.5

    examined = trajectory(examinations=(cell(), cell("Nobody.", level="other", context=("p",))))
    response_set, first, second = gathered(examined, grade=grade, rubrics={"basic": "Be exact."})
    assert response_set.what == "response"
    assert (first.what, first.level, first.context, first.extra) == (
        "answer",
        "basic",
        (KULIK,),
        (PEAT,),
    )
    assert (second.context, second.extra) == ((PEAT,), ())
    assert ("Be exact.", (PEAT,)) in seen
    assert not by_origin(first, "sample")  # only the instruction is drawn again


def test_the_order_is_that_of_the_trajectories():
    many = [trajectory(f"t{n}") for n in range(5)]
    assert [s.trajectory for s in gathered(*many)] == [t.id for t in many]
    assert gathered(*many) == gathered(*many)


def test_empty_samples_are_left_out():
    (made,) = gathered(trajectory(), says=("", "   ", "...", "Kulik"), samples=4)
    assert by_origin(made, "sample") == ["Kulik"]
    (made,) = gathered(trajectory(), says=("",), samples=2, condense=False)
    assert [c.origin for c in made.candidates] == ["loop"]
    assert made.candidates[0].agreement is None


def test_agreement_is_the_share_of_samples_that_say_the_same():
    says = ("It was Leonid Kulik.", "Leonid Kulik", "Nobody knows.", "I am unable to say")
    practice = {"t": practised()}
    (made,) = gathered(trajectory(), says=says, samples=4, practice=practice)
    agreement = {c.text: c.agreement for c in made.candidates}
    assert agreement["Leonid Kulik"] == 0.5
    assert agreement["Nobody knows."] == 0.25


def test_stretches_are_whole_words_of_the_passages_and_not_of_the_question():
    said = "Leonid Kulik and Anna Berg led the First Expedition to Ulik and Petrograd."
    (made,) = gathered(trajectory(responses=(response(said),)), samples=0)
    cut = by_origin(made, "condensed")
    assert "Leonid Kulik" in cut
    assert not {"Anna Berg", "Petrograd", "Ulik", "First Expedition"} & set(cut)
    assert len(cut) <= 4


def test_an_answer_that_repeats_the_question_has_no_stretch_of_its_own():
    (made,) = gathered(trajectory(responses=(response(ASKED),)), samples=0)
    assert [c.text for c in made.candidates] == [ASKED]


@pytest.mark.parametrize("title", ["", "C++ (a+b)*[", "\\", ".*", "word"])
@pytest.mark.parametrize("text", ["word", "", "((("])
def test_odd_passages_are_read(title, text):
    odd = passage("k", text, title)
    (made,) = gathered(trajectory(passages={"k": odd}), practice={"t": practised("word", (odd,))})
    assert made.candidates[made.chosen].text == "word"
    assert all(c.groundedness is None or 0.0 <= c.groundedness <= 1.0 for c in made.candidates)


def candidates(*given_candidates):
    return CandidateSet(
        trajectory="t",
        what="response",
        question=ASKED,
        context=(KULIK,),
        candidates=tuple(
            Candidate(text=text, origin=origin, score=score, agreement=agreement)
            for text, origin, score, agreement in given_candidates
        ),
    )


def chosen(*given_candidates, gain=0.0):
    made = choose(candidates(*given_candidates), CandidateConfig(minimum_gain=gain))
    return None if made.chosen is None else made.candidates[made.chosen].text


LONG = ("a long answer", "loop", 0.6, None)


@pytest.mark.parametrize(
    ("others", "gain", "expected"),
    [
        ([("short", "condensed", 0.6, None)], 0.0, "short"),
        ([("short", "condensed", 0.59, None)], 0.0, "a long answer"),
        ([("short", "condensed", 0.65, None)], 0.1, "a long answer"),
        ([("short", "condensed", 0.75, None)], 0.1, "short"),
        ([("short", "condensed", 0.55, None)], -0.1, "short"),
        ([("no shorter answer", "condensed", 0.6, None)], 0.0, "a long answer"),
        ([("no shorter answer", "condensed", 0.7, None)], 0.0, "no shorter answer"),
        ([("short", "condensed", None, None)], -1.0, "a long answer"),
        ([("another", "sample", 0.7, None)], 0.0, "another"),
        ([("another", "sample", 0.6, None)], 0.0, "another"),  # the shorter of equals
        ([("a more agreed answer", "sample", 0.6, 0.5)], 0.0, "a more agreed answer"),
    ],
)
def test_the_best_grade_is_learnt_and_a_stretch_where_it_gains(others, gain, expected):
    assert chosen(LONG, *others, gain=gain) == expected


def test_only_stretches_are_enough_and_nothing_is_not():
    assert chosen(("x", "loop", None, None), ("short", "condensed", 0.1, None)) == "short"
    assert chosen(("x", "loop", None, None)) is None
    assert chosen() is None


_CANDIDATES = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=8),
        st.sampled_from(["loop", "sample", "condensed", "teacher"]),
        st.none() | st.floats(0, 1),
        st.none() | st.floats(0, 1),
    ),
    max_size=6,
)


@given(_CANDIDATES, st.floats(-1, 1))
def test_what_is_chosen_was_graded_and_nothing_whole_was_graded_better(found, gain):
    made = choose(candidates(*found), CandidateConfig(minimum_gain=gain))
    assert made.reason
    if made.chosen is None:
        assert all(score is None for _, _, score, _ in found)
        return
    best = made.candidates[made.chosen]
    assert best.score is not None
    if best.origin != "teacher":
        whole = [
            c.score for c in made.candidates if c.origin != "condensed" and c.score is not None
        ]
        lowest = min(0.0, gain) if best.origin == "condensed" else 0.0
        assert best.score - max(whole, default=0.0) >= lowest - 1e-12


def test_a_question_for_yes_or_no_has_both_to_choose_from():
    closed = trajectory(instruction="Was the expedition led by Leonid Kulik?")

    def grade(task):
        return {"Yes": 0.9, "No": 0.2}.get(task.answer, 0.5)

    (made,) = gathered(closed, samples=0, grade=grade)
    assert by_origin(made, "condensed") == ["Yes", "No"]
    assert made.candidates[made.chosen].text == "Yes"
