from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reflectory.agents.citations import split_citations
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import answer_segments
from reflectory.alignment import CellStatus
from reflectory.config import CurationConfig
from reflectory.models.engine.rendering import messages_of
from reflectory.training import Message, TrainingRow, curate
from reflectory.training.curation import cited_text
from reflectory.training.rows import assistant
from reflectory.types import (
    Answer,
    Evidence,
    Examination,
    Failure,
    Feedback,
    Flag,
    Passage,
    Question,
    Response,
    Statement,
    Trajectory,
)

PROMPTS = PromptSet.with_replacements()
PROMPTER = partial(answer_segments, PROMPTS)
PASSAGES = {
    name: Passage(
        id=name,
        document_id="d",
        text=f"The crater {name} is {n} million years old.",
        start=0,
        end=9,
    )
    for n, name in enumerate(["alpha", "beta", "gamma"], start=1)
}
INSTRUCTION = "How old is the crater?"


def feedback(score):
    return Feedback(score=score, reason="because", grader="rule")


def response(t, text, score, *, context=("alpha", "beta"), failure=None, cited=()):
    return Response(
        iteration=t,
        answer=Answer(text=text, context=context, cited=cited),
        grade=None if score is None else feedback(score),
        failure=failure,
    )


def cell(question, text, score, *, t=0, context=("alpha", "beta"), status=CellStatus.DONE):
    done = status is CellStatus.DONE
    return Examination(
        level="basic",
        iteration=t,
        status=status,
        question=Question(text=question) if done else None,
        answer=Answer(text=text, context=context, cited_by="overlap") if done else None,
        feedback=feedback(score) if done else None,
        alignment=score if done else None,
        failure=None if done else Failure(step="ask", kind="OutputError", message="?"),
    )


def trajectory(*responses, cells=(), name="t0", **changes):
    return Trajectory(
        id=name,
        instruction=INSTRUCTION,
        levels=("basic",),
        passages=PASSAGES,
        responses=responses,
        examinations=cells,
        models={"student": "tiny"},
        **changes,
    )


def run(*trajectories, **thresholds):
    return curate(trajectories, CurationConfig(**thresholds), PROMPTER)


def test_the_best_response_is_trained_with_the_prompt_of_inference():
    better = response(1, "It is two million years old.", 0.8, context=("alpha", "beta", "gamma"))
    result = run(trajectory(response(0, "Old.", 0.4), better))
    (row,) = result.rows
    context = [PASSAGES["alpha"], PASSAGES["beta"], PASSAGES["gamma"]]
    asked = messages_of(answer_segments(PROMPTS, INSTRUCTION, context))
    assert [m.model_dump() for m in row.prompt] == asked
    assert row.completion == assistant("It is two million years old.")
    assert row.provenance.iteration == 1
    assert (row.provenance.score, row.provenance.baseline) == (0.8, 0.4)
    assert row.provenance.passages == ("alpha", "beta", "gamma")
    assert result.counts.responses.refused == {"not_the_best": 1}


def test_a_row_keeps_the_evidence_of_its_completion():
    held = Statement(
        start=0,
        end=10,
        supported=True,
        evidence=(Evidence(passage="beta", start=0, end=9, score=1),),
    )
    answer = Answer(
        text="It is old.", context=("alpha", "beta"), statements=(held,), groundedness=1.0
    )
    graded = Response(iteration=0, answer=answer, grade=feedback(0.9))
    asked = cell("Which crater?", "The second one.", 0.9)
    row, other = run(trajectory(graded, cells=[asked])).rows
    assert (row.provenance.statements, row.provenance.groundedness) == ((held,), 1.0)
    assert (other.provenance.statements, other.provenance.groundedness) == ((), None)
    assert TrainingRow.model_validate_json(row.model_dump_json()) == row


def test_an_answer_is_trained_with_what_its_question_alone_retrieved():
    asked = cell("Which crater?", "The second one.", 0.9, context=("alpha", "beta", "gamma"))
    result = run(trajectory(response(0, "Old.", 0.1), cells=[asked]))
    (row,) = result.rows
    segments = answer_segments(
        PROMPTS, "Which crater?", [PASSAGES["alpha"], PASSAGES["beta"]], [PASSAGES["gamma"]]
    )
    assert [m.model_dump() for m in row.prompt] == messages_of(segments)
    assert (row.provenance.what, row.provenance.level) == ("answer", "basic")


