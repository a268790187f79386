"""``reflectory index``: build, extend, search, describe and draw, with what machines read of it."""

import json

import networkx as nx
import pytest
from indexes import BRIDGE, BRIDGE_QUESTION, CountingEmbedder

from reflectory.cli.common import DONE, FAILED, USAGE
from reflectory.cli.main import run_command
from reflectory.retrieval import PassageIndex, is_index


@pytest.fixture(autouse=True)
def embedder(monkeypatch):
    """Stands in for the default model, which the fast tier has not."""
    counting = CountingEmbedder()
    monkeypatch.setattr("reflectory.models.embedders.resolve_embedder", lambda spec: counting)
    return counting


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for document in BRIDGE:
        (folder / f"{document.id}.md").write_text(f"# {document.title}\n\n{document.text}\n")
    return folder


@pytest.fixture
def run(capfd):
    def call(*arguments, code=DONE):
        assert run_command(["index", *(str(a) for a in arguments)]) == code
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return captured.out if code == DONE else captured.err

    return call


@pytest.fixture
def saved(run, notes, tmp_path):
    run(notes, "-o", tmp_path / "notes.index")
    return tmp_path / "notes.index"


def flat(text):
    """Return the text without the line breaks of a narrow terminal."""
    return " ".join(text.split())


# --- building --------------------------------------------------------------------------


def test_a_folder_becomes_an_index(run, notes, tmp_path):
    (notes / "picture.xyz").write_bytes(b"\x00")
    told = json.loads(run(notes, "-o", tmp_path / "notes.index", "--json"))
    assert told["index"] == str(tmp_path / "notes.index") and is_index(told["index"])
    assert (told["documents"], told["added"], told["replaced"]) == (12, 12, 0)
    assert told["passages"] >= 12
    assert [skipped["path"] for skipped in told["skipped"]] == ["picture.xyz"]


def test_people_read_how_many_there_are_and_what_was_skipped(capfd, run, notes, tmp_path):
    (notes / "picture.xyz").write_bytes(b"\x00")
    assert run_command(["index", str(notes), "-o", str(tmp_path / "i")]) == DONE
    captured = capfd.readouterr()
    assert flat(captured.out).startswith("12 documents, ")
    assert flat(captured.out).endswith("(12 added, 0 replaced)")
    assert "skipped picture.xyz" in captured.err


def test_an_index_is_extended_and_nothing_is_embedded_twice(run, notes, saved, embedder):
    (notes / "new.md").write_text("# Snow\n\nSnow fell on the harbour.\n")
    (notes / "bees.md").write_text("# Bees\n\nBees sleep in winter.\n")
    embedder.calls.clear()
    told = json.loads(run(notes, "-o", saved, "--json"))
    assert (told["documents"], told["added"], told["replaced"]) == (13, 1, 1)
    assert len(embedder.texts) == 2
    embedder.calls.clear()
    assert flat(run(notes, "-o", saved)).endswith("(0 added, 0 replaced)")
    assert embedder.calls == []
    assert len(PassageIndex.load(saved, embedder).documents) == 13


def test_rebuild_leaves_out_what_is_no_longer_there(run, notes, saved):
    (notes / "bees.md").unlink()
    assert json.loads(run(notes, "-o", saved, "--json"))["documents"] == 12
    told = json.loads(run(notes, "-o", saved, "--rebuild", "--json"))
    assert (told["documents"], told["added"], told["replaced"]) == (11, 11, 0)


def test_another_length_of_passages_needs_a_rebuild(run, notes, saved, embedder):
    message = flat(run(notes, "-o", saved, "--passage-tokens", "40", code=USAGE))
    assert "at most 120 tokens, not of 40" in message and "--rebuild" in message
    run(notes, "-o", saved, "--passage-tokens", "40", "--rebuild")
    assert PassageIndex.load(saved, embedder).passage_tokens == 40
    run(notes, "-o", saved)  # as it is
    assert PassageIndex.load(saved, embedder).passage_tokens == 40


# --- looking ---------------------------------------------------------------------------


def test_a_query_gives_passages_in_the_documented_shape(run, saved, embedder):
    told = json.loads(run(saved, "--query", BRIDGE_QUESTION, "--top", "4", "--json"))
    assert set(told) == {"passages"} and len(told["passages"]) == 4
    documents = {d.id: d for d in PassageIndex.load(saved, embedder).documents}
    for row in told["passages"]:
        assert list(row)[:7] == ["title", "text", "source", "start", "end", "score", "path"]
        assert documents[row["document"]].text[row["start"] : row["end"]] == row["text"]
        assert documents[row["document"]].title == row["title"]
        assert 0 < row["score"] <= 1
        assert row["path"][0]["kind"] == "question" and row["path"][-1]["name"] == row["id"]
        assert set(row["path"][-1]) == {"kind", "name", "by", "detail"}
    assert told["passages"][0]["title"] == "The Glass Harbour"
    assert "Ilse Varga" in [row["title"] for row in told["passages"]]
    assert told["passages"][0]["score"] == 1


