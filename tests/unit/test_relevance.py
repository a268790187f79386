"""Which passages a question is about, and how whole numbers follow from it."""

import asyncio
import math

import pytest
from grading import CONTEXT, EXTRA, PROMPTS, scoring
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents import Teacher
from reflectory.agents.graders import FunctionGrader
from reflectory.agents.relevance import Relevance, allotted
from reflectory.agents.student import context_segments
from reflectory.config import LoopConfig
from reflectory.testing.models import ScriptedModel

PASSAGES = (*CONTEXT, *EXTRA)
QUESTION = "Who saw the mould in London?"


def of(likelihood, passages=PASSAGES):
    model = scoring(likelihood)
    return asyncio.run(Relevance(model, PROMPTS).shares(QUESTION, passages)), model


def test_a_passage_that_makes_the_question_likelier_is_more_relevant():
    def about_the_mould(request, text):
        return -1.0 if "mould" in request.segments[1].text else -3.0

    shares, model = of(about_the_mould)
    assert shares == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])
    # The question is what is scored, behind one passage, and nothing tells what it is.
    for request, passage in zip(model.score_requests, PASSAGES, strict=True):
        assert request.continuations == (QUESTION,) and request.role == "teacher.relevance"
        assert request.segments[:-1] == context_segments(PROMPTS, [passage])
        assert request.segments[-1].text == PROMPTS.texts["teacher.relevance"]


def test_a_passage_is_asked_about_once_for_a_question(monkeypatch):
    model = scoring(lambda request, text: -1.0)
    known = Relevance(model, PROMPTS)

    def asked(question, passages):
        before = len(model.score_requests)
        shares = asyncio.run(known.shares(question, passages))
        assert shares == pytest.approx([1 / len(passages)] * len(passages))
        return len(model.score_requests) - before

    assert asked(QUESTION, PASSAGES) == 2
    more = PASSAGES[0].model_copy(update={"id": "more", "text": "It grew in a dish."})
    assert asked(QUESTION, (*PASSAGES, more)) == 1
    assert asked("Who else?", PASSAGES) == 2
    monkeypatch.setattr("reflectory.agents.relevance.REMEMBERED", 5)  # the oldest goes
    assert asked("And then?", PASSAGES) == 2
    assert asked(QUESTION, PASSAGES) == 2


@pytest.mark.parametrize("passages", [(), PASSAGES[:1]])
def test_of_one_passage_nothing_is_asked(passages):
    shares, model = of(None, passages)
    assert shares == [1.0] * len(passages) and not model.score_requests


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_a_question_that_is_impossible_everywhere_is_about_every_passage(value):
    shares, _ = of(lambda request, text: value)
    assert shares == [0.5, 0.5]


@pytest.mark.parametrize("first", [-math.inf, math.nan])
def test_a_passage_with_which_it_is_impossible_is_not_asked_about(first):
    shares, _ = of(lambda request, text: -1.0 if "mould" in request.segments[1].text else first)
    assert sorted(shares) == [0.0, 1.0]


def test_a_teacher_without_likelihoods_prefers_no_passage():
    grader = FunctionGrader(lambda task: 0.5)
    teacher = Teacher(ScriptedModel({}), grader, PROMPTS, LoopConfig())
    assert asyncio.run(teacher.relevance(QUESTION, PASSAGES)) == [0.5, 0.5]
    able = Teacher(scoring(lambda request, text: -1.0), grader, PROMPTS, LoopConfig())
    assert asyncio.run(able.relevance(QUESTION, PASSAGES)) == [0.5, 0.5]
    assert able.model.score_requests


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(0, 50))
def test_numbers_follow_shares_and_none_is_lost(weights, count):
    total = math.fsum(weights)
    shares = [w / total for w in weights] if total > 1e-9 else [1 / len(weights)] * len(weights)
    numbers = allotted(shares, count)
    assert sum(numbers) == count
    for share, number in zip(shares, numbers, strict=True):
        assert abs(number - share * count) < 1 + 1e-6


def test_the_first_of_equals_gets_more():
    assert allotted([0.5, 0.5], 5) == [3, 2]
    assert allotted([0.25] * 4, 2) == [1, 1, 0, 0]
    assert allotted([0.9, 0.1], 10) == [9, 1]
