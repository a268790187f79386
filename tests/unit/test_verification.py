"""Evidence: which statements the passages support, where, and what is no statement at all."""

import asyncio
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.verification import (
    LexicalVerifier,
    Verifier,
    groundedness,
    statements_in,
    with_evidence,
)
from reflectory.agents.verification.lexical import evidence_for
from reflectory.agents.verification.words import content_of, has_negation, same_root, stem
from reflectory.types import Answer, Passage, Statement

DANUBE = (
    "The Danube begins in the Black Forest, where two small streams join. "
    "It flows east through Vienna, Budapest and Belgrade. "
    "In 1856 a treaty opened it to ships of all nations."
)
RHINE = "The Rhine rises in the Swiss Alps. It was never closed to ships of the Dutch."


def passage(name: str, text: str, title: str = "") -> Passage:
    return Passage(id=name, document_id=name, title=title, text=text, start=0, end=len(text))


PASSAGES = [passage("rhine", RHINE, "Rhine"), passage("danube", DANUBE, "Danube")]


def verify(answer: str, question: str = "", passages=PASSAGES) -> tuple[Statement, ...]:
    return asyncio.run(LexicalVerifier().verify(question, answer, passages))


def supported(answer: str, question: str = "", passages=PASSAGES) -> bool:
    (statement,) = verify(answer, question, passages)
    return statement.supported


def test_a_sentence_is_supported_where_it_stands() -> None:
    (statement,) = verify("The Danube flows through Vienna and Budapest.")
    best = statement.evidence[0]
    assert statement.supported
    assert best.passage == "danube"
    assert DANUBE[best.start : best.end].startswith("It flows east")  # the title says what "it" is


def test_every_sentence_is_a_statement_of_its_own() -> None:
    answer = "The Danube begins in the Black Forest. It flows through Paris and Rome."
    first, second = verify(answer)
    assert (first.supported, second.supported) == (True, False)
    assert answer[first.start : first.end] == "The Danube begins in the Black Forest."
    assert second.evidence == ()
    found = with_evidence(Answer(text=answer), (first, second))
    assert found.groundedness == 0.5
    assert found.unsupported == ("It flows through Paris and Rome.",)


@pytest.mark.parametrize(
    ("answer", "true"),
    [
        ("A treaty opened the Danube to ships in 1856.", True),
        ("A treaty opened the Danube to ships in 1865.", False),
        ("A treaty opened the Danube to ships in 1,856.", True),  # the same number
        ("The Danube begins in the Swiss Alps.", False),
        ("The Danube does not begin in the Black Forest.", False),
        ("The Rhine was closed to ships of the Dutch.", False),
        ("The Rhine was never closed to Dutch ships.", True),
        ("2 small streams join in the Black Forest.", True),
        ("The Volga flows through Vienna, Budapest and Belgrade.", False),
    ],
)
def test_names_numbers_and_negations_decide(answer: str, true: bool) -> None:
    assert supported(answer) is true


@pytest.mark.parametrize(
    ("question", "answer", "true"),
    [
        ("Where does the Danube begin?", "the Black Forest", True),
        ("Where does the Danube begin?", "The Black Forest.", True),
        ("Where does the Danube begin?", "In Paris", False),
        ("When was the river opened to ships?", "1856", True),
        ("When was the river opened to ships?", "1956", False),
        # It stands in the documents, far from everything that was asked.
        ("Which metal is mined at Potosi by convicts?", "the Black Forest", False),
        ("Does the Danube begin in the Black Forest?", "Yes.", True),
        ("Does the Danube begin in the Black Forest?", "No.", False),
    ],
)
def test_a_short_answer_is_read_with_its_question(question: str, answer: str, true: bool) -> None:
    assert supported(answer, question) is true


def test_two_neighbouring_sentences_can_be_needed() -> None:
    text = "Junko Tabei founded a climbing club. In 1975 she reached the summit of Everest."
    (statement,) = verify("Junko Tabei reached Everest in 1975.", "", [passage("p", text)])
    assert [text[e.start : e.end] for e in statement.evidence] in ([text], [])
    best = evidence_for("Junko Tabei reached Everest in 1975.", "", [passage("p", text)])[0]
    assert (best.start, best.end) == (0, len(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "?!",
        "...",
        "Where does the Danube begin?",
        "I do not know.",
        "I don't know the answer.",
        "The documents do not mention it.",
        "Unknown.",
    ],
)
def test_what_states_nothing_is_no_statement(text: str) -> None:
    assert verify(text) == ()
    assert groundedness(verify(text)) is None


def test_nothing_is_supported_by_nothing() -> None:
    assert not supported("The Danube is long.", passages=[])
    assert not supported("The Danube is long.", passages=[passage("empty", " \n")])


