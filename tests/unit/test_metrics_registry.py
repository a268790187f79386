import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.verification import LexicalVerifier
from reflectory.errors import UserError
from reflectory.evaluation.metrics import score_answer
from reflectory.evaluation.metrics.instructions import Instruction, follow, following_accuracy
from reflectory.evaluation.metrics.registry import METRICS, check_names, measure_answers
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Passage

TEXT = "Apollo 17 landed in the valley in 1972. Nobody has been there since."
PASSAGE = Passage(id="a-0", document_id="a", title="Moon", text=TEXT, start=0, end=len(TEXT))
words = st.lists(st.sampled_from(["red", "stone", "moon", "the", "yes", "1972", "no"]), max_size=6)
phrases = words.map(" ".join)


VERIFIED = ("strict_prompt", "strict_instruction", "loose_prompt", "loose_instruction")
COMPARED = tuple(name for name in METRICS if name not in VERIFIED)


def measure(texts, references, names=COMPARED, contexts=None, **parts):
    parts = {"embedder": HashingEmbedder(), "verifier": LexicalVerifier()} | parts
    count = len(texts)
    return asyncio.run(
        measure_answers(
            texts, references, contexts or [(PASSAGE,)] * count, ["When?"] * count, names, **parts
        )
    )


def test_every_name_of_the_contract_is_there():
    named = "exact_match f1 contains words rouge1 rouge2 rougeL bleu similarity bertscore"
    assert set(METRICS) == {*named.split(), "groundedness", *VERIFIED}


def test_values_are_those_of_the_single_metrics():
    texts = ["It landed in 1972.", "red", ""]
    references = [("1972", "in 1972"), ("red",), ("moon",)]
    for text, group, values in zip(texts, references, measure(texts, references), strict=True):
        scores = score_answer(text, group)
        assert values["exact_match"] == scores.exact_match
        assert values["f1"] == scores.f1
        assert values["contains"] == scores.contains
        assert values["words"] == scores.words


def test_no_answer_is_0_everywhere_and_changes_no_other():
    texts = ["Apollo 17 landed in 1972.", None, "red"]
    references = [("1972",), ("x",), ("red",)]
    values = measure(texts, references)
    assert values[1] == dict.fromkeys(COMPARED, 0.0)
    without = measure([texts[0], texts[2]], [references[0], references[2]])
    assert [values[0], values[2]] == without


def test_groundedness_is_the_verifiers_and_left_out_where_nothing_is_stated():
    texts = ["Apollo 17 landed in the valley.", "Venus is made of blue cheese.", "I do not know."]
    values = measure(texts, [()] * 3, ["groundedness", "words"])
    assert [v.get("groundedness") for v in values] == [1.0, 0.0, None]
    assert all("words" in v for v in values)


@given(phrases, st.lists(phrases, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_values_are_shares_and_the_order_of_references_does_not_matter(text, references, random):
    mixed = list(references)
    random.shuffle(mixed)
    first, second = measure([text, text], [tuple(references), tuple(mixed)])
    assert first == pytest.approx(second)
    for name, value in first.items():
        assert 0.0 <= value <= 1.0 or name == "words", name


@given(phrases.filter(lambda p: len(p.split()) > 1))
def test_an_answer_equal_to_its_reference_scores_1(text):
    values = measure([text], [(text,)])[0]
    exact = {"exact_match", "f1", "contains", "rouge1", "rouge2", "rougeL"}
    assert {values[name] for name in exact} == {1.0}
    for name in ("bleu", "similarity", "bertscore"):
        assert values[name] == pytest.approx(1.0)


def test_names_are_kept_once_and_in_order():
    assert check_names(["words", "f1", "words"]) == ("words", "f1")
    assert list(measure(["a"], [("a",)], ["words", "f1", "words"])[0]) == ["words", "f1"]


@pytest.mark.parametrize("names", [["f1", "meteor"], []])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(names):
    with pytest.raises(UserError, match="rougeL") as caught:
        measure(["a"], [("a",)], names)
    assert ("'meteor'" in str(caught.value)) == bool(names)


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("similarity", {"embedder": None}, "embedder"),
        ("bertscore", {"embedder": None}, "embedder"),
        ("groundedness", {"verifier": None}, "verifier"),
    ],
)
def test_a_metric_says_what_it_lacks(name, parts, message):
    with pytest.raises(UserError, match=message):
        measure(["a"], [("a",)], [name], **parts)


def test_references_are_needed_where_they_are_compared_with():
    assert measure(["a b"], [()], ["words"]) == [{"words": 2.0}]
    with pytest.raises(UserError, match="needs a reference"):
        measure(["a"], [()], ["words", "f1"])


ASKED = (
    Instruction(id="punctuation:no_comma"),
    Instruction(
        id="length_constraints:number_words", parameters={"num_words": 3, "relation": "at least"}
    ),
)


def test_constraints_give_the_published_figures_strictly_and_loosely():
    texts = ["Here you are, Anna:\nthree plain words", "two words", "one two three", None]
    values = measure(texts, [()] * 4, VERIFIED, constraints=[ASKED] * 4)
    results = [follow(text, ASKED) for text in texts]
    accuracy = following_accuracy(results)
    for name in VERIFIED:
        mean = sum(value[name] for value in values) / 4
        assert mean == pytest.approx(getattr(accuracy, name)), name
    assert values[0] == dict(zip(VERIFIED, (0.0, 0.5, 1.0, 1.0), strict=True))
    assert values[3] == dict.fromkeys(VERIFIED, 0.0)


def test_a_metric_is_left_out_where_a_question_lacks_what_it_needs():
    texts, references = ["three plain words", "red", None], [(), ("red",), ()]
    names = ["f1", "strict_prompt", "words"]
    values = measure(texts, references, names, constraints=[ASKED, (), ASKED])
    assert values[0] == {"strict_prompt": 1.0, "words": 3.0}
    assert values[1] == {"f1": 1.0, "words": 1.0}
    assert values[2] == {"strict_prompt": 0.0, "words": 0.0}


def test_a_question_with_neither_reference_nor_constraint_is_an_error():
    with pytest.raises(UserError, match="needs a reference"):
        measure(["a", "b"], [(), ()], ["f1"], constraints=[ASKED, ()])
    with pytest.raises(UserError, match="strict_prompt needs constraints"):
        measure(["a"], [("a",)], ["strict_prompt"])


def test_sequences_of_different_length_are_an_error():
    with pytest.raises(UserError, match="2 texts, 1 references"):
        measure(["a", "b"], [("a",)], ["f1"])


def test_no_question_at_all_gives_no_values():
    assert measure([], []) == []


def test_importing_the_metrics_loads_no_library():
    code = (
        "import reflectory.evaluation.metrics.registry, sys;"
        "print([m for m in ('rouge_score', 'nltk', 'sacrebleu', 'langdetect', 'torch',"
        "'scipy', 'sklearn') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
