"""Several contenders: Holm's correction, pairing by id, and what may be claimed."""

import re
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.evaluation.comparison import FEW_ROWS, compare, mcnemar
from reflectory.evaluation.multiple import (
    claims,
    claims_of_all,
    compare_contenders,
    holm,
    verdict,
)
from reflectory.evaluation.records import ContenderRow, ScoredAnswer

probabilities = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7)


def row(name, values, ids=None, *, metric="f1"):
    """Return a contender with one answer per value; ``None`` is no answer."""
    ids = [f"q{i:03}" for i in range(len(values))] if ids is None else ids
    answers = tuple(
        ScoredAnswer(id=i, text=None if v is None else "said", values={metric: v or 0.0})
        for i, v in zip(ids, values, strict=True)
    )
    mean = float(np.mean([v or 0.0 for v in values])) if values else 0.0
    missing = sum(v is None for v in values)
    return ContenderRow(
        contender=name, answers=answers, means={metric: mean}, calls=1, tokens=1, missing=missing
    )


def against(after, before, **options):
    """Return the comparison of a loop with one other contender."""
    (found,) = compare_contenders(
        row("loop", after), [row("sampling", before)], ["f1"], "calls", **options
    )
    return found


# Holm's correction


def test_holm_on_a_worked_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; the last is lifted to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.2]) == [0.2]


@given(probabilities)
def test_holm_is_the_closed_test_of_bonferroni(values):
    """A hypothesis falls when every set of hypotheses that holds it falls by Bonferroni."""
    places = range(len(values))
    for i, found in enumerate(holm(values)):
        sets = (s for n in range(1, len(values) + 1) for s in combinations(places, n) if i in s)
        worst = max(min(1.0, len(s) * min(values[j] for j in s)) for s in sets)
        assert found == pytest.approx(worst)


@given(probabilities)
def test_holm_keeps_the_order_and_lowers_nothing(values):
    corrected = holm(values)
    assert all(0.0 <= raw <= new <= 1.0 for raw, new in zip(values, corrected, strict=True))
    pairs = list(zip(values, corrected, strict=True))
    assert all(b <= d for (a, b), (c, d) in product(pairs, pairs) if a <= c)


@given(probabilities, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    mixed = holm([values[i] for i in order])
    assert [mixed[order.index(i)] for i in range(len(values))] == holm(values)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(value):
    with pytest.raises(UserError, match="no p-value"):
        holm([0.5, value])


# McNemar's test and the randomisation test


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 4))
def test_flipping_signs_of_zeros_and_ones_is_mcnemars_exact_test(better, worse, same):
    before = [0] * better + [1] * worse + [1] * same
    after = [1] * better + [0] * worse + [1] * same
    if not before:
        return
    found = compare(before, after, resamples=50, alternative="two-sided")
    assert found.p_value == pytest.approx(mcnemar(better, worse))
    turns = better + worse
    # By hand: of all patterns of turns, the share that is at least so uneven.
    sums = [sum(signs) for signs in product((-1, 1), repeat=turns)]
    uneven = sum(abs(s) >= abs(better - worse) for s in sums) / len(sums)
    assert found.p_value == pytest.approx(uneven)


@given(st.lists(st.floats(-1.0, 1.0, width=16), min_size=1, max_size=9))
def test_the_two_sided_p_value_is_that_of_all_patterns_of_signs(differences):
    found = compare([0.0] * len(differences), differences, resamples=512, alternative="two-sided")
    values = np.array(differences)
    patterns = np.array(list(product((-1.0, 1.0), repeat=len(values))))
    reached = np.abs(patterns @ values) >= abs(values.sum()) - 1e-12
    assert found.p_value == pytest.approx(reached.mean())
    turned = compare(differences, [0.0] * len(differences), resamples=512, alternative="two-sided")
    assert turned.p_value == pytest.approx(found.p_value)


def test_counts_below_zero_are_refused():
    assert mcnemar(0, 0) == 1.0 and mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(6, 0, "greater") == pytest.approx(1 / 64)
    with pytest.raises(UserError, match="no counts"):
        mcnemar(-1, 2)


def test_expanded_intervals_are_wider_and_one_row_has_none():
    random = np.random.default_rng(4)
    before, after = random.random(20), random.random(20)
    plain = compare(before, after)
    wide = compare(before, after, interval="expanded")
    assert wide.low < plain.low < plain.high < wide.high and wide.bound < plain.bound
    assert plain.p_value == wide.p_value and plain.difference == wide.difference
    one = compare([0.0], [1.0], interval="expanded", alternative="two-sided")
    assert (one.low, one.high, one.p_value) == (1.0, 1.0, 1.0)


# Pairing


