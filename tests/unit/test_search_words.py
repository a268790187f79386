"""Words of texts, and the scores that they give: against a plain BM25 in a dozen lines."""

import math
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.search.terms import terms

K1, B = 1.5, 0.75


def plain_bm25(texts, query):
    """BM25 as Lucene has it, which bm25s computes by default."""
    lists = [terms(text) for text in texts]
    mean = sum(map(len, lists)) / len(lists)
    scores = []
    for found in lists:
        counts, score = Counter(found), 0.0
        for term in set(terms(query)):
            holders = sum(term in other for other in lists)
            if counts[term]:
                idf = math.log(1 + (len(lists) - holders + 0.5) / (holders + 0.5))
                share = K1 * (1 - B + B * len(found) / mean)
                score += idf * counts[term] / (counts[term] + share)
        scores.append(score)
    return scores


# --- terms -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cats were running", ["cat", "run"]),
        ("Fleming's discoveries", ["fleme", "discoveri"]),
        ("naïve CAFÉ", ["naiv", "cafe"]),
        ("ﬁrst Ⅻ \U0001d400\U0001d401 \u210d", ["first", "xii", "ab", "h"]),
        ("Straße", ["strass"]),
        ("луна и солнце", ["луна", "и", "солнце"]),
        ("月の裏側", ["月の", "の裏", "裏側"]),
        ("月", ["月"]),
        ("GPT4モデルx", ["gpt4", "モテ", "テル", "x"]),
        ("snake_case 3.5", ["snake_cas", "3", "5"]),
        ("", []),
        ("of the and", []),
        ("?! 🌕 …", []),
    ],
)
def test_terms_are_folded_and_stemmed_and_stop_words_go(text, expected):
    assert terms(text) == expected


@given(st.text(max_size=200))
def test_terms_do_not_depend_on_case_or_composition(text):
    found = terms(text)
    assert all(found)
    assert terms(text.casefold()) == terms(unicodedata.normalize("NFC", text)) == found


@given(st.lists(st.text(max_size=30), max_size=8))
def test_terms_of_a_text_are_those_of_its_lines(lines):
    assert terms("\n".join(lines)) == [term for line in lines for term in terms(line)]


def test_many_threads_find_the_same_terms():
    texts = [f"running discoveries of studies number{n} connected generously" for n in range(400)]
    expected = [terms(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(terms, texts)) == expected


# --- scores ----------------------------------------------------------------------------

vocabulary = st.sampled_from(["moon", "mars", "red", "grey", "craters", "of", "月面"])
texts_of_words = st.lists(st.lists(vocabulary, max_size=6).map(" ".join), min_size=1, max_size=12)


@settings(max_examples=80)
@given(texts_of_words, st.lists(vocabulary, max_size=5).map(" ".join))
def test_scores_are_those_of_bm25(texts, query):
    index = LexicalIndex.build(texts)
    found = index.scores(index.query(query))
    assert found.dtype == np.float32 and found.shape == (len(texts),)
    if any(terms(text) for text in texts):
        assert found == pytest.approx(plain_bm25(texts, query), rel=1e-4, abs=1e-6)
    else:
        assert not found.any()


@given(texts_of_words, vocabulary)
def test_what_a_text_holds_is_what_it_says(texts, word):
    index = LexicalIndex.build(texts)
    asked = index.query(word)
    held = index.holds(asked, range(len(texts)))
    for row, text in enumerate(texts):
        assert held[row].sum() == len(set(terms(word)) & set(terms(text)))
    counted = held.sum(axis=0)
    assert np.allclose(index.weights(asked), np.log1p(len(texts) / np.maximum(counted, 1)))
    assert bool((counted > 0).all())  # a question has only terms that some text has


def test_a_question_names_each_known_term_once():
    index = LexicalIndex.build(["red moon", "grey moon"])
    assert len(index.query("moons moon MOON mars")) == 1
    assert index.query("mars the of").tolist() == []
    assert index.scores(index.query("mars")).tolist() == [0, 0]
    assert index.query("moon red").tolist() == sorted(index.query("red moon").tolist())


@given(texts_of_words, texts_of_words, st.data())
def test_texts_behind_kept_ones_are_indexed_as_if_anew(old, new, data):
    kept = sorted(data.draw(st.sets(st.integers(0, len(old) - 1))))
    grown = LexicalIndex.build(new, before=LexicalIndex.build(old), kept=kept)
    fresh = LexicalIndex.build([*(old[row] for row in kept), *new])
    query = " ".join(["moon", "mars", "red", "grey", "craters", "月面"])
    assert np.array_equal(grown.query(query), fresh.query(query))
    assert np.array_equal(grown.scores(grown.query(query)), fresh.scores(fresh.query(query)))


@given(texts_of_words)
def test_a_saved_index_scores_the_same(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("lexical")
    index = LexicalIndex.build(texts)
    index.save(folder)
    again = LexicalIndex.load(folder)
    asked = index.query("moon mars 月面")
    assert np.array_equal(again.query("moon mars 月面"), asked)
    assert np.array_equal(again.scores(asked), index.scores(asked))
    assert np.array_equal(again.holds(asked, [0]), index.holds(asked, [0]))
    assert len(again) == len(texts)


def test_many_threads_score_the_same():
    index = LexicalIndex.build([f"moon number{n} {'red ' * (n % 5)}" for n in range(500)])
    queries = [f"red moon number{n}" for n in range(60)]
    expected = [index.scores(index.query(query)) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda query: index.scores(index.query(query)), queries)
        assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))