def test_of_equal_passages_the_first_comes_first() -> None:
    twins = [passage("b", RHINE), passage("a", RHINE)]
    (statement,) = verify("The Rhine rises in the Swiss Alps.", passages=twins)
    assert [e.passage for e in statement.evidence] == ["b", "a"]


def test_the_default_meets_the_protocol() -> None:
    assert isinstance(LexicalVerifier(), Verifier)
    assert LexicalVerifier(0.5).fingerprint != LexicalVerifier(0.6).fingerprint


letters = st.text(string.ascii_letters + string.digits + " .?!,'\u2019-\n\u8c01[]%", max_size=120)


@given(letters, letters, st.lists(letters, max_size=3), st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_records_always_fit_their_texts(answer, question, texts, threshold) -> None:
    passages = [passage(str(n), text) for n, text in enumerate(texts)]
    found = asyncio.run(LexicalVerifier(threshold).verify(question, answer, passages))
    assert [(s.start, s.end) for s in found] == statements_in(answer)
    assert found == asyncio.run(LexicalVerifier(threshold).verify(question, answer, passages))
    by_id = {p.id: p for p in passages}
    end = 0
    for statement in found:
        assert end <= statement.start < statement.end <= len(answer)
        end = statement.end
        assert statement.supported == bool(statement.evidence)
        scores = [e.score for e in statement.evidence]
        assert scores == sorted(scores, reverse=True)
        assert all(threshold <= score <= 1.0 for score in scores)
        for evidence in statement.evidence:
            assert 0 <= evidence.start < evidence.end <= len(by_id[evidence.passage].text)


words = st.sampled_from(
    ["Vienna", "river", "ships", "treaty", "forest", "stream", "joined", "opened", "1856", "Alps"]
)


@given(st.lists(words, min_size=3, max_size=9).map(" ".join), st.lists(letters, max_size=2))
def test_what_a_passage_says_is_supported_whatever_stands_beside_it(said, others) -> None:
    text = f"The {said}."
    passages = [passage(str(n), other) for n, other in enumerate(others)]
    (statement,) = asyncio.run(LexicalVerifier().verify("", text, [*passages, passage("x", text)]))
    assert statement.supported
    assert any(e.passage == "x" for e in statement.evidence)


@given(st.lists(words, min_size=3, max_size=9).map(" ".join))
def test_the_order_of_the_passages_does_not_decide(said) -> None:
    text = f"The {said}."
    forward = {e.passage: e for e in evidence_for(text, "", PASSAGES)}
    assert forward == {e.passage: e for e in evidence_for(text, "", PASSAGES[::-1])}


def test_a_long_passage_takes_time_in_proportion() -> None:
    def seconds(sentences: int) -> float:
        long = " ".join(f"The Danube {n} flows east." for n in range(sentences))
        began = time.process_time()
        verify("The Danube 7 flows east.", passages=[passage("long", long)])
        return time.process_time() - began

    seconds(100)
    assert seconds(4_000) < 40 * max(0.05, seconds(400))


# Words


@pytest.mark.parametrize(
    "alike",
    [
        "founded founding founds",
        "begin begins began begun",
        "written write writes wrote",
        "become becomes became",
        "city cities",
        "stopped stopping stops stop",
        "used uses using use",
        "Fleming's Fleming",
        "two 2",
        "1,856 1856",
    ],
)
def test_forms_of_a_word_have_one_stem(alike: str) -> None:
    first, *others = alike.split()
    assert {stem(word) for word in others} == {stem(first)}


@pytest.mark.parametrize("pair", ["Austria Australia", "1856 1865", "interior internal", "in ink"])
def test_other_words_have_other_stems(pair: str) -> None:
    one, other = pair.split()
    assert stem(one) != stem(other)
    assert not same_root(stem(one), stem(other))


def test_roots_are_known_by_their_beginnings() -> None:
    assert same_root(stem("mesophilic"), stem("mesophiles"))


def test_what_is_negated_ends_with_the_clause() -> None:
    negated = [w.stem for w in content_of("It is not red, but green and blue.") if w.negated]
    assert negated == ["red"]
    assert not any(w.negated for w in content_of("It is not only red."))
    assert not any(w.negated for w in content_of("Symphony No. 5 is long."))
    assert has_negation("They weren\u2019t.") and not has_negation("They were.")


def test_names_are_told_by_their_letters() -> None:
    named = [w.stem for w in content_of("Famous were Anna and the NASA.") if w.name]
    assert named == ["anna", "nasa"]
    assert [w.name for w in content_of("Paris")] == [True]
    assert [w.name for w in content_of("Alexander Fleming")] == [True, True]


@given(st.text(max_size=80))
def test_any_text_has_words_or_none(text: str) -> None:
    assert all(word.stem for word in content_of(text))