def test_differences_speak_for_the_reference_and_each_metric_is_corrected_by_itself():
    random = np.random.default_rng(0)
    loop = row("loop", [1.0] * 30)
    others = [
        row(f"c{i}", list(random.choice([0.0, 1.0], 30, p=[p, 1 - p])))
        for i, p in enumerate((0.5, 0.2, 0.05))
    ]
    found = compare_contenders(loop, others, ["f1"], "tokens")
    assert [c.contender for c in found] == ["c0", "c1", "c2"]
    assert {c.budget for c in found} == {"tokens"} and {c.metric for c in found} == {"f1"}
    for other, c in zip(others, found, strict=True):
        assert c.result.after == 1.0 and c.result.before == pytest.approx(other.means["f1"])
        assert c.result.alternative == "two-sided" and c.result.name == "f1"
        assert c.result.p_value == pytest.approx(mcnemar(c.result.better, c.result.worse))
    assert [c.adjusted for c in found] == holm([c.result.p_value for c in found])


values = st.floats(0.0, 1.0, width=16)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(values, values), min_size=1, max_size=9),
    st.randoms(use_true_random=False),
)
def test_pairing_does_not_depend_on_the_order_of_answers(pairs, random):
    loop = row("loop", [a for a, _ in pairs])
    other = row("other", [b for _, b in pairs])
    mixed = list(other.answers)
    random.shuffle(mixed)
    shuffled = other.model_copy(update={"answers": tuple(mixed)})
    turned = loop.model_copy(update={"answers": loop.answers[::-1]})
    one = compare_contenders(loop, [other], ["f1"], "calls", resamples=100)
    assert one == compare_contenders(turned, [shuffled], ["f1"], "calls", resamples=100)


def test_no_answer_counts_as_zero():
    loop = row("loop", [1.0] * 25)
    silent = ContenderRow(
        contender="silent",
        answers=tuple(ScoredAnswer(id=a.id, text=None) for a in loop.answers),
        means={"f1": 0.0},
        calls=0,
        tokens=0,
        missing=25,
    )
    (found,) = compare_contenders(loop, [silent], ["f1"], "calls", resamples=200)
    assert found.result.before == 0.0 and found.result.better == 25


def test_nobody_to_compare_with_gives_nothing():
    assert compare_contenders(row("loop", [1.0]), [], ["f1"], "calls") == ()
    assert compare_contenders(row("loop", [1.0]), [row("a", [0.0])], [], "calls") == ()


def test_what_cannot_be_paired_is_refused_by_name():
    loop = row("loop", [1.0, 0.0])

    def refuses(others, says, metrics=("f1",)):
        with pytest.raises(UserError, match=says):
            compare_contenders(loop, others, metrics, "calls")

    refuses([row("a", [1.0])], "loop and a did not answer the same questions.*q001")
    refuses([row("a", [1.0, 1.0, 0.0])], "q002")
    refuses([row("a", [1.0, 1.0], ["q000", "q000"])], "a has several answers to q000")
    refuses([row("loop", [1.0, 1.0])], "called loop")
    refuses([row("a", [1.0, 1.0])], "loop to q000 has no bleu", ["bleu"])
    refuses([row("a", [1.0, 1.0], metric="em")], "a to q000 has no f1")
    refuses([row("a", [1.0, float("nan")])], "a to q001 has no f1, but nan")
    refuses([row("a", [])], "a has no answers")


# What may be claimed


def test_a_clear_gain_is_claimed_and_a_clear_loss_is_said():
    clear, poor = [0.9] * 30, [0.1, 0.2, 0.3] * 10
    won, lost = against(clear, poor), against(poor, clear)
    assert verdict(won) == "beats" and verdict(lost) == "loses"
    assert claims(won).startswith("The loop beats sampling in f1: 0.900 against 0.200 over 30 ")
    assert claims(lost, "loop").startswith("loop loses to sampling in f1")


def test_an_interval_over_zero_claims_nothing():
    random = np.random.default_rng(1)
    found = against(list(random.random(40)), list(random.random(40)))
    assert not found.result.excludes_zero and verdict(found) == "open"
    assert "no difference in f1 can be claimed" in claims(found)
    assert not re.search(r"\bbeats\b", claims(found))


def test_few_rows_are_said_however_clear_they_look():
    few = FEW_ROWS - 1
    found = against([1.0] * few, [0.0] * few)
    assert found.result.excludes_zero and verdict(found) == "few"
    assert "too little to claim" in claims(found) and "beats" not in claims(found)
    assert "nothing is claimed" in claims_of_all([found], "f1", "calls")
    assert "one question" in claims(against([1.0], [0.0]))


def test_equal_answers_are_called_so():
    found = against([0.4] * 25, [0.4] * 25)
    assert verdict(found) == "same" and found.adjusted == 1.0
    assert "the same f1 on every one of 25 questions" in claims(found)


