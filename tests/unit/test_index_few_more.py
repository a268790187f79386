"""A few documents more: the others are not read again, and the graph is as if they were."""

import asyncio

import numpy as np
import pytest

from reflectory.retrieval import PassageIndex
from reflectory.retrieval.index import joining
from reflectory.retrieval.index.lines import Joined
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document

CITIES = [
    "Ankor", "Belmar", "Corvel", "Dunmore", "Elstad", "Farsund", "Galdor", "Hemnes", "Ivelo",
    "Jorvik", "Kalmor", "Lindow", "Morvan", "Nordby", "Orlan", "Pelham", "Quorn", "Rosvik",
    "Selby", "Torvald",
]  # fmt: skip


def city(name, text):
    return Document(id=name.lower(), title=name, text=text)


OLD = [
    city(name, f"{name} is a town. {CITIES[(at + 1) % len(CITIES)]} and Lake Zorn lie near {name}.")
    for at, name in enumerate(CITIES)
]
NEW = [city("Lake Zorn", "Lake Zorn is a lake. Its port is Ankor. Ulla Brandt lives there.")]


def build(documents):
    return asyncio.run(PassageIndex.build(documents, HashingEmbedder(), passage_tokens=60))


def extend(index, documents):
    return asyncio.run(index.extended(documents, HashingEmbedder()))


def mentions(index):
    graph = index.graph
    rows = graph.mentions.tocoo()
    return {
        (index.passages[row].id, graph.keys[entity]): count
        for row, entity, count in zip(rows.row, rows.col, rows.data, strict=True)
    }


def about(index):
    graph = index.graph
    pairs = graph.about.tocoo()
    return {
        (index.documents[d].id, graph.keys[e]) for d, e in zip(pairs.row, pairs.col, strict=True)
    }


def test_the_graph_is_as_if_it_was_built_at_once(monkeypatch):
    index = build(OLD)
    monkeypatch.setattr(joining, "_linked_anew", None)  # would fail: nothing is linked again
    extended = extend(index, NEW)
    monkeypatch.undo()
    fresh = build([*OLD, *NEW])
    assert extended.graph.keys == fresh.graph.keys
    assert extended.graph.entities == fresh.graph.entities
    assert mentions(extended) == mentions(fresh)
    assert about(extended) == about(fresh)
    assert np.array_equal(extended.graph.strength, fresh.graph.strength)
    assert set(extended.graph.relations) == set(fresh.graph.relations)
    # Edges of similarity may differ, so the two are not the same index.
    assert extended.fingerprint != fresh.fingerprint


def test_old_passages_are_read_again_where_they_name_a_new_subject():
    plain = [
        d.model_copy(update={"text": d.text.replace("Lake Zorn", "the beer hall")}) for d in OLD
    ]
    extended = extend(build(plain), [city("Beer hall", "A beer hall is a tavern.")])
    held = {key for passage, key in mentions(extended) if passage.startswith("ankor")}
    assert "beer hall" in held


def test_a_known_alias_is_the_entity_it_names():
    old = [*OLD, Document(id="who", text="The World Health Organization (WHO) met in Selby.")]
    extended = extend(build(old), [Document(id="new", text="They heard of the WHO in Quorn.")])
    held = {key for passage, key in mentions(extended) if passage.startswith("new")}
    assert "world health organization" in held and "who" not in extended.graph.keys


def test_many_small_additions_stay_shallow_and_can_be_saved(tmp_path):
    index = build(OLD)
    for number in range(4):
        index = extend(index, [Document(id=f"n{number}", text=f"Ankor met Selby in {number}.")])
    assert isinstance(index.documents, Joined)
    assert not any(isinstance(part, Joined) for part in index.documents.parts)
    index.save(tmp_path / "index")
    loaded = PassageIndex.load(tmp_path / "index", HashingEmbedder())
    assert [d.id for d in loaded.documents] == [d.id for d in index.documents]
    assert loaded.documents[-1] == index.documents[-1]
    again = extend(loaded, [Document(id="n9", text="Quorn met Selby.")])
    again.save(tmp_path / "index")
    assert len(PassageIndex.load(tmp_path / "index", HashingEmbedder()).documents) == 25


def test_a_sequence_of_two_is_one():
    joined = Joined([1, 2, 3], [4, 5])
    assert list(joined) == [1, 2, 3, 4, 5] and len(joined) == 5
    assert (joined[-1], joined[2], joined[1:4]) == (5, 3, [2, 3, 4])
    with pytest.raises(IndexError):
        joined[5]
