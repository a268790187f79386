"""Rows that begin alike are read together, and nothing else changes."""

from hypothesis import given
from hypothesis import strategies as st

from reflectory.training.sharing import LEAST_SHARED, group_rows, shared_rows
from reflectory.training.tokens import IGNORED, TokenisedRow


def row(prompt, completion):
    return TokenisedRow((*prompt, *completion), (*([IGNORED] * len(prompt)), *completion))


tokens = st.lists(st.integers(0, 5), min_size=1, max_size=6)
documents = st.sampled_from([tuple(range(40)), tuple(range(50)), (*range(39), 99)])
rows = st.lists(
    st.builds(lambda d, q, a: row((*d, *q), a), documents, tokens, tokens), min_size=1, max_size=9
)


@given(rows, st.integers(1, 5))
def test_every_row_is_in_one_group_and_comes_back_as_it_was(rows, most):
    groups = group_rows(rows, most, 400)
    assert sorted(at for group in groups for at in group) == list(range(len(rows)))
    for group in groups:
        assert len(group) <= most
        pack = shared_rows([rows[at] for at in group])
        assert pack.rows == len(group)
        assert len(pack.input_ids) <= 400
        for at, alone in zip(group, pack.apart(), strict=True):
            assert alone.input_ids == rows[at].input_ids
            assert alone.positions == tuple(range(len(rows[at].input_ids)))
            learnt = [n for n, label in enumerate(rows[at].labels) if label != IGNORED]
            assert alone.sources == tuple(n - 1 for n in learnt)
            assert alone.targets == tuple(rows[at].labels[n] for n in learnt)


@given(rows, st.randoms())
def test_groups_depend_on_the_rows_and_not_on_their_order(rows, random):
    def contents(given):
        found = group_rows(given, 4, 400)
        return sorted(sorted(given[at].input_ids for at in group) for group in found)

    mixed = list(rows)
    random.shuffle(mixed)
    assert contents(mixed) == contents(rows)


@given(rows)
def test_a_token_that_predicts_is_never_shared(rows):
    pack = shared_rows(rows)
    assert all(pack.branches[source] > 0 for source in pack.sources)


def test_documents_that_rows_share_are_read_once():
    begin = tuple(range(LEAST_SHARED + 8))
    given = [row((*begin, 70 + n), (n, 5)) for n in range(4)]
    (group,) = group_rows(given, 8, 1000)
    pack = shared_rows([given[at] for at in group])
    assert len(pack.input_ids) == len(begin) + 4 * 3
    assert pack.branches.count(0) == len(begin)


def test_rows_that_differ_stay_apart():
    given = [row(range(n, n + 50), (1, 2)) for n in (0, 100, 200)]
    assert group_rows(given, 8, 1000) == [(0,), (1,), (2,)]


def test_a_group_ends_where_its_sequence_would_be_too_long():
    begin = tuple(range(60))
    given = [row((*begin, 70 + n), (n, 5)) for n in range(4)]
    groups = group_rows(given, 8, 67)
    assert [len(g) for g in groups] == [2, 2]
