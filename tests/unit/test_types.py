"""The records: immutable, and the same after a round trip through JSON."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reflectory import types
from reflectory.alignment import CellStatus
from reflectory.errors import UserError
from reflectory.types import (
    Answer,
    ContextAddition,
    Document,
    Draft,
    Evidence,
    Examination,
    Failure,
    Feedback,
    Flag,
    Passage,
    PathStep,
    Question,
    Response,
    ScoredPassage,
    Statement,
    StopReason,
    Trajectory,
    matrix_of,
)

# Lone surrogates cannot be written as UTF-8 and are left out.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
unit = st.floats(0.0, 1.0)
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**6)
ids = st.lists(texts, max_size=3).map(tuple)
passages = st.builds(
    Passage,
    id=texts,
    document_id=texts,
    title=texts,
    text=texts,
    start=counts,
    end=counts,
    source=texts,
    page=st.none() | counts,
)
questions = st.builds(Question, text=texts, attempts=st.integers(1, 9), edited=st.booleans())
statements = st.builds(
    Statement,
    start=counts,
    end=counts,
    supported=st.booleans(),
    evidence=st.lists(
        st.builds(Evidence, passage=texts, start=counts, end=counts, score=unit), max_size=2
    ).map(tuple),
)
answers = st.builds(
    Answer,
    text=texts,
    context=ids,
    cited=ids,
    cited_by=texts,
    thinking=texts,
    statements=st.lists(statements, max_size=2).map(tuple),
    groundedness=st.none() | unit,
)
additions = st.builds(
    ContextAddition,
    iteration=st.integers(1, 9),
    passage=texts,
    level=texts,
    question=texts,
    reason=st.sampled_from(["useful", "unknown"]),
    score=finite,
    signals=st.dictionaries(texts, finite, max_size=2),
    path=st.lists(st.builds(PathStep, kind=texts, name=texts, by=texts), max_size=2).map(tuple),
)
feedbacks = st.builds(
    Feedback,
    score=unit,
    reason=texts,
    grader=texts,
    signals=st.dictionaries(texts, finite, max_size=3),
    raw=texts,
    edited=st.booleans(),
)
failures = st.builds(Failure, step=texts, kind=texts, message=texts, raw=texts)
drafts = st.builds(
    Draft,
    text=texts,
    origin=st.sampled_from(["kept", "reflection", "drawn", "condensed"]),
    score=st.none() | unit,
)
responses = st.builds(
    Response,
    iteration=counts,
    answer=answers,
    grade=st.none() | feedbacks,
    failure=st.none() | failures,
    drafts=st.lists(drafts, max_size=3).map(tuple),
)
examinations = st.builds(
    Examination,
    level=texts,
    iteration=counts,
    status=st.sampled_from(CellStatus),
    question=st.none() | questions,
    answer=st.none() | answers,
    feedback=st.none() | feedbacks,
    similarity=st.none() | st.floats(-1, 1),
    alignment=st.none() | unit,
    failure=st.none() | failures,
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
trajectories = st.builds(
    Trajectory,
    id=texts,
    instruction=texts,
    levels=ids,
    passages=st.dictionaries(texts, passages, max_size=2),
    responses=st.lists(responses, max_size=3).map(tuple),
    examinations=st.lists(examinations, max_size=3).map(tuple),
    additions=st.lists(additions, max_size=2).map(tuple),
    stop=st.none()
    | st.builds(StopReason, rule=texts, converged=st.booleans(), iterations=counts, detail=texts),
    chosen=counts,
    epsilon=st.none() | finite,
    models=st.dictionaries(texts, texts, max_size=3),
    seed=st.integers(0, 2**63),
    flags=st.lists(st.sampled_from(Flag), unique=True).map(tuple),
    error=st.none() | failures,
    metadata=st.dictionaries(texts, plain, max_size=3),
)


def small(**changes: Any) -> Trajectory:
    return Trajectory(**({"id": "1", "instruction": "I", "levels": ("a", "b")} | changes))


def graded(score: float | None, iteration: int = 0, **answer: Any) -> Response:
    grade = None if score is None else Feedback(score=score, reason="", grader="test")
    words = Answer(text=f"R{iteration}", **answer)
    return Response(iteration=iteration, answer=words, grade=grade)


def cell(level: str, iteration: int, value: float | None) -> Examination:
    status = CellStatus.FAILED if value is None else CellStatus.DONE
    return Examination(level=level, iteration=iteration, status=status, alignment=value)


# The round trip


@settings(max_examples=150, deadline=None)
@given(trajectories)
def test_trajectory_survives_json(trajectory: Trajectory) -> None:
    line = trajectory.to_json()
    assert "\n" not in line
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    again = Trajectory.from_json(line)
    assert again == trajectory
    assert again.to_json() == line
    assert Trajectory.from_json(line.encode("utf-8")) == trajectory


def test_flags_and_status_keep_their_types() -> None:
    source = small(flags=(Flag.UNGRADED,), examinations=(cell("a", 0, 0.5),))
    again = Trajectory.from_json(source.to_json())
    assert again.flags[0] is Flag.UNGRADED
    assert again.examinations[0].status is CellStatus.DONE


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_signals_that_are_no_numbers_survive_json(number: float) -> None:
    """The log-likelihood of an impossible text is minus infinity."""
    grade = Feedback(score=0.0, reason="", grader="test", signals={"logprob": number})
    source = small(responses=(Response(iteration=0, answer=Answer(text="a"), grade=grade),))
    line = source.to_json()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    again = Trajectory.from_json(line).responses[0].grade
    assert again is not None
    np.testing.assert_equal(again.signals["logprob"], number)


# What is read from a trajectory


def test_empty_trajectory() -> None:
    empty = small()
    assert (empty.status, empty.response, empty.grades, empty.context) == ("done", "", [], ())
    assert empty.alignment.values.shape == (2, 0)
    assert not empty.alignment.converged


def test_chosen_response_grades_and_status() -> None:
    both = small(responses=(graded(0.9), graded(None, 1)), chosen=0)
    assert both.response == "R0"
    assert both.grades == [0.9, None]
    assert both.model_copy(update={"chosen": 1}).response == "R1"
    failed = small(error=Failure(step="respond", kind="BackendError", message="gone"))
    assert failed.status == "failed"


def test_unsupported_statements_are_read_in_their_words() -> None:
    spans = [
        Statement(start=0, end=8, supported=True),
        Statement(start=9, end=17, supported=False),
    ]
    answer = Answer(text="It rose. It fell.", statements=tuple(spans), groundedness=0.5)
    assert answer.unsupported == ("It fell.",)
    assert small(responses=(Response(iteration=0, answer=answer),)).groundedness == [0.5]
    assert Answer(text="It rose.").unsupported == ()


def test_context_is_that_of_the_last_response_in_its_order() -> None:
    stored = {i: Passage(id=i, document_id="d", text=i, start=0, end=1) for i in "xyz"}
    source = small(
        passages=stored,
        responses=(graded(0.1, context=("x",)), graded(0.2, 1, context=("z", "x"))),
    )
    assert [passage.id for passage in source.context] == ["z", "x"]


def test_trajectory_hands_epsilon_and_convergence_to_its_matrix() -> None:
    stop = StopReason(rule="epsilon", converged=True, iterations=2)
    source = small(examinations=(cell("a", 0, 0.5),), epsilon=0.05, stop=stop)
    assert (source.alignment.epsilon, source.alignment.converged) == (0.05, True)


# The matrix of a set of cells


@given(st.permutations([(level, t) for t in range(3) for level in "abc"]))
def test_matrix_does_not_depend_on_the_order_of_its_cells(order: list[tuple[str, int]]) -> None:
    worth = {"a": 0.1, "b": 0.2, "c": 0.3}
    built = matrix_of(
        ("a", "b", "c"), tuple(cell(name, t, worth[name] + t / 10) for name, t in order)
    )
    np.testing.assert_allclose(built.values, [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.5]])


def test_cells_that_are_not_named_are_pending() -> None:
    built = matrix_of(("a", "b"), (cell("b", 1, 0.5), cell("a", 0, None)))
    done, failed, pending = CellStatus.DONE, CellStatus.FAILED, CellStatus.PENDING
    assert built.status == ((failed, pending), (pending, done))
    assert np.isnan(built.values).tolist() == [[True, True], [True, False]]


def test_no_cells_make_a_matrix_without_columns() -> None:
    assert matrix_of(("a",), ()).iterations == 0


def test_contradictory_cell_is_refused() -> None:
    odd = Examination(level="a", iteration=0, status=CellStatus.DONE)
    with pytest.raises(UserError, match="status"):
        matrix_of(("a",), (odd,))


# Immutability and validation

RECORDS = [
    Document(id="1", text="t"),
    Passage(id="1", document_id="1", text="t", start=0, end=1),
    ScoredPassage(passage=Passage(id="1", document_id="1", text="t", start=0, end=1), score=1.0),
    Question(text="q"),
    Answer(text="a"),
    Feedback(score=0.5, reason="r", grader="g"),
    Draft(text="d", origin="drawn", score=0.5),
    Failure(step="ask", kind="E", message="m"),
    Evidence(passage="1", start=0, end=1, score=0.5),
    Statement(start=0, end=1, supported=True),
    ContextAddition(iteration=1, passage="1", level="a", question="q", reason="useful", score=1.0),
    Examination(level="a", iteration=0),
    graded(0.5),
    StopReason(rule="epsilon", converged=True, iterations=1),
    small(),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen_and_refuse_unknown_fields(record: types.Record) -> None:
    for name in type(record).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, None)
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(record).model_validate(record.model_dump() | {"unknown": 1})


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_score_out_of_range_is_refused(score: float) -> None:
    with pytest.raises(ValidationError, match="score"):
        Feedback(score=score, reason="", grader="")
    with pytest.raises(ValidationError, match="alignment"):
        Examination(level="a", iteration=0, alignment=score)
    with pytest.raises(ValidationError, match="score"):
        Draft(text="d", origin="kept", score=score)


def test_negative_places_are_refused() -> None:
    with pytest.raises(ValidationError, match="iteration"):
        Examination(level="a", iteration=-1)
    with pytest.raises(ValidationError, match="start"):
        Passage(id="1", document_id="1", text="", start=-1, end=0)
    with pytest.raises(ValidationError, match="attempts"):
        Question(text="", attempts=0)
