"""The vector index: one order of results, and a folder that cannot be read wrongly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import IntegrityError, StorageError, UserError
from reflectory.retrieval.vectors import VectorIndex, approximate, vector_index


def unit_rows(n, d=16, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_sorting(rows, queries, k):
    """Return what an exact search must return."""
    products = np.einsum("nd,qd->qn", rows.astype(float), queries.astype(float))
    scores = products.astype(np.float32)
    order = [np.lexsort((np.arange(len(rows)), -line))[:k] for line in scores]
    return np.take_along_axis(scores, np.array(order), axis=1), np.array(order)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.lists(st.integers(0, 5), max_size=60),
    st.integers(1, 300),
)
def test_exact_search_equals_sorting_everything(kinds, later, k):
    """With many equal rows, and rows that were added."""
    shapes = unit_rows(6, 8)
    shapes[5] = 0
    rows = shapes[kinds + later]
    queries = unit_rows(3, 8, seed=1)
    index = VectorIndex.build(shapes[kinds]).extended(shapes[later])
    scores, found = index.search(queries, k)
    expected_scores, expected = by_sorting(rows, queries, k)
    assert scores.dtype == np.float32 and found.dtype == np.int64
    assert np.array_equal(found, expected)
    assert np.allclose(scores, expected_scores, atol=1e-7)
    assert len(index) == index.description.size == len(rows)


@given(st.integers(1, 400), st.integers(1, 30))
def test_a_query_finds_the_same_alone_and_among_others(n, k):
    index, queries = VectorIndex.build(unit_rows(n)), unit_rows(40, seed=7)
    scores, found = index.search(queries, k)
    for row in (0, 39):
        alone = index.search(queries[row], k)
        assert np.array_equal(alone[0][0], scores[row])
        assert np.array_equal(alone[1][0], found[row])


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 20))
def test_graph_lists_the_nearest_others(n, k, doubled):
    rows = np.concatenate((unit_rows(n), unit_rows(n)[:doubled]))
    scores, neighbours = VectorIndex.build(rows).knn_graph(k)
    assert scores.shape == neighbours.shape == (len(rows), min(k, len(rows) - 1))
    for row in range(len(rows)):
        others = np.delete(np.arange(len(rows)), row)
        expected = by_sorting(rows[others], rows[row : row + 1], k)
        assert row not in neighbours[row]
        assert np.allclose(scores[row], expected[0][0], atol=1e-6)


def test_rows_are_given_back_bit_by_bit():
    rows = unit_rows(50)
    index = VectorIndex.build(rows[:30]).extended(rows[30:])
    wanted = np.array([49, 0, 30, 29, 0])
    assert np.array_equal(index.rows(wanted), rows[wanted])
    assert index.rows(np.array([], dtype=np.int64)).shape == (0, 16)
    for wrong in ([50], [-1], [[1]]):
        with pytest.raises(UserError, match="row numbers"):
            index.rows(np.array(wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v * 2, "row 0 .* length 2"),
        (lambda v: v * np.nan, "row 0"),
        (lambda v: v[0], "shape"),
        (lambda v: v[:0], "no vectors"),
        (lambda v: v[:, :0], "shape"),
    ],
)
def test_what_is_no_unit_vector_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        VectorIndex.build(change(unit_rows(5)))


def test_searches_that_do_not_fit_are_refused():
    index = VectorIndex.build(unit_rows(5))
    for wrong in (np.zeros((1, 3)), np.full((1, 16), np.inf), np.zeros((1, 1, 16))):
        with pytest.raises(UserError, match="queries"):
            index.search(wrong, 1)
    with pytest.raises(UserError, match="k is 0"):
        index.search(unit_rows(1), 0)
    with pytest.raises(UserError, match="k is 0"):
        index.knn_graph(0)
    with pytest.raises(UserError, match="shape"):
        index.extended(unit_rows(3, 8))
    with pytest.raises(UserError, match="target_recall"):
        VectorIndex.build(unit_rows(5), target_recall=0)
    assert index.search(np.zeros((0, 16)), 3)[1].shape == (0, 3)


# --- short codes -----------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Make every index an approximate one that can be."""
    monkeypatch.setattr(vector_index, "FLAT_NUMBERS", 0)
    monkeypatch.setattr(approximate, "SAMPLE", 100)
    monkeypatch.setattr(approximate, "_LEAST_CANDIDATES", 32)


