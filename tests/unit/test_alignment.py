"""Equations 31 and 32, and the matrix that holds what they give."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reflectory.alignment import (
    AlignmentMatrix,
    CellStatus,
    alignment_score,
    column_change,
    cosine_similarity,
)
from reflectory.errors import UserError

similarities = st.floats(-1.0, 1.0)
unit = st.floats(0.0, 1.0)
vectors = hnp.arrays(
    np.float64, st.integers(1, 8), elements=st.floats(-1e3, 1e3, allow_subnormal=False)
)


@st.composite
def matrices(draw: st.DrawFn) -> AlignmentMatrix:
    levels = draw(st.lists(st.text(max_size=8), min_size=1, max_size=5, unique=True))
    columns = draw(st.integers(0, 6))
    shape = (len(levels), columns)
    status = draw(hnp.arrays(object, shape, elements=st.sampled_from(list(CellStatus))))
    values = draw(hnp.arrays(np.float64, shape, elements=unit))
    values[status != CellStatus.DONE] = np.nan
    epsilon = draw(st.none() | st.floats(1e-6, 10.0))
    converged = draw(st.booleans())
    return AlignmentMatrix(
        levels,
        values,
        status=status.tolist() if columns else None,
        epsilon=epsilon,
        converged=converged,
    )


# Equation 31


@given(similarities, unit)
def test_score_lies_in_the_unit_interval(similarity: float, quality: float) -> None:
    assert 0.0 <= alignment_score(similarity, quality) <= 1.0


@given(similarities, similarities, unit, unit)
def test_score_rises_with_both_factors(s1: float, s2: float, q1: float, q2: float) -> None:
    low, high = alignment_score(min(s1, s2), min(q1, q2)), alignment_score(max(s1, s2), max(q1, q2))
    assert low <= high


@given(st.floats(-1.0, 0.0), unit)
def test_unrelated_answer_scores_nothing(similarity: float, quality: float) -> None:
    assert alignment_score(similarity, quality) == 0.0


@given(st.floats(0.0, 1.0), unit)
def test_score_is_the_product_for_related_answers(similarity: float, quality: float) -> None:
    assert alignment_score(similarity, quality) == similarity * quality


def test_score_is_one_only_for_a_perfect_answer() -> None:
    assert alignment_score(1.0, 1.0) == 1.0
    assert alignment_score(1.0, 0.5) == alignment_score(0.5, 1.0) == 0.5


@pytest.mark.parametrize(
    ("similarity", "quality", "culprit"),
    [
        (1.01, 0.5, "similarity"),
        (-1.01, 0.5, "similarity"),
        (math.nan, 0.5, "similarity"),
        (math.inf, 0.5, "similarity"),
        (0.5, -0.01, "quality"),
        (0.5, 1.01, "quality"),
        (0.5, math.nan, "quality"),
    ],
)
def test_score_refuses_what_is_out_of_range(
    similarity: float, quality: float, culprit: str
) -> None:
    with pytest.raises(ValueError, match=culprit):
        alignment_score(similarity, quality)


# Cosine


@given(st.data(), vectors)
def test_cosine_is_symmetric_and_bounded(data: st.DataObject, a: np.ndarray) -> None:
    b = data.draw(hnp.arrays(np.float64, a.shape, elements=st.floats(-1e3, 1e3)))
    assert -1.0 <= cosine_similarity(a, b) <= 1.0
    assert cosine_similarity(a, b) == pytest.approx(cosine_similarity(b, a), abs=1e-12)


@given(vectors, st.sampled_from([1e-300, 1e-150, 1e-6, 1.0, 1e6, 1e150, 1e300]))
def test_cosine_does_not_depend_on_length(a: np.ndarray, scale: float) -> None:
    a = a / (np.abs(a).max() or 1.0)
    a[np.abs(a) < 1e-3] = 0.0  # so that nothing becomes subnormal when it is scaled down
    b = np.cos(np.arange(a.size))
    assert cosine_similarity(a * scale, b) == pytest.approx(cosine_similarity(a, b), abs=1e-12)


@given(vectors.filter(lambda v: np.abs(v).max() > 1e-6))
def test_cosine_with_itself_is_one_and_with_its_opposite_minus_one(a: np.ndarray) -> None:
    assert cosine_similarity(a, a) == pytest.approx(1.0)
    assert cosine_similarity(a, -a) == pytest.approx(-1.0)


def test_cosine_of_right_angles_and_empty_embeddings_is_zero() -> None:
    assert cosine_similarity([1.0, 0.0], [0.0, 7.0]) == 0.0
    assert cosine_similarity([0.0, 0.0], [1.0, 2.0]) == 0.0
    assert cosine_similarity([0.0, 0.0], [0.0, 0.0]) == 0.0


def test_cosine_of_integers_and_single_precision() -> None:
    assert cosine_similarity([3, 4], [4, 3]) == pytest.approx(24 / 25)
    single = np.array([3, 4], dtype=np.float32)
    assert cosine_similarity(single, single) == pytest.approx(1.0)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), (1.0, 1.0)])
def test_cosine_refuses_other_shapes(a: object, b: object) -> None:
    with pytest.raises(ValueError, match="one length"):
        cosine_similarity(a, b)  # type: ignore[arg-type]


# Equation 32


@given(st.data(), st.integers(1, 8))
def test_change_is_the_euclidean_norm(data: st.DataObject, k: int) -> None:
    now, before = (data.draw(hnp.arrays(np.float64, k, elements=unit)) for _ in range(2))
    expected = math.sqrt(math.fsum((n - b) ** 2 for n, b in zip(now, before, strict=True)))
    assert column_change(now, before) == pytest.approx(expected, abs=1e-12)
    assert column_change(now, before) == column_change(before, now)
    assert column_change(now, before) <= math.sqrt(k) + 1e-12
    assert column_change(now, now) == 0.0


@given(matrices())
def test_deltas_are_the_changes_between_neighbours(matrix: AlignmentMatrix) -> None:
    expected = np.linalg.norm(np.diff(matrix.values, axis=1), axis=0)
    assert matrix.deltas.shape == (max(matrix.iterations - 1, 0),)
    np.testing.assert_allclose(matrix.deltas, expected[: matrix.deltas.size], atol=1e-12)


def test_unknown_change_is_not_a_small_one() -> None:
    assert math.isnan(column_change([0.5, math.nan], [0.5, 0.5]))
    assert math.isnan(column_change([0.5, 0.5], [math.nan, 0.5]))
    assert math.isnan(column_change([], []))


def test_failed_cell_hides_the_change_before_and_after_it() -> None:
    matrix = AlignmentMatrix(["a"], [[0.1, math.nan, 0.1, 0.1]])
    assert np.isnan(matrix.deltas).tolist() == [True, True, False]


# The matrix


def test_rows_are_levels_and_columns_are_iterations() -> None:
    matrix = AlignmentMatrix(["basic", "expert"], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert matrix.values.shape == (2, 3)
    assert matrix.iterations == 3
    assert {name: row.tolist() for name, row in matrix} == {
        "basic": [0.1, 0.2, 0.3],
        "expert": [0.4, 0.5, 0.6],
    }
    assert repr(matrix) == "AlignmentMatrix(2 levels x 3 iterations)"


def test_status_follows_from_the_values_by_default() -> None:
    matrix = AlignmentMatrix(["a"], [[0.0, math.nan]])
    assert matrix.status == ((CellStatus.DONE, CellStatus.PENDING),)


def test_matrix_without_columns() -> None:
    matrix = AlignmentMatrix(["a", "b"])
    assert matrix.iterations == 0
    assert matrix.values.shape == (2, 0)
    assert matrix.deltas.size == 0
    assert matrix.status == ((), ())
    assert AlignmentMatrix.from_dict(matrix.to_dict()) == matrix
    assert "a" in str(matrix)


def test_values_cannot_be_changed_from_outside() -> None:
    source = np.array([[0.5]])
    matrix = AlignmentMatrix(["a"], source)
    source[0, 0] = 0.9
    assert matrix.values[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        matrix.values[0, 0] = 0.9


@pytest.mark.parametrize(
    ("levels", "values", "message"),
    [
        ([], np.empty((0, 0)), "level names"),
        (["a", "a"], [[0.1], [0.2]], "without repeats"),
        (["a"], [0.1], "shape"),
        (["a"], [[0.1], [0.2]], "shape"),
        (["a", "b"], [[0.1, 0.2]], "shape"),
        (["a"], [[1.0001]], r"\[0, 1\]"),
        (["a"], [[-0.0001]], r"\[0, 1\]"),
        (["a"], [[math.inf]], r"\[0, 1\]"),
    ],
)
def test_matrix_refuses_what_does_not_fit(levels: list[str], values: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        AlignmentMatrix(levels, values)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([[0.5]], [["failed"]]),
        ([[0.5]], [["pending"]]),
        ([[math.nan]], [["done"]]),
        ([[0.5]], [["done", "done"]]),
        ([[0.5, 0.5]], [["done"]]),
    ],
)
def test_status_must_fit_the_values(values: object, status: object) -> None:
    with pytest.raises(UserError, match="status"):
        AlignmentMatrix(["a"], values, status=status)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([[0.5], [0.5]], [["junk"], ["done"]]),
        ([["x"], [0.5]], None),
        ([[0.1], [0.2, 0.3]], None),
        ([[math.nan], [math.nan]], [["failed"], ["failed", "failed"]]),
        ([[0.1, math.nan], [0.2, 0.3]], [["done", "failed", "done", "done"]]),
    ],
)
def test_unreadable_values_and_status_are_user_errors(values: object, status: object) -> None:
    with pytest.raises(UserError):
        AlignmentMatrix(["a", "b"], values, status=status)


@pytest.mark.parametrize("epsilon", [math.nan, math.inf])
def test_epsilon_must_be_finite(epsilon: float) -> None:
    with pytest.raises(UserError, match="epsilon"):
        AlignmentMatrix(["a"], epsilon=epsilon)


# JSON


@given(matrices())
def test_json_round_trip(matrix: AlignmentMatrix) -> None:
    text = json.dumps(matrix.to_dict(), allow_nan=False)
    again = AlignmentMatrix.from_dict(json.loads(text))
    assert again == matrix
    assert hash(again) == hash(matrix)
    assert again.status == matrix.status
    assert (again.epsilon, again.converged) == (matrix.epsilon, matrix.converged)
    np.testing.assert_array_equal(again.values, matrix.values)


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "matrix.json"
    status = [["done", "failed"], ["done", "pending"]]
    matrix = AlignmentMatrix(
        ["é", "b"], [[0.1, math.nan], [1.0, math.nan]], status=status, epsilon=0.05
    )
    assert matrix.save(path) == path
    assert AlignmentMatrix.load(path) == matrix


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b'{"levels": 3}']
)
def test_file_without_a_matrix(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "matrix.json"
    path.write_bytes(content)
    with pytest.raises(UserError):
        AlignmentMatrix.load(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(UserError, match=r"none\.json"):
        AlignmentMatrix.load(path)


def test_newer_schema_asks_for_an_upgrade() -> None:
    data = AlignmentMatrix(["a"], [[0.5]]).to_dict() | {"schema_version": 2}
    with pytest.raises(UserError, match="upgrade"):
        AlignmentMatrix.from_dict(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
damaged = st.fixed_dictionaries(
    {},
    optional={
        "schema_version": st.just(1) | json_values,
        "levels": st.just(["a", "b"]) | json_values,
        "values": st.just([[0.1], [0.2]]) | st.lists(st.lists(unit, max_size=3)) | json_values,
        "status": st.just([["done"], ["done"]]) | json_values,
        "epsilon": st.just(0.1) | json_values,
        "converged": json_values,
    },
)


@settings(max_examples=400)
@given(json_values | damaged)
def test_junk_is_refused_or_read_consistently(data: object) -> None:
    """Whatever JSON holds, it is a matrix or a mistake that is named."""
    try:
        matrix = AlignmentMatrix.from_dict(data)  # type: ignore[arg-type]
    except UserError as error:
        assert error.hint
    else:
        k, columns = matrix.values.shape
        assert len(matrix.levels) == k
        assert [len(row) for row in matrix.status] == [columns] * k


@pytest.mark.parametrize(
    "change",
    [
        {"values": [[10**400], [0.1]]},
        {"values": [[0.1], [0.2], [0.3], [0.4]], "status": None},
        {"values": [["0.1"], [0.2]]},
        {"values": [[True], [0.2]]},
        {"levels": "ab"},
        {"levels": [1, 2]},
        {"epsilon": "small"},
        {"schema_version": 0},
        {"schema_version": True},
    ],
)
def test_wrong_types_are_refused_and_not_reinterpreted(change: dict[str, object]) -> None:
    data = AlignmentMatrix(["a", "b"], [[0.1], [0.2]], epsilon=0.1).to_dict()
    with pytest.raises(UserError):
        AlignmentMatrix.from_dict(data | change)


# Equality


def test_equality_sees_everything() -> None:
    base = AlignmentMatrix(["a"], [[0.1, math.nan]], epsilon=0.1)
    assert base == AlignmentMatrix(["a"], [[0.1, math.nan]], epsilon=0.1)
    others = [
        AlignmentMatrix(["b"], [[0.1, math.nan]], epsilon=0.1),
        AlignmentMatrix(["a"], [[0.2, math.nan]], epsilon=0.1),
        AlignmentMatrix(["a"], [[0.1, math.nan]], status=[["done", "failed"]], epsilon=0.1),
        AlignmentMatrix(["a"], [[0.1, math.nan]], epsilon=0.2),
        AlignmentMatrix(["a"], [[0.1, math.nan]], epsilon=0.1, converged=True),
        AlignmentMatrix(["a"], [[0.1]], epsilon=0.1),
    ]
    assert all(other != base for other in others)
    assert len({base, *others}) == 1 + len(others)
    assert base != "a matrix"


def test_equal_matrices_have_one_hash() -> None:
    assert hash(AlignmentMatrix(["a"], [[0.0]])) == hash(AlignmentMatrix(["a"], [[-0.0]]))
    assert hash(AlignmentMatrix(["a"], epsilon=1)) == hash(AlignmentMatrix(["a"], epsilon=1.0))


def test_text_shows_values_failures_and_gaps() -> None:
    status = [["done", "failed", "pending"]]
    text = str(AlignmentMatrix(["basic"], [[0.25, math.nan, math.nan]], status=status))
    assert text.splitlines()[1].split() == ["basic", "0.25", "failed", "."]