@pytest.mark.parametrize(
    ("made", "thresholds", "kind", "reason"),
    [
        (trajectory(response(0, "Old.", 0.4)), {}, "responses", "below_minimum_grade"),
        (trajectory(response(0, "Old.", None)), {}, "responses", "ungraded"),
        (trajectory(response(0, " ?! ", 0.9)), {}, "responses", "empty"),
        (trajectory(response(0, "How old is the crater", 0.9)), {}, "responses", "echo"),
        (
            trajectory(response(0, "Old.", 0.9, context=("lost",))),
            {},
            "responses",
            "missing_passage",
        ),
        (
            trajectory(response(0, "Old.", 0.5), response(1, "Older.", 0.6)),
            {"minimum_gain": 0.2},
            "responses",
            "below_minimum_gain",
        ),
        (
            trajectory(response(0, "Old.", None), response(1, "Older.", 0.6)),
            {},
            "responses",
            "no_baseline",
        ),
        (
            trajectory(
                response(
                    0, "Old.", 0.9, failure=Failure(step="reflect", kind="OutputError", message="?")
                )
            ),
            {},
            "responses",
            "failed",
        ),
        (trajectory(cells=[cell("Who?", "They.", 0.4)]), {}, "answers", "below_minimum_score"),
        (
            trajectory(cells=[cell("Who?", "They.", 0.9)]),
            {"questions": False},
            "answers",
            "questions_switched_off",
        ),
        (
            trajectory(cells=[cell("", "", 0, status=CellStatus.FAILED)]),
            {},
            "answers",
            "failed",
        ),
        (trajectory(response(0, "Old.", 0.9)), {}, "pairs", "first_is_best"),
        (
            trajectory(response(0, "Old.", 0.5), response(1, "old", 0.9)),
            {},
            "pairs",
            "same_text",
        ),
        (
            trajectory(response(0, "Old.", 0.5), response(1, "Older.", 0.55)),
            {},
            "pairs",
            "below_minimum_margin",
        ),
    ],
)
def test_every_refusal_has_its_reason(made, thresholds, kind, reason):
    counts = run(made, **thresholds).counts
    assert getattr(counts, kind).refused[reason] == 1


def test_a_preference_pair_keeps_its_margin():
    result = run(trajectory(response(0, "Old.", 0.5), response(2, "Three million.", 0.6)))
    (pair,) = result.preferences
    assert pair.margin == pytest.approx(0.1)
    assert (pair.chosen, pair.rejected) == (assistant("Three million."), assistant("Old."))
    assert pair.prompt == result.rows[0].prompt


def test_equal_grades_prefer_the_earlier_response():
    result = run(trajectory(response(0, "Old.", 0.7), response(1, "Older.", 0.7)))
    assert result.rows[0].provenance.iteration == 0


def test_repetitions_are_dropped_and_counted():
    first = trajectory(response(0, "It is old.", 0.7), name="a")
    again = trajectory(response(0, "it is OLD", 0.9), name="b")
    result = run(first, again)
    assert [row.provenance.trajectory for row in result.rows] == ["a"]
    assert result.counts.responses.refused == {"repeated": 1}
    assert result.counts.trajectories.refused == {"nothing_accepted": 1}


def test_failed_and_unjudged_trajectories_give_nothing():
    good = [response(0, "It is old.", 0.9)]
    failed = trajectory(*good, error=Failure(step="loop", kind="BackendError", message="gone"))
    constant = trajectory(*good, flags=(Flag.CONSTANT_JUDGE,))
    result = run(failed, constant)
    assert result.rows == ()
    assert result.counts.trajectories.refused == {
        "failed_trajectory": 1,
        "flag_constant_judge": 1,
    }
    allowed = curate([constant], CurationConfig(), PROMPTER, refuse_flags=())
    assert len(allowed.rows) == 1


scores = st.one_of(st.none(), st.floats(0, 1))
texts = st.sampled_from(["Old.", "It is old.", "", INSTRUCTION, "Three million years."])


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(texts, scores), max_size=3),
            st.lists(st.tuples(texts, st.floats(0, 1)), max_size=3),
            st.booleans(),
        ),
        max_size=4,
    )
)
def test_nothing_disappears(loops):
    made = [
        trajectory(
            *(response(t, text, score) for t, (text, score) in enumerate(answers)),
            cells=[cell(f"Question {t}?", text, s, t=t) for t, (text, s) in enumerate(cells)],
            name=str(n),
            flags=(Flag.CONSTANT_JUDGE,) if constant else (),
        )
        for n, (answers, cells, constant) in enumerate(loops)
    ]
    result = run(*made)
    counts = result.counts
    assert counts.trajectories.seen == counts.pairs.seen == len(made)
    assert counts.responses.seen == sum(len(t.responses) for t in made)
    assert counts.answers.seen == sum(len(t.examinations) for t in made)
    for tally in (counts.trajectories, counts.responses, counts.answers, counts.pairs):
        assert tally.seen == tally.accepted + sum(tally.refused.values())
    assert len(result.rows) == counts.responses.accepted + counts.answers.accepted
    assert len(result.preferences) == counts.pairs.accepted
    assert all(row.provenance.score >= 0.5 for row in result.rows)


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma"]), unique=True))
def test_citation_marks_come_back_as_the_student_wrote_them(cited):
    answer = Answer(text="It is old.", context=tuple(PASSAGES), cited=tuple(cited))
    text, found = split_citations(cited_text(answer), list(PASSAGES.values()))
    assert (text, list(found)) == ("It is old.", cited)


def test_attributed_citations_are_not_put_into_the_students_mouth():
    answer = Answer(text="Old.", context=tuple(PASSAGES), cited=("beta",), cited_by="overlap")
    assert cited_text(answer) == "Old."


def test_rows_refuse_what_the_student_could_not_read_or_say():
    row = run(trajectory(response(0, "It is old.", 0.9))).rows[0]
    user = Message(role="user", content="?")
    with pytest.raises(ValidationError):
        TrainingRow(prompt=(user, user), completion=row.completion, provenance=row.provenance)
    with pytest.raises(ValidationError):
        TrainingRow(prompt=row.prompt, completion=assistant(" "), provenance=row.provenance)