def test_the_correction_takes_a_claim_back_and_says_so():
    loop = row("loop", [1.0] * 8 + [0.0, 1.0] * 16)
    before = [0.0] * 7 + [1.0] + [0.0, 1.0] * 16
    alone = compare_contenders(loop, [row("a", before)], ["f1"], "calls")
    crowd = [row(f"c{i}", before) for i in range(7)]
    among = compare_contenders(loop, crowd, ["f1"], "calls")
    assert verdict(alone[0]) == "beats" and alone[0].adjusted == pytest.approx(2 / 2**7)
    assert {verdict(c) for c in among} == {"ahead"}
    assert "does not outlast the correction" in claims(among[0])
    # That all are beaten needs no correction, for the least certain of them has to hold.
    assert "beats all 7 contenders in f1" in claims_of_all(among, "f1", "calls")


def test_four_turns_are_no_claim_whatever_the_bootstrap_says():
    """An interval of the bootstrap excludes zero here; two in sixteen say it is chance."""
    found = against([1.0] * 4 + [0.0] * 26, [0.0] * 30)
    assert found.result.excludes_zero and found.result.p_value == pytest.approx(2 / 16)
    assert verdict(found) == "ahead"


def test_words_are_neither_better_nor_worse():
    loop, other = row("loop", [9.0] * 30, metric="words"), row("a", [2.0] * 30, metric="words")
    (found,) = compare_contenders(loop, [other], ["words"], "calls", resamples=100)
    assert "neither is better" in claims(found) and "beats" not in claims(found)


def test_a_table_is_summed_up_in_one_sentence():
    high, low = [0.9] * 30, [0.1] * 30
    mixed = list(np.random.default_rng(2).choice([0.85, 0.95], 30))
    loop = row("loop", high)
    found = compare_contenders(loop, [row("a", low), row("b", mixed)], ["f1"], "calls")
    assert claims_of_all(found, "f1", "calls") == (
        "The loop beats a in f1 with the same calls; "
        "against one contender no difference can be claimed."
    )
    assert "beats a in f1" in claims_of_all(found[:1], "f1", "calls")
    assert "with nobody" in claims_of_all(found, "f1", "tokens")
    worse = compare_contenders(row("loop", low), [row("a", high)], ["f1"], "calls")
    assert "loses to a" in claims_of_all(worse, "f1", "calls")
    unclear = compare_contenders(loop, [row("b", mixed)], ["f1"], "calls")
    assert "no difference can be claimed" in claims_of_all(unclear, "f1", "calls")


# How often it is wrong


def simulated(random, kind, rows):
    """Return two systems without any difference between them."""
    if kind == "f1":  # half the answers alike, the others anywhere
        before = random.random(rows)
        return before, np.where(random.random(rows) < 0.5, before, random.random(rows))
    return tuple((random.random((2, rows)) < 0.3).astype(float))


@pytest.mark.parametrize("kind", ["f1", "exact match"])
@pytest.mark.parametrize("rows", [25, 60])
def test_without_an_effect_intervals_exclude_zero_in_at_most_one_case_of_twenty(kind, rows):
    """400 trials: with 5% the count has a standard deviation of 1.1 points; three are allowed."""
    random = np.random.default_rng(rows)
    options = {"resamples": 500, "interval": "expanded", "alternative": "two-sided"}
    excluded = claimed = 0
    for trial in range(400):
        found = compare(*simulated(random, kind, rows), seed=trial, **options)
        excluded += found.excludes_zero
        claimed += found.excludes_zero and found.p_value <= 0.05
    assert claimed <= excluded <= 400 * 0.083


def test_among_seven_contenders_without_an_effect_a_false_claim_is_rare():
    """The correction holds 5% over all seven together; without it there would be about 20%."""
    random = np.random.default_rng(7)
    false = uncorrected = 0
    for trial in range(150):
        loop, *others = (list(v) for v in (random.random((8, 25)) < 0.4).astype(float))
        rows = [row(f"c{i}", values) for i, values in enumerate(others)]
        found = compare_contenders(
            row("loop", loop), rows, ["f1"], "calls", resamples=300, seed=trial
        )
        false += any(verdict(c) in ("beats", "loses") for c in found)
        uncorrected += any(c.result.p_value <= 0.05 for c in found)
    assert false <= 150 * 0.05 + 3 * (150 * 0.05 * 0.95) ** 0.5
    assert uncorrected > false


def test_an_effect_that_is_there_is_found():
    random = np.random.default_rng(3)
    found = 0
    for trial in range(60):
        before = (random.random(60) < 0.3).astype(float)
        after = np.where(random.random(60) < 0.3, 1.0, before)  # three in ten are mended
        found += verdict(against(list(after), list(before), resamples=300, seed=trial)) == "beats"
    assert found >= 57