def test_people_read_passages_with_the_way_to_them(run, saved):
    told = flat(run(saved, "--query", BRIDGE_QUESTION, "--top", "4"))
    assert "1 1.000 The Glass Harbour" in told
    assert "--mention--> Ilse Varga --title--> Ilse Varga" in told
    assert "where a tortoise kept her company" in told


def test_a_query_of_unknown_words_finds_what_there_is(run, tmp_path):
    (tmp_path / "a.txt").write_text("...")
    run(tmp_path / "a.txt", "-o", tmp_path / "i")
    told = json.loads(run(tmp_path / "i", "--query", "zzz", "--json"))
    assert [row["text"] for row in told["passages"]] == ["..."]


def test_stats_describe_an_index(run, saved, embedder):
    told = json.loads(run(saved, "--stats", "--json"))
    assert set(told) == {"stats"}
    index = PassageIndex.load(saved, embedder)
    stats = told["stats"]
    assert (stats["documents"], stats["passages"]) == (12, len(index))
    assert stats["characters"] == sum(len(passage.text) for passage in index.passages)
    assert stats["fingerprint"] == index.fingerprint
    assert stats["embedder"] == "hashing:64" and stats["extractor"].startswith("rules")
    assert stats["entities"] == len(index.graph.keys) and stats["mentions"] > 0
    for_people = flat(run(saved, "--stats"))
    assert all(f"{name} {value}" in for_people for name, value in stats.items())


def test_a_graph_of_everything_or_of_what_was_found_is_written(run, saved, tmp_path):
    whole, part = tmp_path / "whole.graphml", tmp_path / "part.graphml"
    told = json.loads(run(saved, "--graph", whole, "--json"))
    assert told == {"graph": str(whole)}
    told = json.loads(run(saved, "--graph", part, "--query", BRIDGE_QUESTION, "--json"))
    assert set(told) == {"graph", "passages"}
    assert 0 < len(nx.read_graphml(part)) < len(nx.read_graphml(whole))


def test_everything_can_be_asked_for_at_once(run, saved, tmp_path):
    picture = tmp_path / "graph.png"
    told = run(saved, "--query", "bees", "--top", "2", "--stats", "--graph", picture)
    assert "fingerprint" in told and "Bees" in told and str(picture.name) in told
    assert picture.read_bytes().startswith(b"\x89PNG")


# --- mistakes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{notes}"], "nothing to do"),
        (["{saved}"], "nothing to do"),
        (["{notes}", "{saved}", "--query", "x"], "nothing to do"),
        (["{notes}", "-o", "{new}", "--query", "x"], "leave --output out"),
        (["{notes}", "-o", "{new}", "--stats"], "leave --output out"),
        (["{notes}", "-o", "{new}", "--graph", "g.png"], "leave --output out"),
        (["{saved}", "--query", "x", "--rebuild"], "--rebuild needs --output"),
        (["{saved}", "-o", "{new}"], "is a saved index and no documents"),
        (["{notes}", "{saved}", "-o", "{saved}"], "is a saved index and no documents"),
        (["{notes}", "--stats"], "is not a saved index"),
        (["{missing}", "--query", "x"], "is not a saved index"),
        (["{missing}", "-o", "{new}"], "no such file"),
        (["{saved}", "--query", "x", "--top", "0"], "top"),
        (["{saved}", "--graph", "g.gif"], "not written as .gif"),
        (["{notes}", "-o", "{notes}"], "exists and is not an index"),
        (["{notes}", "-o", "{new}", "--extractor", "magic"], "magic"),
        (["{notes}", "-o", "{new}", "--passage-tokens", "3"], "passage_tokens"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(run, saved, notes, tmp_path, arguments, says):
    places = {"notes": notes, "saved": saved, "new": tmp_path / "new", "missing": tmp_path / "no"}
    message = flat(run(*(argument.format(**places) for argument in arguments), code=USAGE))
    assert says in message.replace("│ ", "").replace(" │", "")
    assert not (tmp_path / "new").exists() and is_index(saved)


def test_a_damaged_index_is_named(run, saved):
    (saved / "passages.jsonl").write_bytes(b"")
    assert "passages.jsonl is damaged" in flat(run(saved, "--stats", code=FAILED))
