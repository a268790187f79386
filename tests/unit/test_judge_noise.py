"""The judge's noise is measured right, and the recommended epsilon lies above it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from reflectory.alignment import CellStatus
from reflectory.evaluation.judge.noise import MatrixFacts, changes, deviation, recommend
from reflectory.types import Answer, Examination, Trajectory

NOTHING = np.array([])


def normal_changes(noise, count=4000, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(0, noise, count) - random.normal(0, noise, count)


def cell(level, t, text, alignment, similarity=0.5):
    return Examination(
        level=level,
        iteration=t,
        status=CellStatus.DONE,
        answer=Answer(text=text),
        similarity=similarity,
        alignment=alignment,
    )


def trajectory(*cells, levels=("basic", "expert")):
    return Trajectory(id="t", instruction="I", levels=levels, examinations=cells)


def test_deviation_is_that_within_cases():
    random = np.random.default_rng(0)
    asked = [(level + random.normal(0, 0.1, 3)).tolist() for level in random.random(2000)]
    assert deviation(asked) == pytest.approx(0.1, rel=0.05)
    assert deviation([]) == deviation([[0.5]]) == 0.0
    assert deviation([[0.5, 0.5], [0.1, 0.1]]) == 0.0


def test_changes_are_those_of_neighbours():
    assert changes([(0.1, 0.3, 0.2), (0.5, 0.5)]) == pytest.approx([0.2, -0.1, 0.0])
    assert changes([]).size == 0


@pytest.mark.parametrize("levels", [1, 4, 7])
@pytest.mark.parametrize("similarity", [0.3, 1.0])
def test_normal_noise_gives_what_theory_says(levels, similarity):
    facts = MatrixFacts(levels=levels, similarities=(similarity,))
    found = recommend(normal_changes(0.05), NOTHING, facts)
    scale = 0.05 * math.sqrt(2) * similarity
    assert found.matrix_noise == pytest.approx(scale * math.sqrt(levels), rel=0.06)
    assert found.epsilon == pytest.approx(scale * math.sqrt(chi2.ppf(0.95, levels)), rel=0.06)
    assert found.epsilon > found.matrix_noise
    assert found.source == "asking again"


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.floats(0.01, 1.0),
    st.integers(1, 6),
)
def test_epsilon_is_never_below_the_noise_and_grows_with_it(observed, factor, levels):
    observed = np.array(observed)
    facts = MatrixFacts(levels=levels)
    more, less = (recommend(observed * f, NOTHING, facts) for f in (1.0, factor))
    for found in (more, less):
        assert found.epsilon is None or found.epsilon >= found.matrix_noise
    assert (less.epsilon or 0.0) <= (more.epsilon or 0.0)


def test_rare_and_large_noise_is_not_overlooked():
    # One change in a thousand: the 95% quantile is 0 and the noise is not.
    found = recommend(np.array([0.8] + [0.0] * 999), NOTHING, MatrixFacts(levels=1))
    assert found.epsilon >= found.matrix_noise > 0.0


def test_a_judge_that_draws_nothing_has_the_noise_of_wording():
    found = recommend(np.zeros(60), normal_changes(0.03), MatrixFacts())
    assert found.source == "wording"
    assert found.epsilon > 0.03


def test_without_noise_nothing_is_recommended():
    for observed in (NOTHING, np.zeros(40)):
        found = recommend(observed, observed, MatrixFacts())
        assert found.epsilon is None and found.matrix_noise == 0.0 and found.source == ""


def test_facts_are_read_from_loops():
    loops = [
        trajectory(
            cell("basic", 0, "Kulik.", 0.4, 0.8),
            cell("expert", 0, "A comet", 0.2, -0.1),
            cell("basic", 1, "kulik", 0.5, 0.8),
            cell("expert", 1, "An asteroid", 0.3, 0.6),
            Examination(level="basic", iteration=2),  # failed: knows nothing
            cell("basic", 3, "Kulik", 0.9, 0.8),  # no neighbour of 1
            cell("expert", 2, "asteroid", 0.25, 0.6),
        ),
        trajectory(),
    ]
    facts = MatrixFacts.of(loops)
    assert facts.levels == 2
    assert sorted(facts.similarities) == [0.0, 0.6, 0.6, 0.8, 0.8, 0.8]
    assert sorted(facts.still) == pytest.approx([-0.05, 0.1])
    assert MatrixFacts.of([]) == MatrixFacts()


def test_still_cells_count_when_there_are_enough_of_them():
    few = MatrixFacts(levels=2, still=(0.4,) * 7)
    many = MatrixFacts(levels=2, still=(0.4,) * 8)
    assert recommend(np.full(20, 0.01), NOTHING, few).source == "asking again"
    found = recommend(np.full(20, 0.01), NOTHING, many)
    assert found.source == "cells whose answer stayed the same"
    assert found.epsilon == pytest.approx(0.4 * math.sqrt(2), abs=1e-3)
