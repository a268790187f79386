"""Rows of the formats that curation does not make, derived from loops and candidates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rows import INSTRUCTION, PASSAGES, PROMPTER, PROMPTS, cell, response, trajectory

from reflectory.agents.student import answer_segments
from reflectory.agents.teacher import RESPONSE_RUBRIC
from reflectory.alignment import CellStatus
from reflectory.errors import DatasetError
from reflectory.models.engine.rendering import messages_of
from reflectory.training.formats import candidates_of, feedback_rows, kto_rows, prompt_rows
from reflectory.types import Failure, Flag
from reflectory.types.practice import Candidate, CandidateSet


def candidate(text, score, origin="sample", **more):
    return Candidate(text=text, score=score, origin=origin, grader="rule", **more)


def choice(*candidates, chosen=None, what="answer", level="basic", **more):
    return CandidateSet(
        trajectory="t0",
        what=what,
        level=level,
        question="Which crater is older?",
        context=(PASSAGES["alpha"],),
        extra=(PASSAGES["beta"],),
        candidates=candidates,
        chosen=chosen,
        **more,
    )


def test_every_graded_candidate_is_good_bad_or_counted():
    made = kto_rows(
        [
            choice(
                candidate("Beta is.", 0.9, agreement=0.5),
                candidate("beta is", 0.2),  # the same words
                candidate("Alpha is.", 0.1),
                candidate("Perhaps.", 0.45),
                candidate("Gamma.", None),
                candidate(" ", 0.0),
                candidate("Which crater is older?", 0.8),
            )
        ],
        PROMPTER,
        models={"t0": {"student": "s", "teacher": "t"}},
    )
    assert [(r.completion[0].content, r.label) for r in made.rows] == [
        ("Beta is.", True),
        ("Alpha is.", False),
    ]
    assert made.tally.model_dump() == {
        "seen": 7,
        "accepted": 2,
        "refused": {
            "between_the_thresholds": 1,
            "echo": 1,
            "empty": 1,
            "repeated": 1,
            "ungraded": 1,
        },
    }
    first = made.rows[0]
    wanted = messages_of(
        answer_segments(PROMPTS, "Which crater is older?", [PASSAGES["alpha"]], [PASSAGES["beta"]])
    )
    assert [m.model_dump() for m in first.prompt] == wanted
    origin = first.provenance
    assert (origin.trajectory, origin.score, origin.agreement) == ("t0", 0.9, 0.5)
    assert (origin.origin, origin.source, origin.passages) == ("sample", "self", ("alpha", "beta"))


@pytest.mark.parametrize(
    ("models", "source"),
    [
        ({"student": "s", "teacher": "t"}, "distilled"),
        ({"student": "s", "teacher": "s"}, "self"),
        ({}, "self"),
    ],
)
def test_only_another_teacher_distils(models, source):
    made = kto_rows([choice(candidate("Beta.", 1.0, "teacher"))], PROMPTER, models={"t0": models})
    assert made.rows[0].provenance.source == source


def test_thresholds_that_overlap_are_refused():
    with pytest.raises(DatasetError, match="overlap"):
        kto_rows([], PROMPTER, minimum_score=0.3, undesirable_below=0.5)


@given(st.lists(st.floats(0.0, 1.0), max_size=20), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_labels_follow_the_two_thresholds(scores, one, other):
    below, minimum = sorted((one, other))
    candidates = [candidate(f"number {i}", score) for i, score in enumerate(scores)]
    made = kto_rows([choice(*candidates)], PROMPTER, minimum_score=minimum, undesirable_below=below)
    assert made.tally.seen == len(scores)
    assert made.tally.accepted == len(made.rows)
    for row in made.rows:
        score = row.provenance.score
        assert score >= minimum - 1e-8 if row.label else score < below + 1e-8
    assert any(r.label for r in made.rows) == any(s >= minimum - 1e-9 for s in scores)


def test_without_candidates_the_loop_itself_is_judged():
    loop = trajectory(
        response(0, "It is old.", 0.2, cited=("beta",)),
        response(1, "It is 2 million years old.", 0.9, context=("alpha", "beta", "gamma")),
        response(2, "Failed.", None, failure=Failure(step="reflect", kind="E", message="m")),
        cells=[
            cell("What is alpha?", "A crater.", 0.7, context=("alpha", "beta", "gamma")),
            cell("?", "-", 0.0, status=CellStatus.FAILED),
        ],
    )
    sets = candidates_of([loop])
    assert [(s.what, s.question, len(s.context), len(s.extra)) for s in sets] == [
        ("response", INSTRUCTION, 2, 0),
        ("response", INSTRUCTION, 3, 0),
        ("answer", "What is alpha?", 2, 1),
    ]
    assert sets[0].candidates[0].text == "It is old. [2]"
    labels = [r.label for r in kto_rows(sets, PROMPTER).rows]
    assert labels == [False, True, True]


def test_feedback_shows_the_earlier_answer_its_grade_and_a_better_one():
    loop = trajectory(
        response(0, "It is old.", 0.2),
        response(1, "It is 2 million years old.", 0.9),
        cells=[cell("What is alpha?", "A crater.", 0.4)],
    )
    picked = choice(candidate("A lunar crater.", 0.8), chosen=0)
    made = feedback_rows([loop], PROMPTER, candidates=[picked], maximum_score=0.8)
    first, second = made.rows
    assert first.privileged_context == (
        "An earlier answer: It is old.\nGrade 0.2 of 1: because\n"
        "A better answer: It is 2 million years old."
    )
    assert second.privileged_context.endswith("\nA better answer: A lunar crater.")
    assert "is old" not in first.prompt[-1].content  # the student does not see it
    assert made.tally.refused == {"above_maximum_score": 1}
    # Without a margin there is nothing better to show.
    (only,) = feedback_rows([trajectory(response(0, "It is old.", 0.2))], PROMPTER).rows
    assert "better" not in only.privileged_context


def test_prompts_carry_what_a_judge_needs():
    loop = trajectory(
        response(0, "It is old.", None),
        response(1, "It is very old.", None),
        cells=[cell("What is alpha?", "A crater.", 0.4, context=("alpha", "beta", "gamma"))],
    )
    made = prompt_rows(
        [loop], PROMPTER, rubrics={"basic": "It is right."}, response_rubric=RESPONSE_RUBRIC
    )
    first, second = made.rows
    assert made.tally.refused == {"repeated": 1}  # two responses, one prompt
    assert (first.question, first.rubric) == (INSTRUCTION, RESPONSE_RUBRIC)
    assert (second.question, second.rubric) == ("What is alpha?", "It is right.")
    assert [p.id for p in second.context] == ["alpha", "beta"]
    assert [p.id for p in second.extra] == ["gamma"]
    assert second.provenance.score is None


def test_failed_loops_give_nothing_and_are_counted():
    broken = trajectory(
        response(0, "It is old.", 0.2),
        error=Failure(step="respond", kind="E", message="m"),
        flags=(Flag.UNGRADED,),
    )
    assert candidates_of([broken]) == []
    for made in (
        feedback_rows([broken], PROMPTER),
        prompt_rows([broken], PROMPTER, rubrics={}, response_rubric=""),
    ):
        assert (made.rows, made.tally.refused) == ((), {"failed_trajectory": 1})


def test_passages_that_are_gone_give_no_row():
    loop = trajectory(response(0, "It is old.", 0.2, context=("alpha", "lost")))
    made = feedback_rows([loop], PROMPTER)
    assert (made.rows, made.tally.refused) == ((), {"missing_passage": 1})
