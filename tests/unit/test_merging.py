"""Rows of several origins in one set (Equation 5) and of several rounds (Equation 4)."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_dataset_formats import ROWS, rows_of

from reflectory.errors import DatasetError
from reflectory.training import Message, Provenance, TrainingRow
from reflectory.training.dataset import RowSet
from reflectory.training.merging import limit_shares, merge_rows
from reflectory.training.rows import SOURCES, assistant


def row(number, source="self", round=None):
    return TrainingRow(
        prompt=(Message(role="user", content=f"question {number}"),),
        completion=assistant(f"answer {number}"),
        provenance=Provenance(source=source, round=round),
    )


rows = st.builds(row, st.integers(0, 6), st.sampled_from(SOURCES), st.none() | st.integers(0, 2))
sets = st.lists(rows, max_size=8).map(lambda given: RowSet.of("sft", given))
MIXED = [row(i, "self") for i in range(70)] + [row(100 + i, "manual") for i in range(70)]


@given(sets, sets, sets)
def test_merging_is_associative_and_idempotent(a, b, c):
    left, right = merge_rows(merge_rows(a, b), c), merge_rows(a, merge_rows(b, c))
    assert left == right == merge_rows(a, b, c)
    assert merge_rows(left, left) == left == merge_rows(left)
    assert merge_rows(RowSet.of("sft", ()), left) == left


@given(sets, sets)
def test_everything_that_is_said_is_there_once_and_the_earliest_stays(a, b):
    merged = merge_rows(a, b).rows
    contents = [(r.prompt, r.completion) for r in merged]
    assert len(contents) == len(set(contents))
    assert set(contents) == {(r.prompt, r.completion) for r in (*a.rows, *b.rows)}
    for content, kept in zip(contents, merged, strict=True):
        first = next(r for r in (*a.rows, *b.rows) if (r.prompt, r.completion) == content)
        assert kept == first  # with the first one's provenance


def test_the_next_data_set_begins_with_the_last_one():
    before = RowSet.of("sft", [row(1, round=0), row(2, round=0)])
    after = merge_rows(before, RowSet.of("sft", [row(2, round=1), row(3, round=1)]))
    assert after.rows[:2] == before.rows  # Equation 4
    assert [r.provenance.round for r in after.rows] == [0, 0, 1]


@given(
    st.lists(st.sampled_from(SOURCES), max_size=60),
    st.dictionaries(st.sampled_from(SOURCES), st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0])),
    st.integers(0, 3),
)
def test_shares_are_kept_with_as_many_rows_as_possible(sources, shares, seed):
    given_rows = [row(i, source) for i, source in enumerate(sources)]
    try:
        kept = limit_shares(given_rows, shares, seed=seed)
    except DatasetError:
        assert best_total(Counter(sources), shares) == 0
        return
    counts = Counter(r.provenance.source for r in kept)
    for source, share in shares.items():
        assert counts[source] <= share * len(kept) + 1e-9
    assert len(kept) == best_total(Counter(sources), shares)
    assert list(kept) == [r for r in given_rows if r in kept]
    assert limit_shares(kept, shares, seed=seed) == kept


def best_total(counts, shares):
    """Return the largest total by trying all of them."""

    def parts(total):
        return sum(min(n, int(shares.get(s, 1.0) * total + 1e-9)) for s, n in counts.items())

    return max((t for t in range(counts.total() + 1) if parts(t) >= t), default=0)


def test_which_rows_stay_depends_on_the_seed_and_not_on_the_order():
    kept = limit_shares(MIXED, {"manual": 0.3}, seed=1)
    assert Counter(r.provenance.source for r in kept) == {"self": 70, "manual": 30}
    assert limit_shares(MIXED[::-1], {"manual": 0.3}, seed=1) == kept[::-1]
    assert limit_shares(MIXED, {"manual": 0.3}, seed=2) != kept
    merged = merge_rows(RowSet.of("sft", MIXED), shares={"manual": 0.3}, seed=1)
    assert merged.rows == kept


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"manual": 1.2}, "share of 1.2"),
        ({"manual": float("nan")}, "nan"),
        ({"strangers": 0.1}, "strangers"),
        ({"manual": 0.3, "self": 0.3}, "no set of rows keeps"),
    ],
)
def test_shares_that_cannot_be_kept_are_errors(shares, says):
    with pytest.raises(DatasetError, match=says):
        limit_shares(MIXED, shares)


def test_formats_do_not_mix():
    with pytest.raises(DatasetError, match="dpo, sft"):
        merge_rows(RowSet.of("sft", ROWS["sft"]), RowSet.of("dpo", ROWS["dpo"]))
    with pytest.raises(DatasetError, match="nothing to merge"):
        merge_rows()
    with pytest.raises(DatasetError, match="one of dpo"):
        RowSet.of("sft", ROWS["dpo"])


def test_a_judgement_is_part_of_what_a_row_says():
    good, bad = (
        rows_of("kto", "the stone")[0],
        rows_of("kto", "the stone")[0].model_copy(update={"label": False}),
    )
    assert len(merge_rows(RowSet.of("kto", [good, bad, good])).rows) == 2
