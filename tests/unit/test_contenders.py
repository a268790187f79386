"""Contenders by themselves: what is counted, how samples are chosen, what variants change."""

import asyncio

import pytest
from contending import config, judge, model, rows, speak

from reflectory.assembly import Sources, assemble
from reflectory.background import BACKGROUND
from reflectory.contenders import sampling
from reflectory.contenders.condensing import BestOfNApart, BestOfNCondensed
from reflectory.contenders.looping import VARIANTS, Loop
from reflectory.contenders.meter import Meter, MeteredModel
from reflectory.contenders.protocol import Budget, Contender
from reflectory.contenders.registry import CONTENDERS, contenders_named
from reflectory.contenders.sampling import BestOfN, SelfConsistency
from reflectory.errors import UserError
from reflectory.evaluation.sets import read_sets
from reflectory.evaluator.arena import Arena, NoDocuments
from reflectory.models.protocol import Capability, Completion, Request, ScoreRequest, Segment
from reflectory.runs.cached_model import CachedModel
from reflectory.runs.call_cache import CallCache
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.types import Feedback

REQUEST = Request(segments=(Segment(text="one two three"),), role="test")


def attempts_of(
    contender, tmp_path, *, budget, student=None, settings=None, grader=judge, questions=None
):
    """Return what a contender attempts at the first question, and the student's requests."""
    settings = settings or config()
    student = student or model()

    async def work():
        sources = Sources(
            NoDocuments(),
            teacher=student,
            student=student,
            embedder=HashingEmbedder(),
            grader=grader,
        )
        parts = await assemble(sources, settings.loop)
        cache = CallCache(tmp_path / "calls.sqlite")
        arena = Arena(parts, cache, settings.evaluation)
        (item,) = await arena.items(read_sets(questions or rows(1)).questions)
        found = [a async for a in contender.attempts(arena.task(item, budget, lambda t: None))]
        cache.close()
        return found

    return BACKGROUND.run(work()), student.requests


def saying(*drawn, first="Paris"):
    """Return a student whose samples say these things in turn."""
    turn = iter(drawn * 100)

    def say(request):
        return next(turn) if request.sampling.temperature > 0 else first

    return ScriptedModel(say)


def test_calls_and_tokens_are_counted_also_when_the_cache_answers(tmp_path):
    inner = ScriptedModel({"test": ["four five"]})
    cache = CallCache(tmp_path / "calls.sqlite")
    cached = CachedModel(inner, cache)

    async def twice():
        for meter in meters:
            await MeteredModel(cached, meter).complete(REQUEST)

    meters = [Meter(), Meter()]
    asyncio.run(twice())
    assert len(inner.requests) == 1
    assert [(m.calls, m.tokens) for m in meters] == [(1, 5), (1, 5)]


def test_a_backend_that_does_not_count_is_counted_for():
    class Silent(ScriptedModel):
        async def complete(self, request):
            return Completion(text="four five")

    inner = Silent({}, capabilities=frozenset({Capability.SCORE}))
    meter = Meter()
    metered = MeteredModel(inner, meter)
    asyncio.run(metered.complete(REQUEST))
    assert (meter.calls, meter.tokens) == (1, 5)
    score = ScoreRequest(segments=REQUEST.segments, continuations=("a b", "c"), role="test")
    asyncio.run(metered.score(score))
    assert (meter.calls, meter.tokens) == (2, 11)


def test_a_call_that_fails_costs_nothing():
    def fail(request):
        raise UserError("no")

    meter = Meter()
    with pytest.raises(UserError):
        asyncio.run(MeteredModel(ScriptedModel(fail), meter).complete(REQUEST))
    assert meter == Meter()


@pytest.mark.parametrize(
    ("budget", "used", "left"),
    [
        (Budget(calls=3), Meter(2, 999), True),
        (Budget(calls=3), Meter(3, 0), False),
        (Budget(calls=3, tokens=10), Meter(3, 9), True),
        (Budget(calls=3, tokens=10), Meter(2, 10), True),
        (Budget(calls=3, tokens=10), Meter(3, 10), False),
        (Budget(), Meter(10**6, 10**6), True),
    ],
)
def test_there_is_more_until_both_limits_are_reached(budget, used, left):
    assert budget.left(used) is left