def share_found(index, queries, k=10):
    rows = np.concatenate(list(index.blocks()))
    true = by_sorting(rows, queries, k)[1]
    found = index.search(queries, k)[1]
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(true, found, strict=True)])


@pytest.mark.parametrize("target", [0.8, 0.97])
def test_recall_on_other_queries_is_what_was_measured(small, target):
    index = VectorIndex.build(unit_rows(3000, 32), target_recall=target)
    description = index.description
    assert description.kind == "pq" and description.recall >= target
    assert description.recall_sample == 100
    assert share_found(index, unit_rows(200, 32, seed=8)) >= target - 0.03


def test_vectors_whose_codes_say_nothing_are_compared_one_and_all(small, monkeypatch):
    monkeypatch.setattr(approximate, "MOST_CANDIDATES", 100)
    near = 1 + 1e-2 * unit_rows(2000, 32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    index = VectorIndex.build(near.astype(np.float32))
    assert index.description.kind == "flat" and index.description.recall == 1
    assert "only" in index.description.note
    assert share_found(index, unit_rows(20, 32, seed=8)) == 1


def test_the_same_input_and_seed_search_alike(small):
    rows, queries = unit_rows(2000, 32), unit_rows(30, 32, seed=8)
    first, second = (VectorIndex.build(rows, seed=5) for _ in range(2))
    assert first.description == second.description
    for k in (1, 10, 60):
        scores, found = first.search(queries, k)
        assert np.array_equal(found, second.search(queries, k)[1])
        assert np.array_equal(found[3], first.search(queries[3], k)[1][0])
        assert np.all(np.diff(scores, axis=1) <= 0)


@pytest.mark.parametrize("d", [1, 3, 33])
def test_any_dimension_and_few_rows_will_do(small, d):
    for n in (1, 17, 1100):
        index = VectorIndex.build(unit_rows(n, d))
        assert index.search(unit_rows(2, d, seed=4), 2000)[1].shape == (2, n)


def test_more_rows_than_there_are_good_candidates_are_searched_exactly(small):
    index = VectorIndex.build(unit_rows(2000, 32))
    assert index.description.kind == "pq"
    assert share_found(index, unit_rows(5, 32, seed=8), k=1500) == 1


def test_few_added_rows_are_kept_beside_and_many_are_built_in(small):
    rows = unit_rows(2200, 32)
    index = VectorIndex.build(rows[:2000])
    few = index.extended(rows[2000:2050]).extended(rows[2050:2100])
    many = few.extended(rows[2100:])
    assert (len(index), len(few), len(many)) == (2000, 2100, 2200)
    assert few.description.indexed == 2000 and few.description.size == 2100
    assert many.description == VectorIndex.build(rows).description
    for row in (1999, 2049, 2099):
        assert few.search(rows[row], 1)[1][0, 0] == row
    assert np.array_equal(few.rows(np.arange(2100)), rows[:2100])
    graph = few.knn_graph(5)[1]
    assert graph.shape == (2100, 5) and not np.any(graph == np.arange(2100)[:, None])


def test_growing_beyond_what_is_compared_one_and_all(monkeypatch):
    monkeypatch.setattr(vector_index, "FLAT_NUMBERS", 2000 * 32)
    monkeypatch.setattr(approximate, "SAMPLE", 100)
    rows = unit_rows(2400, 32)
    index = VectorIndex.build(rows[:2000])
    assert index.description.kind == "flat"
    assert index.extended(rows[2000:]).description.kind == "pq"


# --- the folder ------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    return VectorIndex.build(unit_rows(300), seed=3).extended(unit_rows(20, seed=9)).save(tmp_path)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("verify", [True, False])
def test_what_was_saved_searches_alike(saved, mmap, verify):
    queries = unit_rows(8, seed=5)
    index = VectorIndex.build(unit_rows(300), seed=3).extended(unit_rows(20, seed=9))
    loaded = VectorIndex.load(saved, mmap=mmap, verify=verify)
    assert loaded.description == index.description
    for mine, theirs in zip(index.search(queries, 9), loaded.search(queries, 9), strict=True):
        assert np.array_equal(mine, theirs)
    again = loaded.save(saved)  # over the files that it has mapped
    assert np.array_equal(VectorIndex.load(again).search(queries, 9)[1], theirs)


def test_the_same_input_writes_the_same_bytes(saved, tmp_path):
    other = VectorIndex.load(saved).save(tmp_path / "other")
    for path in other.iterdir():
        assert path.read_bytes() == (saved / path.name).read_bytes()


def test_what_is_no_index_or_a_newer_one_is_refused(saved, tmp_path):
    with pytest.raises(UserError, match="holds no vectors"):
        VectorIndex.load(tmp_path / "absent")
    path = saved / "vectors.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 9}))
    with pytest.raises(UserError, match="schema version 9"):
        VectorIndex.load(saved)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        VectorIndex.build(unit_rows(3)).save(tmp_path / "file")


def damaged(folder, name, change):
    """Load with a changed file, which must be refused; the file is put back."""
    path = folder / name
    whole = path.read_bytes()
    try:
        path.write_bytes(change(whole))
        with pytest.raises(IntegrityError) as caught:
            VectorIndex.load(folder)
        assert "build the index again" in caught.value.hint
    finally:
        path.write_bytes(whole)


def test_codes_are_saved_and_searched_alike(small, tmp_path):
    index = VectorIndex.build(unit_rows(2000, 32)).extended(unit_rows(30, 32, seed=2))
    loaded = VectorIndex.load(index.save(tmp_path))
    queries = unit_rows(9, 32, seed=6)
    assert loaded.description == index.description
    assert np.array_equal(loaded.search(queries, 10)[1], index.search(queries, 10)[1])
    whole = (tmp_path / "structure.faiss").read_bytes()
    for place in (*range(0, 200, 7), len(whole) // 2, len(whole) - 1):
        damaged(tmp_path, "structure.faiss", lambda data, at=place: flipped(data, at, 3))
    for size in (0, 1, 50, len(whole) - 1):
        damaged(tmp_path, "structure.faiss", lambda data, size=size: data[:size])
    VectorIndex.build(unit_rows(1, 32)).save(tmp_path)  # a flat one over it
    assert not (tmp_path / "structure.faiss").exists()
    assert len(VectorIndex.load(tmp_path)) == 1


def test_a_flipped_bit_deep_in_big_rows_is_noticed_when_all_is_verified(tmp_path):
    VectorIndex.build(unit_rows(9000, 128)).save(tmp_path)  # 4.6 MB, more than is sampled
    path = tmp_path / "rows.npy"
    path.write_bytes(flipped(path.read_bytes(), 70_000, 0))
    VectorIndex.load(tmp_path)
    with pytest.raises(IntegrityError, match="checksum"):
        VectorIndex.load(tmp_path, verify=True)


def flipped(data, place, bit):
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


FILES = ["rows.npy", "vectors.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_noticed(saved, name):
    (saved / name).unlink()
    with pytest.raises((IntegrityError, UserError)):
        VectorIndex.load(saved)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    return VectorIndex.build(unit_rows(60)).save(folder)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_noticed(kept, name, share):
    damaged(kept, name, lambda data: data[: int(len(data.rstrip()) * share)])


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150)
@given(place=st.integers(0, 255), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_header_is_noticed(kept, name, place, bit):
    damaged(kept, name, lambda data: flipped(data, place, bit))
