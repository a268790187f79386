"""Why a passage was chosen: each way from the question to it, with the words that say so."""

import numpy as np
import pytest
from indexes import build, embed

from reflectory.retrieval.search.candidates import DenseScores, FirstHits
from reflectory.retrieval.search.layers import LayeredSearch
from reflectory.retrieval.search.paths import Explainer
from reflectory.retrieval.structure import RuleExtractor, name_key
from reflectory.types import Document, PathStep

QUESTION = PathStep(kind="question", name="question")
PAGES = {
    "Anna Lind": "Anna Lind sang in the choir. Her voice was famous.",
    "wedding": "Anna Lind married Otto Berg.",
    "ship": "A ship was launched. Otto Berg paid for it, people say.",
    "letters": "Some letters mention Karla Weiß. They were never sent.",
    "diary": "Nobody read it. The diary says that Karla Weiß left.",
    "stone": "Grey stones lie on the grey beach all year.",
    "beach": "Grey stones lie on the grey beach all winter.",
    "nothing": "Dough must rest.",
}


@pytest.fixture(scope="module")
def index():
    documents = [
        Document(id=name, title=name if " " in name else "", text=text)
        for name, text in PAGES.items()
    ]
    return build(documents, passage_tokens=40)


def row_of(index, document):
    return [passage.document_id for passage in index.passages].index(document)


def entity_of(index, name):
    return list(index.graph.keys).index(name_key(name))


def path(
    index, to, *, hits=(), direct=None, named=(), text="zzz", dense=True, lexical=True, graph=True
):
    found = FirstHits(
        index.vectors,
        DenseScores(index.vectors) if dense else None,
        index.lexical if lexical else None,
        embed(text),
        index.lexical.query(text),
        1,
    ).of(np.arange(len(index)))
    origins = np.asarray([row_of(index, name) for name in hits], dtype=np.int64)
    explainer = Explainer(
        index,
        index.graph if graph else None,
        [entity_of(index, name) for name in named],
        found,
        origins,
        origins if direct is None else np.asarray([row_of(index, n) for n in direct], np.int64),
    )
    steps = explainer.path(row_of(index, to))
    assert steps[0] == QUESTION
    return [(step.by, step.name, step.detail) for step in steps[1:]]


# --- the ways, the first of which counts -----------------------------------------------


def test_the_question_names_what_the_document_is_about(index):
    steps = path(index, "Anna Lind", named=["Anna Lind"], hits=["Anna Lind"])
    assert steps == [("mention", "Anna Lind", ""), ("title", "Anna Lind#0", "")]


def test_a_first_hit_needs_no_other(index):
    assert path(index, "ship", hits=["wedding", "ship"], text="ship") == [("dense", "ship#0", "")]


def test_a_first_hit_that_others_lead_to_is_told_over_them(index):
    steps = path(index, "ship", hits=["wedding", "ship"], direct=["wedding"], text="married")
    assert [step[:2] for step in steps] == [
        ("dense", "wedding#0"),
        ("mention", "Otto Berg"),
        ("mention", "ship#0"),
    ]


def test_it_shares_an_entity_with_a_first_hit(index):
    steps = path(index, "diary", hits=["letters"], text="letters")
    assert steps == [
        ("dense", "letters#0", ""),
        ("mention", "Karla Weiß", "Some letters mention Karla Weiß."),
        ("mention", "diary#0", "The diary says that Karla Weiß left."),
    ]


def test_the_shared_entity_may_be_what_the_document_is_about(index):
    steps = path(index, "Anna Lind", hits=["wedding"], text="married")
    assert steps == [
        ("dense", "wedding#0", ""),
        ("mention", "Anna Lind", "Anna Lind married Otto Berg."),
        ("title", "Anna Lind#0", ""),
    ]


def test_an_entity_of_it_is_in_a_relation_with_one_of_a_first_hit(index):
    steps = path(index, "ship", hits=["Anna Lind"], text="choir")
    assert steps == [
        ("dense", "Anna Lind#0", ""),
        ("mention", "Anna Lind", "Anna Lind sang in the choir."),
        ("relation", "Otto Berg", "married"),
        ("mention", "ship#0", "Otto Berg paid for it, people say."),
    ]


