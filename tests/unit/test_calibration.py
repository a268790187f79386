"""From signals to a score: what a fit must find, keep and refuse."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.graders.calibration import Calibration, fit
from reflectory.errors import IntegrityError, StorageError

EXAMPLE = Calibration(
    names=("fit", "support"),
    mean=(-2.0, 0.5),
    scale=(1.5, 0.25),
    weights=(1.0, 2.0),
    bias=-0.5,
    cases=12,
    auc=0.9,
    model="m",
)


def rows_of(*columns: object) -> list[dict[str, float]]:
    return [{f"s{i}": float(v) for i, v in enumerate(row)} for row in zip(*columns, strict=True)]


def noisy(seed: int, wrong: int = 60, right: int = 60) -> tuple[list, list[bool], list[str]]:
    """One signal that tells right from wrong most of the time, and one that tells nothing."""
    draw = np.random.default_rng(seed)
    truth = [True] * right + [False] * wrong
    signal = draw.normal(size=len(truth)) + np.where(truth, 1.0, -1.0)
    rows = rows_of(signal, draw.normal(size=len(truth)))
    return rows, truth, [f"g{i % 15}" for i in range(len(truth))]


def test_the_score_is_the_logistic_of_standardised_signals() -> None:
    score = EXAMPLE.score({"fit": -0.5, "support": 1.0, "unused": 99.0})
    assert score == pytest.approx(1 / (1 + math.exp(-(-0.5 + 1.0 * 1.0 + 2.0 * 2.0))))
    assert EXAMPLE.score({"fit": -2.0, "support": 0.5}) == pytest.approx(1 / (1 + math.exp(0.5)))


def test_many_rows_are_scored_as_each_by_itself() -> None:
    rows = [{"fit": -1.0, "support": 0.0}, {"fit": -3.0, "support": 1.0}]
    scores = EXAMPLE.scores(rows)
    assert scores.shape == (2,)
    assert scores.tolist() == [EXAMPLE.score(row) for row in rows]
    assert EXAMPLE.scores([]).shape == (0,)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_scores_lie_in_the_unit_interval(first: float, second: float) -> None:
    assert 0.0 <= EXAMPLE.score({"fit": first, "support": second}) <= 1.0


@given(st.floats(-50, 50), st.floats(0, 50), st.floats(-5, 5))
def test_a_signal_with_a_positive_weight_never_lowers_the_score(
    fit_value: float, more: float, support: float
) -> None:
    low = EXAMPLE.score({"fit": fit_value, "support": support})
    assert EXAMPLE.score({"fit": fit_value + more, "support": support}) >= low


def test_a_missing_signal_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(KeyError, match="support"):
        EXAMPLE.score({"fit": 0.0})


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "c.json"
    EXAMPLE.save(path)
    again = Calibration.load(path)
    assert again == EXAMPLE
    assert again.fingerprint == EXAMPLE.fingerprint
    assert json.loads(path.read_text("utf-8"))["names"] == ["fit", "support"]
    EXAMPLE.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["c.json"]


def test_a_fitted_calibration_comes_back_exactly(tmp_path: Path) -> None:
    rows, truth, groups = noisy(0)
    fitted = fit(rows, truth, groups, ["s0", "s1"], model="m")
    fitted.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == fitted


GOOD = EXAMPLE.to_dict()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "null",
        "7",
        "{}",
        json.dumps(GOOD)[:-20],
        json.dumps({k: v for k, v in GOOD.items() if k != "bias"}),
        json.dumps({**GOOD, "surprise": 1}),
        json.dumps({**GOOD, "weights": [1.0]}),
        json.dumps({**GOOD, "names": []}),
        json.dumps({**GOOD, "mean": [1.0, None]}),
        json.dumps({**GOOD, "bias": "high"}),
        json.dumps({**GOOD, "bias": math.nan}),
        json.dumps({**GOOD, "scale": [1.0, 0.0]}),
        json.dumps({**GOOD, "scale": 1.0}),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"c\.json") as caught:
        Calibration.load(path)
    assert "delete" in caught.value.hint


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IntegrityError):
        Calibration.load(path)


def test_a_file_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot write"):
        EXAMPLE.save(tmp_path / "file" / "c.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StorageError):
        EXAMPLE.save(tmp_path / "folder.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.json"]


def test_the_fingerprint_names_all_that_decides_a_score() -> None:
    changed = {"bias": 0.0, "weights": (1.0, 2.5), "model": "n", "mean": (0.0, 0.5)}
    prints = {dataclasses.replace(EXAMPLE, **{k: v}).fingerprint for k, v in changed.items()}
    assert len({EXAMPLE.fingerprint, *prints}) == 1 + len(changed)


def test_separable_answers_come_fully_apart() -> None:
    truth = [i % 2 == 0 for i in range(40)]
    rows = rows_of([1.0 + i / 100 if t else -1.0 - i / 100 for i, t in enumerate(truth)])
    groups = [f"g{i // 4}" for i in range(40)]
    fitted = fit(rows, truth, groups, ["s0"], model="m")
    assert fitted.auc == 1.0
    assert (fitted.cases, fitted.names, fitted.model) == (40, ("s0",), "m")
    scores = fitted.scores(rows)
    right, wrong = scores[np.array(truth)], scores[~np.array(truth)]
    assert right.min() > 0.5 > wrong.max()


def test_a_signal_that_points_the_other_way_is_left_out() -> None:
    """That an answer stands in the documents never speaks against it, whatever cases say."""
    rows, truth, groups = noisy(1)
    turned = [{**row, "s0": -row["s0"]} for row in rows]
    plain = fit(rows, truth, groups, ["s0", "s1"], model="m")
    other = fit(turned, truth, groups, ["s0", "s1"], model="m")
    assert plain.weights[0] > 1.0 > plain.weights[1] >= 0.0
    assert other.weights[0] == 0.0
    # Without it nothing is known, and that is what the reported separation says.
    assert plain.auc > 0.8
    assert other.auc < 0.65
    assert np.ptp(other.scores(turned)) < 0.2


def test_scores_do_not_depend_on_the_units_of_a_signal() -> None:
    rows, truth, groups = noisy(2)
    scaled = [{"s0": 1000 * row["s0"] + 7, "s1": row["s1"]} for row in rows]
    plain = fit(rows, truth, groups, ["s0", "s1"], model="m")
    other = fit(scaled, truth, groups, ["s0", "s1"], model="m")
    np.testing.assert_allclose(other.scores(scaled), plain.scores(rows), atol=1e-4)


def test_right_and_wrong_weigh_the_same_however_many_there_are() -> None:
    rows, truth, groups = noisy(3, wrong=300, right=30)
    fitted = fit(rows, truth, groups, ["s0", "s1"], model="m")
    scores, known = fitted.scores(rows), np.array(truth)
    # With the classes as they are, hardly any answer would reach one half.
    assert np.mean(scores[known]) > 0.6
    assert np.mean(scores[~known]) < 0.4
    halfway = fitted.score({"s0": 0.0, "s1": 0.0})
    assert 0.35 < halfway < 0.65


def test_a_signal_that_never_changes_does_no_harm() -> None:
    rows, truth, groups = noisy(4)
    constant = [{**row, "s1": 3.0} for row in rows]
    fitted = fit(constant, truth, groups, ["s0", "s1"], model="m")
    assert fitted.weights[1] == pytest.approx(0.0, abs=1e-9)
    assert fitted.auc > 0.8


def test_signals_that_tell_nothing_are_measured_as_chance() -> None:
    draw = np.random.default_rng(5)
    truth = [bool(t) for t in draw.integers(0, 2, size=400)]
    rows = rows_of(draw.normal(size=400), draw.normal(size=400))
    fitted = fit(rows, truth, [f"g{i % 40}" for i in range(400)], ["s0", "s1"], model="m")
    assert 0.4 < fitted.auc < 0.6


def test_a_group_never_stands_on_both_sides_of_a_fold() -> None:
    """The only thing to learn is which group a row belongs to, and that helps nobody else.

    If a group straddled the folds, its indicator would give its label away.
    """
    groups = [f"g{i // 6}" for i in range(120)]
    names = sorted(set(groups))
    truth = [names.index(g) % 2 == 0 for g in groups]
    rows = [{name: float(name == g) for name in names} for g in groups]
    fitted = fit(rows, truth, groups, names, model="m")
    assert fitted.auc <= 0.6
    # The fit itself, which sees all groups, has learnt them by heart.
    scores = fitted.scores(rows)
    assert scores[np.array(truth)].min() > scores[~np.array(truth)].max()


def test_a_fit_is_the_same_every_time() -> None:
    rows, truth, groups = noisy(6)
    assert fit(rows, truth, groups, ["s0", "s1"], model="m") == fit(
        rows, truth, groups, ["s0", "s1"], model="m"
    )


def test_what_cannot_be_fitted_is_said() -> None:
    rows, truth, groups = noisy(7)
    with pytest.raises(ValueError, match="right and wrong"):
        fit(rows, [True] * len(truth), groups, ["s0"], model="m")
    with pytest.raises(ValueError, match="two groups"):
        fit(rows, truth, ["one"] * len(truth), ["s0"], model="m")
    with pytest.raises(KeyError):
        fit(rows, truth, groups, ["s0", "unknown"], model="m")