def test_best_of_n_takes_the_best_grade_and_among_equals_the_first(tmp_path):
    grades = {"Paris": 0.3, "Oslo": 0.8, "Lima": 0.8, "Cairo": 0.1}
    student = saying("Cairo", "Oslo", "Lima")
    found, _ = attempts_of(
        BestOfN(),
        tmp_path,
        budget=Budget(calls=4),
        student=student,
        grader=lambda task: grades[task.answer],
    )
    assert [a.text for a in found] == ["Paris", "Paris", "Oslo", "Oslo"]
    assert [a.grade for a in found] == [0.3, 0.3, 0.8, 0.8]
    assert [a.calls for a in found] == [1, 2, 3, 4]


def test_self_consistency_takes_the_majority_and_among_equals_the_first(tmp_path):
    student = saying("Oslo", "the Oslo.", "Lima")
    found, _ = attempts_of(SelfConsistency(), tmp_path, budget=Budget(calls=4), student=student)
    assert [a.text for a in found] == ["Paris", "Paris", "Oslo", "Oslo"]


def test_self_consistency_of_free_texts_takes_the_one_in_the_middle(tmp_path):
    student = saying("a red big old house", "red big house", "red big boat")
    found, _ = attempts_of(
        SelfConsistency(), tmp_path, budget=Budget(calls=4), student=student, settings=None
    )
    assert found[-1].text == "red big house"


def test_samples_are_drawn_with_seeds_of_their_own_and_the_first_greedily(tmp_path):
    found, requests = attempts_of(SelfConsistency(), tmp_path, budget=Budget(calls=12))
    assert len(found) == 12
    assert [r.sampling.temperature for r in requests] == [0.0] + [0.7] * 11
    assert len({r.seed for r in requests[1:]}) == 11


def test_a_student_that_says_nothing_ends_and_is_paid_for(tmp_path):
    student = ScriptedModel(lambda request: "")
    found, requests = attempts_of(
        SelfConsistency(), tmp_path, budget=Budget(calls=1000), student=student
    )
    assert found == []
    assert sampling.MAX_EMPTY <= len(requests) <= sampling.MAX_EMPTY + sampling.WAVE


def test_an_answer_that_cannot_be_graded_is_never_the_best(tmp_path):
    def grade(task):
        return "no score" if task.answer == "Paris" else 0.0

    found, _ = attempts_of(
        BestOfN(), tmp_path, budget=Budget(calls=2), student=saying("Oslo"), grader=grade
    )
    assert [(a.text, a.grade) for a in found] == [("Paris", None), ("Oslo", 0.0)]


LONG = "I believe that it hangs in Rome now"


def condensing(tmp_path, grades, *, drawn=("Oslo",), calls=1, questions=None, **revision):
    """Return what best of N with short stretches attempts, and every answer that was graded."""
    settings = config()
    changed = settings.loop.revision.model_copy(update={"agreement": 0.0} | revision)
    loop = settings.loop.model_copy(update={"revision": changed})
    read = []

    def grade(task):
        read.append(task.answer)
        return grades.get(task.answer, 0.0)

    found, _ = attempts_of(
        BestOfNCondensed(),
        tmp_path,
        budget=Budget(calls=calls),
        student=saying(*drawn, first=LONG),
        settings=settings.model_copy(update={"loop": loop}),
        grader=grade,
        questions=questions,
    )
    return [(a.text, a.grade) for a in found], read


def test_a_short_stretch_of_a_sample_may_be_the_best(tmp_path):
    found, read = condensing(tmp_path, {LONG: 0.5, "Rome": 0.6})
    assert found == [("Rome", 0.6)]
    assert read[0] == LONG and "Rome" in read
    # Stretches are those that the documents hold.
    assert all(form in "The bell number 0 hangs in Rome." for form in read[1:])


