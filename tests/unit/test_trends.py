"""What many matrices show, against a naive computation and against hostile loops."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from worlds import world_loop

from reflectory.alignment import CellStatus
from reflectory.errors import UserError
from reflectory.evaluation.matrices import MatrixReport
from reflectory.evaluation.trends import matrix_report
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Examination, Failure, Flag, StopReason, Trajectory

NAN = math.nan


def trajectory(values, *, id="one", rule="epsilon", epsilon=0.05, names=None, **fields):
    """Return a loop with this matrix; NaN is a cell that failed."""
    values = np.array(values, dtype=float)
    names = tuple(names or (f"level {j}" for j in range(len(values))))
    cells = tuple(
        Examination(
            level=names[j],
            iteration=t,
            status=CellStatus.FAILED if np.isnan(value) else CellStatus.DONE,
            alignment=None if np.isnan(value) else float(value),
        )
        for t, column in enumerate(values.T)
        for j, value in enumerate(column)
    )
    stop = StopReason(rule=rule, converged=rule == "epsilon", iterations=values.shape[1])
    fields = {"stop": stop, "epsilon": epsilon, **fields}
    return Trajectory(id=id, instruction="Why?", levels=names, examinations=cells, **fields)


def test_one_loop_by_hand():
    found = matrix_report([trajectory([[0.2, 0.5, 0.5, 0.52], [0.1, 0.2, 0.3, 0.6]])])
    easy, hard = found.levels
    assert (found.loops, found.cells, found.failed_cells) == (1, 8, 0)
    assert easy.means == pytest.approx((0.2, 0.5, 0.5, 0.52)) and easy.counts == (1, 1, 1, 1)
    assert easy.spreads == pytest.approx((0.0,) * 4)
    assert easy.slope == pytest.approx(0.32 / 3) and hard.slope == pytest.approx(0.5 / 3)
    assert (easy.settled, hard.settled) == (1.0, 3.0)  # 0.30 is not within 0.05 of 0.60
    assert easy.rise.difference == pytest.approx(0.32) and easy.rise.few
    assert easy.rise.alternative == "two-sided"
    assert found.order == pytest.approx(1.0) and found.stops == {"epsilon": {4: 1}}


def test_epsilon_is_the_loops_own_unless_another_is_given():
    loop = trajectory([[0.1, 0.2, 0.3]], epsilon=0.15)
    assert matrix_report([loop]).levels[0].settled == 1.0
    assert matrix_report([loop], epsilon=0.0).levels[0].settled == 2.0
    assert matrix_report([loop], epsilon=0.5).levels[0].settled == 0.0
    without = trajectory([[0.1, 0.2, 0.3]], epsilon=None)
    assert matrix_report([without]).levels[0].settled is None
    assert matrix_report([trajectory([[0.25, 0.3]])]).levels[0].settled == 0.0
    for wrong in (-0.1, NAN, math.inf):
        with pytest.raises(UserError, match="epsilon"):
            matrix_report([loop], epsilon=wrong)


def test_loops_of_different_lengths_and_cells_that_failed():
    found = matrix_report(
        [
            trajectory([[0.1, NAN, 0.5], [NAN, NAN, NAN]]),
            trajectory([[0.3], [0.2]], id="short", rule="target"),
            trajectory(np.empty((2, 0)), id="none", rule="max_iterations"),
        ]
    )
    easy, hard = found.levels
    assert easy.means == (pytest.approx(0.2), None, 0.5) and easy.counts == (2, 0, 1)
    assert easy.spreads == (pytest.approx(0.1), None, 0.0)
    assert easy.slope is None  # no two neighbouring cells are both known
    assert easy.rise.difference == pytest.approx(0.4) and easy.rise.rows == 1
    assert hard.rise is None and hard.settled is None and hard.means == (0.2, None, None)
    assert (found.cells, found.failed_cells) == (8, 4)
    assert found.stops == {"epsilon": {3: 1}, "max_iterations": {0: 1}, "target": {1: 1}}
    assert found.order is None and found.order_p is None  # one level alone has settled


def test_loops_that_ended_with_an_error_are_counted():
    failure = Failure(step="loop", kind="BackendError", message="gone")
    broken = trajectory(np.empty((1, 0)), id="broken", stop=None, error=failure)
    found = matrix_report([broken, trajectory([[0.4]])])
    assert found.loops == 2 and found.stops["failed"] == {0: 1}
    alone = matrix_report([broken])
    assert alone.levels[0].means == () and alone.levels[0].rise is None and alone.cells == 0


def test_flags_are_counted_once_per_loop():
    flags = (Flag.CONSTANT_JUDGE, Flag.NO_CONTEXT)
    found = matrix_report([trajectory([[0.1]], flags=flags), trajectory([[0.1]], flags=flags[:1])])
    assert found.flags == {"constant_judge": 2, "no_context": 1}


def test_no_loops_and_one_level():
    assert matrix_report([]) == MatrixReport(loops=0)
    found = matrix_report([trajectory([[0.1, 0.9, 0.9]])] * 30)
    assert found.order is None and found.levels[0].rise.excludes_zero


def test_levels_must_be_the_same_in_the_same_order():
    one = trajectory([[0.1], [0.2]], names=["a", "b"])
    with pytest.raises(UserError, match=r"one and two have different levels: a, b and b, a"):
        matrix_report([one, trajectory([[0.1], [0.2]], names=["b", "a"], id="two")])
    with pytest.raises(UserError, match="different levels"):
        matrix_report([one, trajectory([[0.1]], names=["a"], id="two")])


def test_trajectories_are_read_once_and_not_kept():
    seen = []

    def stream():
        for number in range(500):
            seen.append(number)
            yield trajectory([[0.1, 0.2]], id=f"loop {number}")
            assert len(seen) == number + 1  # the next is only asked for when this one is done

    assert matrix_report(stream()).loops == 500


def test_a_synthetic_world_shows_what_the_survey_says():
    loop = world_loop(SyntheticWorld(skill=0.5, gain=0.75), max_iterations=8, epsilon=0.001)
    with loop:
        found = matrix_report([loop.run("What is known?")])
    assert [level.settled for level in found.levels] == sorted(
        level.settled for level in found.levels
    )
    assert found.order > 0.9 and all(level.slope > 0 for level in found.levels)
    assert found.failed_cells == 0 and sum(found.stops["epsilon"].values()) == 1


cells = st.floats(0.0, 1.0, width=16) | st.just(NAN)


@st.composite
def several(draw):
    levels = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    return [[draw(st.lists(cells, min_size=n, max_size=n)) for _ in range(levels)] for n in lengths]


def naive(matrices, epsilon):
    """Return means, spreads, slopes, settled times and tau as anybody would compute them."""
    longest = max(len(m[0]) for m in matrices)
    padded = np.full((len(matrices), len(matrices[0]), longest), NAN)
    for i, matrix in enumerate(matrices):
        padded[i, :, : len(matrix[0])] = np.array(matrix).reshape(len(matrix), -1)
    slopes, settled, pairs = [], [], []
    for j in range(padded.shape[1]):
        steps = [b - a for m in padded[:, j] for a, b in pairwise(m)]
        slopes.append([s for s in steps if not math.isnan(s)])
        times = []
        for row in padded[:, j]:
            known = [(t, v) for t, v in enumerate(row) if not math.isnan(v)]
            if len(known) > 1:
                near = [abs(v - known[-1][1]) <= epsilon for _, v in known]
                start = next(i for i in range(len(known)) if all(near[i:]))
                times.append(known[start][0])
        settled.append(times)
        pairs += [(j, time) for time in times]
    return padded, slopes, settled, pairs


@settings(max_examples=60, deadline=None)
@given(several(), st.sampled_from([0.0, 0.1, 0.33]))
def test_the_report_equals_a_naive_computation(matrices, epsilon):
    found = matrix_report(
        (trajectory(np.array(m).reshape(len(m), -1)) for m in matrices), epsilon=epsilon
    )
    padded, slopes, settled, pairs = naive(matrices, epsilon)
    for j, level in enumerate(found.levels):
        column = padded[:, j]
        counts = (~np.isnan(column)).sum(axis=0)
        assert level.counts == tuple(counts)
        for t, count in enumerate(counts):
            if not count:
                assert level.means[t] is None and level.spreads[t] is None
                continue
            known = column[~np.isnan(column[:, t]), t]
            assert level.means[t] == pytest.approx(known.mean())
            assert level.spreads[t] == pytest.approx(known.std(), abs=1e-9)
        assert (level.slope is None) == (not slopes[j])
        assert level.slope is None or level.slope == pytest.approx(np.mean(slopes[j]))
        assert (level.settled is None) == (not settled[j])
        assert level.settled is None or level.settled == pytest.approx(np.mean(settled[j]))
    assert found.failed_cells == sum(np.isnan(np.array(m)).sum() for m in matrices)
    if len({j for j, _ in pairs}) > 1 and len({t for _, t in pairs}) > 1:
        tau = kendalltau(*zip(*pairs, strict=True))
        assert found.order == pytest.approx(tau.statistic)
        assert found.order_p == pytest.approx(tau.pvalue)
    else:
        assert found.order is None


@settings(max_examples=20, deadline=None)
@given(several())
def test_a_report_survives_json_and_holds_no_nan(matrices):
    found = matrix_report(trajectory(np.array(m).reshape(len(m), -1)) for m in matrices)
    text = found.model_dump_json()
    assert MatrixReport.model_validate_json(text) == found
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the record"))
    assert "NaN" not in text
