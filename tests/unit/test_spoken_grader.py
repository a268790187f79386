"""The grader that asks for a verdict in words: what is a score, and what is a failure."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents import PromptSet
from reflectory.agents.graders import Grader, GradingTask, SpokenGrader
from reflectory.agents.graders.spoken import read_score
from reflectory.agents.student import context_segments
from reflectory.errors import OutputError
from reflectory.testing.models import ScriptedModel
from reflectory.types import Feedback, Passage

PROMPTS = PromptSet.with_replacements()
CONTEXT = (Passage(id="p1", document_id="d1", text="Fleming saw a mould.", start=0, end=20),)
EXTRA = (Passage(id="p2", document_id="d2", text="Florey made the drug.", start=0, end=21),)
TASK = GradingTask("Who saw it?", "Fleming {x}", "The name is right.", CONTEXT, EXTRA)


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        ("Score: 7", 0.7),
        ("score: 0", 0.0),
        ("SCORE: 10", 1.0),
        ("**Score:** 7/10", 0.7),
        ("**Score: 7**", 0.7),
        ("*Score*: 7", 0.7),
        ("# Score\n7", 0.7),
        ("Score = 7", 0.7),
        ("Score - 7", 0.7),
        ("Score 7.", 0.7),
        ("Score: [7]", 0.7),
        ("Score: 7 out of 10", 0.7),
        ("score 3 out of 5", 0.6),
        ("Score: 4 of 5", 0.8),
        ("Score: 45/100", 0.45),
        ("Score: 70%", 0.7),
        ("Score: 70 %", 0.7),
        ("Score: 8%", 0.08),
        ("Score: 7.5", 0.75),
        ("Score: 7.5/10.", 0.75),
        ("Score: 0.5/1", 0.5),
        ("I give it a score of 7.", 0.7),
        ("The score is 7.", 0.7),
        ("It is right.\nScore: 8", 0.8),
        ("It is right. Score: 8", 0.8),
        ("Score: 8\nIt is right, as in 1928.", 0.8),
        ("Score: 3. No, better.\nScore: 9", 0.9),
        ("The crater is 49,000 years old [2].\n\nScore: 6", 0.6),
        ("7", 0.7),
        ("**7**", 0.7),
        ("It is right.\n7\n", 0.7),
        ("- 7", 0.7),
        ("7/10", 0.7),
        ("I would say 3 out of 5.", 0.6),
        ("Half of it is there: 5/10", 0.5),
    ],
)
def test_scores_that_are_read(verdict: str, score: float) -> None:
    assert read_score(verdict) == pytest.approx(score)


@pytest.mark.parametrize(
    "verdict",
    [
        "",
        "It is right.",
        "Score:",
        "Score: seven",
        "Score: 11",
        "Score: 12/10",
        "Score: 101%",
        "Score: 6 out of 5",
        "Score: 7/0",
        "Score: -3",
        "Score: \u22123",
        "-3",
        # From 0 to 1, or from 0 to 10?
        "Score: 0.8",
        "0.8",
        "1928",
        # Numbers of the reason are no scores.
        "It was seen by 3 out of 5 witnesses. The answer is right.",
        "It happened on 30/6/1908.",
        "There were 3 of them.",
        "The underscore7 is no score.",
        # The last one counts, also when it is none.
        "Score: 7\nScore: 70",
    ],
)
def test_what_is_no_score(verdict: str) -> None:
    assert read_score(verdict) is None


@given(
    st.one_of(st.text(max_size=200), st.text(alphabet="score SCORE:/-.%0123456789\n*", max_size=40))
)
def test_whatever_is_read_lies_in_the_unit_interval(verdict: str) -> None:
    score = read_score(verdict)
    assert score is None or 0.0 <= score <= 1.0


@given(st.integers(0, 10), st.text(alphabet="abc ,.!\n", max_size=60))
def test_what_was_asked_for_is_always_read(score: int, reason: str) -> None:
    assert read_score(f"{reason}\nScore: {score}") == score / 10


def grade(verdicts: Sequence[str], **options: int) -> tuple[Feedback, ScriptedModel]:
    model = ScriptedModel({"teacher.grade": verdicts})
    return asyncio.run(SpokenGrader(model, PROMPTS, **options).grade(TASK)), model


def test_a_readable_verdict_is_taken_at_once() -> None:
    feedback, model = grade(["The documents say so.\nScore: 8"], max_tokens=77)
    assert feedback == Feedback(
        score=0.8,
        reason="The documents say so.",
        grader="spoken:scripted",
        raw="The documents say so.\nScore: 8",
    )
    (request,) = model.requests
    assert request.segments[:-1] == context_segments(PROMPTS, CONTEXT, EXTRA)
    for part in ("Who saw it?", "Fleming {x}", "The name is right."):
        assert part in request.segments[-1].text
    assert request.sampling.max_tokens == 77
    assert request.sampling.temperature == 0.0


def test_an_unreadable_verdict_is_asked_for_again() -> None:
    feedback, model = grade(["It is right.", "Surely.", "Score: 6"])
    assert feedback.score == 0.6
    assert feedback.reason == "It is right."
    assert feedback.raw == "It is right.\n---\nSurely.\n---\nScore: 6"
    first, *retries = model.requests
    assert first.sampling.temperature == 0.0
    assert len(retries) == 2
    assert all(r.sampling.temperature > 0 for r in retries)
    assert all(r.segments[:-1] == first.segments[:-1] for r in retries)
    assert all(r.segments[-1].text.startswith(first.segments[-1].text) for r in retries)
    assert all(r.segments[-1].text != first.segments[-1].text for r in retries)
    assert len({r.seed for r in model.requests}) == 3


def test_a_failure_is_no_score_and_keeps_every_verdict() -> None:
    model = ScriptedModel({"teacher.grade": ["Good.", "Score: 11", ""]})
    with pytest.raises(OutputError, match="no score in 3 verdicts") as caught:
        asyncio.run(SpokenGrader(model, PROMPTS, attempts=3).grade(TASK))
    assert caught.value.raw == "Good.\n---\nScore: 11\n---\n"
    assert caught.value.hint
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (["It is right.\n**Score:** 8"], "It is right."),
        (["It is right. Score: 8"], "It is right."),
        (["Score: 8\nIt is right."], "It is right."),
        (["**Score: 8/10**\n\nIt is right."], "It is right."),
        (["It is right, says [1].\n8"], "It is right, says [1].\n8"),
        (["Score: 11", "It is right.\nScore: 8"], "It is right."),
        (["Score: 8"], "The teacher gave no reason."),
        (["8"], "The teacher gave no reason."),
    ],
)
def test_the_reason_is_what_stands_beside_the_score(verdicts: list[str], reason: str) -> None:
    assert grade(verdicts)[0].reason == reason


def test_equal_tasks_give_equal_requests_and_other_seeds_other_draws() -> None:
    def requests(seed: int) -> list:
        return grade(["?", "?", "Score: 1"], seed=seed)[1].requests

    assert requests(3) == requests(3)
    assert [r.seed for r in requests(3)] != [r.seed for r in requests(4)]


def test_the_judge_is_shown_what_nothing_supports_and_nothing_else_changes() -> None:
    def asked(task: GradingTask) -> str:
        model = ScriptedModel({"teacher.grade": ["Score: 7"]})
        asyncio.run(SpokenGrader(model, PROMPTS).grade(task))
        return model.requests[0].segments[-1].text

    plain, marked = asked(TASK), asked(replace(TASK, unsupported=("Fleming {x}",)))
    note = "\nNot found in the documents: the whole answer"
    assert note not in plain
    assert marked.replace(note, "") == plain


def test_it_is_a_grader_named_after_its_model() -> None:
    grader = SpokenGrader(ScriptedModel({}, name="judge"), PROMPTS)
    assert isinstance(grader, Grader)
    assert grader.fingerprint == "spoken:judge"