def test_few_words_count_more_by_the_loops_own_preference(tmp_path):
    grades = {LONG: 0.8, "Rome": 0.6}
    assert condensing(tmp_path, grades, brevity=0.3)[0] == [("Rome", 0.6)]
    assert condensing(tmp_path, grades, brevity=0.1)[0] == [(LONG, 0.8)]
    # The preference chooses and is no part of the grade; among equals the first stays.
    assert condensing(tmp_path, {LONG: 0.6, "Rome": 0.6}, brevity=0.0)[0] == [(LONG, 0.6)]


def test_samples_and_their_stretches_compete_as_one_and_none_is_graded_twice(tmp_path):
    drawn = ("It hangs in Rome, I am sure", "Lima")
    grades = {LONG: 0.5, "Rome": 0.6, "Lima": 0.95}
    found, read = condensing(tmp_path, grades, drawn=drawn, calls=3)
    assert found == [("Rome", 0.6), ("Rome", 0.6), ("Lima", 0.95)]
    assert read.count("Rome") == 1
    assert {LONG, *drawn} <= set(read)
    # Few words that no document holds are no short answer.
    grades = {LONG: 0.5, "Rome": 0.6, "Lima": 0.85}
    assert condensing(tmp_path, grades, drawn=drawn, calls=3)[0][2] == ("Rome", 0.6)


def test_what_the_samples_agree_on_counts_more(tmp_path):
    drawn = ("The bell is in Rome", "Rome, I am sure")
    grades = {LONG: 0.2, "Rome": 0.5, "hangs": 0.6}
    assert condensing(tmp_path, grades, drawn=drawn, calls=3)[0][2] == ("hangs", 0.6)
    agreed, _ = condensing(tmp_path, grades, drawn=drawn, calls=3, agreement=0.5)
    assert agreed[2] == ("Rome", 0.5)  # all three samples say it


def test_behind_which_sample_the_question_is_likely_counts_as_in_the_loop(tmp_path):
    def graded(score, nats):
        return Feedback(score=score, reason="so", grader="g", signals={"channel": nats})

    grades = {LONG: 0.2, "Rome": graded(0.5, 4.0), "hangs": graded(0.6, 0.0)}
    assert condensing(tmp_path, grades, channel=0.02)[0] == [("hangs", 0.6)]
    assert condensing(tmp_path, grades, channel=0.05)[0] == [("Rome", 0.5)]


def test_no_more_stretches_are_graded_than_the_loop_considers(tmp_path):
    drawn = ("bronze", "It is the bell of Rome, cast from bronze")
    _, all_of_them = condensing(tmp_path, {}, drawn=drawn, calls=3)
    _, one = condensing(tmp_path, {}, drawn=drawn, calls=3, condensed=1)
    said = {LONG, *drawn}
    assert len([answer for answer in one if answer not in said]) == 1
    assert len([answer for answer in all_of_them if answer not in said]) > 1


def test_what_asks_for_an_explanation_has_no_stretches(tmp_path):
    (row,) = rows(1)
    why = [{**row, "question": "Why does the bell number 0 hang where it hangs?"}]
    found, read = condensing(
        tmp_path, {LONG: 0.5, "Rome": 0.9, "Oslo": 0.6}, calls=2, questions=why
    )
    # Nor do few words count more there.
    assert found == [(LONG, 0.5), ("Oslo", 0.6)]
    assert read == [LONG, "Oslo"]


def test_a_stretch_that_cannot_be_graded_is_never_the_best(tmp_path):
    assert condensing(tmp_path, {LONG: 0.5, "Rome": "no score"})[0] == [(LONG, 0.5)]
    assert condensing(tmp_path, {LONG: "no score", "Rome": 0.0})[0][0][1] == 0.0
    nothing = dict.fromkeys([LONG, "Rome", "hangs"], "no score")
    assert condensing(tmp_path, nothing)[0] == [(LONG, None)]


def test_condensing_a_student_that_says_nothing_ends(tmp_path):
    student = ScriptedModel(lambda request: "")
    found, _ = attempts_of(BestOfNCondensed(), tmp_path, budget=Budget(calls=1000), student=student)
    assert found == []