def test_it_is_similar_to_a_first_hit(index):
    steps = path(index, "beach", hits=["ship", "stone"], text="stones year")
    assert steps == [("dense", "stone#0", ""), ("similarity", "beach#0", "")]


def test_it_mentions_an_entity_of_the_question(index):
    steps = path(index, "ship", hits=["stone"], named=["Karla Weiß", "Otto Berg"])
    assert steps == [
        ("mention", "Otto Berg", ""),
        ("mention", "ship#0", "Otto Berg paid for it, people say."),
    ]


def test_a_first_layer_found_it_further_down(index):
    assert path(index, "nothing", hits=["stone"], text="dough") == [("dense", "nothing#0", "")]


# --- details ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "text", "by"),
    [
        ({"dense": True, "lexical": True}, "dough", "dense"),
        ({"dense": True, "lexical": False}, "dough", "dense"),
        ({"dense": True, "lexical": False}, "zzz", "dense"),  # a cosine of zero is its, too
        ({"dense": False, "lexical": True}, "dough", "lexical"),
        ({"dense": False, "lexical": True}, "zzz", "graph"),  # only the walk can have come here
    ],
)
def test_the_layer_that_found_it_is_told(index, layers, text, by):
    assert path(index, "nothing", hits=["stone"], text=text, **layers)[0][0] == by


def test_a_passage_with_words_alone_is_found_by_words(index):
    class Away(DenseScores):
        def cosines(self, query, rows):
            return super().cosines(query, rows) - 1

    found = FirstHits(
        index.vectors, Away(index.vectors), index.lexical, embed("dough"),
        index.lexical.query("dough"), 1,
    ).of(np.arange(len(index)))  # fmt: skip
    nobody = np.zeros(0, dtype=np.int64)
    steps = Explainer(index, index.graph, [], found, nobody, nobody).path(row_of(index, "nothing"))
    assert steps[-1].by == "lexical"


def test_without_the_graph_a_path_is_one_step(index):
    for name in PAGES:
        assert len(path(index, name, hits=["wedding"], text="stones", graph=False)) == 1


def test_no_passage_leads_to_itself(index):
    steps = path(index, "wedding", hits=["wedding"], direct=[], text="married")
    assert [step[1] for step in steps].count("wedding#0") == 1


def test_the_sentence_is_found_behind_letters_that_fold_to_two():
    text = "ßßßßßßßßßßßßßßßß ist kein Wort. Otto Berg war hier. Das war alles."
    documents = [Document(id="a", text=text), Document(id="b", text="Man sah Otto Berg oft.")]
    index = build(documents, passage_tokens=40)
    steps = path(index, "a", hits=["b"])
    assert [step[2] for step in steps] == ["", "Man sah Otto Berg oft.", "Otto Berg war hier."]


def test_a_name_inside_a_word_is_no_mention():
    documents = [
        Document(id="a", text="Marshes are wet. We saw Mars at night."),
        Document(id="b", title="Mars", text="Mars is red."),
    ]
    steps = path(build(documents, passage_tokens=40), "a", hits=["b"])
    assert steps[-1] == ("mention", "a#0", "We saw Mars at night.")


def test_every_passage_of_a_search_has_a_path_of_known_names(index):
    search = LayeredSearch(
        index, ("dense", "lexical", "graph", "rerank", "spread"), RuleExtractor()
    )
    names = {passage.id for passage in index.passages} | {*index.graph.entities, "question"}
    kinds = {"question", "passage", "entity"}
    for text in ("Who paid for the ship?", "Karla Weiß", "grey", "anna lind", "zzz"):
        for scored in search.search(text, embed(text), 2, 20):
            steps = scored.path
            assert steps[0] == QUESTION and steps[-1].name == scored.passage.id
            assert all(step.name in names and step.kind in kinds for step in steps)
            assert all(step.by for step in steps[1:])
            assert len(set(steps)) == len(steps)