def test_a_wave_is_graded_at_once_with_its_stretches_and_paid_before_its_first(tmp_path):
    """Samples after the first come in one wave; another judge than a function is a call each."""
    drawn = ("It hangs in Rome, I am sure", "Lima", "bronze")
    found, read = condensing(tmp_path, {LONG: 0.5, "bronze": 0.6}, drawn=drawn, calls=4)
    # A stretch counts from the sample on that says it, though it was graded before.
    assert [text for text, _ in found] == [LONG, LONG, LONG, "bronze"]
    assert read.index("bronze") > read.index("Lima") > read.index(drawn[0])


def test_samples_of_single_passages_are_shared_out_by_relevance(tmp_path):
    told = [{"title": f"Bell {n}", "text": f"Bell {n} hangs in Rome."} for n in range(3)]
    found, requests = attempts_of(
        BestOfNApart(),
        tmp_path,
        budget=Budget(calls=7),
        student=saying(*"abcdef", first=LONG),
        questions=[{**rows(1)[0], "documents": told}],
    )
    assert len(found) == 7
    shown = ["".join(s.text for s in r.segments) for r in requests]
    held = [tuple(f"Bell {n} hangs" in text for n in range(3)) for text in shown]
    assert held[0] == (True, True, True)  # the answer of retrieval alone
    assert sorted(map(sum, held[1:])) == [1] * 6
    assert {row: held[1:].count(row) for row in held[1:]} == dict.fromkeys(held[1:4], 2)


def variant(name):
    return Loop(next(v for v in VARIANTS if v.name == name))


def test_without_reflection_the_revision_sees_nothing_of_the_examination(tmp_path):
    def reflections(name):
        _, requests = attempts_of(variant(name), tmp_path / name, budget=None)
        return [r.segments[-1].text for r in requests if r.role == "student.reflect"]

    for name in ("loop", "loop_no_reflection"):
        (tmp_path / name).mkdir()
    assert all("by draw" in text for text in reflections("loop"))
    blind = reflections("loop_no_reflection")
    assert blind and not any("by draw" in text or "Grade" in text for text in blind)


def test_one_level_asks_at_the_first_level_and_stops_when_the_budget_is_used_up(tmp_path):
    budget = Budget(calls=7, tokens=1)
    found, requests = attempts_of(variant("loop_one_level"), tmp_path, budget=budget)
    asked = [r for r in requests if r.role == "teacher.ask"]
    assert all('"basic"' in r.segments[-1].text for r in asked)
    assert [a.note for a in found] == ["R_0", "R_1", "R_2"]
    assert [a.calls for a in found] == [1, 4, 7]


def test_without_retrieval_no_question_brings_a_passage(tmp_path):
    settings = config()
    retrieval = settings.loop.retrieval.model_copy(update={"passages": 1})
    loop = settings.loop.model_copy(update={"retrieval": retrieval})
    settings = settings.model_copy(update={"loop": loop})

    def ask_aside(request):
        if request.role == "teacher.ask":
            return f"Which bronze are bells cast from, and do they ring at {request.seed}?"
        return speak(request)

    def longest(name):
        (tmp_path / name).mkdir()
        student = ScriptedModel(ask_aside)
        _, requests = attempts_of(
            variant(name), tmp_path / name, budget=None, settings=settings, student=student
        )
        return max(len(r.segments) for r in requests if r.role == "student.answer")

    assert longest("loop") > longest("loop_no_retrieval")


def test_names_are_looked_up_and_objects_checked():
    assert [c.name for c in contenders_named(CONTENDERS)] == list(CONTENDERS)
    assert all(isinstance(c, Contender) and c.description for c in contenders_named(CONTENDERS))
    with pytest.raises(UserError, match="is no contender"):
        contenders_named(["loop"], [speak])
    with pytest.raises(UserError, match="is no contender"):
        contenders_named([], [BestOfN])
    with pytest.raises(UserError, match="two contenders are called best_of_n"):
        contenders_named(["best_of_n"], [BestOfN()])
