"""Predicted calls against loops that are run and counted."""

import re
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import world_loop

from reflectory import ReflectiveLoop
from reflectory.config import LoopConfig
from reflectory.errors import ReflectoryError
from reflectory.models.protocol import Capability
from reflectory.planning import count_calls, grader_kind
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

WORLD = SyntheticWorld(levels=3)
GOOD, BAD = "Good enough.\nScore: 7", "I cannot say."
EVERYTHING = frozenset({Capability.SCORE, Capability.PREFILL})


def good_question(request):
    return f"What is needed in case {request.seed} of many?"


def loop_of(teacher, student, **config):
    return ReflectiveLoop(
        WORLD.documents(),
        teacher=teacher,
        student=student,
        embedder=ConstantEmbedder(),
        config=WORLD.config(**config),
        stop_rules=[],
    )


def different(request):
    """Say something new every time."""
    return f"Answer number {request.seed} of {request.role}"


def counted(*models):
    roles = Counter(r.role for model in models for r in (*model.requests, *model.score_requests))
    return {role: count for role, count in roles.items() if count}


def predicted(config, kind, case, **options):
    calls = count_calls(config, kind, case=case, **options)
    return {role: count for role, count in calls.by_role.items() if count}


@pytest.mark.parametrize("accept", ["better", "always"])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("drafts", ["auto", 3])
def test_a_teacher_that_speaks_well_takes_the_usual_calls(accept, iterations, drafts):
    teacher = ScriptedModel(
        lambda r: good_question(r) if r.role == "teacher.ask" else GOOD, name="t"
    )
    student = ScriptedModel(different, name="s")
    revision = {"accept": accept, "drafts": drafts}
    retrieval = {"per_question": 0}
    loop = loop_of(
        teacher, student, max_iterations=iterations, revision=revision, retrieval=retrieval
    )
    loop.run("What is known?")
    assert counted(teacher, student) == predicted(loop.config, "spoken", "usual")


@pytest.mark.parametrize("words", [1, 2, 12])
@pytest.mark.parametrize("question", ["Explain what is unknown.", "Which fact is known to few?"])
def test_a_teacher_that_shows_likelihoods_takes_the_usual_calls_or_a_few_for_names(
    monkeypatch, tmp_path_factory, words, question
):
    cache = tmp_path_factory.getbasetemp() / "calibrated"  # once for all cases
    monkeypatch.setenv("REFLECTORY_CACHE", str(cache))
    teacher = ScriptedModel(good_question, name="t", capabilities=EVERYTHING)
    student = ScriptedModel(lambda r: " ".join([f"Fact{r.seed}"] * words), name="s")
    with loop_of(teacher, student, max_iterations=2) as loop:
        loop.run("Explain it.")  # calibrates the grader
        for model in (teacher, student):
            model.requests.clear()
            model.score_requests.clear()
        loop.run(question)
    made = counted(teacher, student)
    usual = predicted(loop.config, "likelihood", "usual")
    grades, most = made.pop("teacher.grade"), predicted(loop.config, "likelihood", "most")
    assert usual.pop("teacher.grade") <= grades <= most["teacher.grade"]
    # No more is asked about passages than there are in the plan; few may be all there are.
    assert made.pop("teacher.relevance", 0) <= usual.pop("teacher.relevance")
    assert made == usual
    if words > 10 and question.startswith("Explain"):  # no name anywhere
        assert grades == predicted(loop.config, "likelihood", "usual")["teacher.grade"]


@pytest.mark.parametrize("accept", ["better", "always"])
@pytest.mark.parametrize(("iterations", "drafts", "attempts"), [(1, 1, 1), (2, 3, 2), (3, 2, 4)])
def test_a_teacher_that_fails_at_everything_takes_the_most_calls(
    accept, iterations, drafts, attempts
):
    """Its last try at a question is one; none of its verdicts has a score."""

    class Poor:
        """Asks rightly at the last try for each level and iteration."""

        def __init__(self):
            self.turns = Counter()

        def __call__(self, request):
            if request.role != "teacher.ask":
                return BAD
            level = re.search(r'level "(.*?)"', request.segments[-1].text)[1]
            self.turns[level] += 1
            return "no" if self.turns[level] % attempts else good_question(request)

    teacher, student = ScriptedModel(Poor(), name="t"), ScriptedModel(different, name="s")
    loop = loop_of(
        teacher,
        student,
        max_iterations=iterations,
        question_attempts=attempts,
        grade_attempts=attempts,
        revision={"accept": accept, "drafts": drafts},
    )
    loop.run("Explain what is known.")
    assert counted(teacher, student) == predicted(loop.config, "spoken", "most")


def test_a_users_function_grades_without_a_call():
    loop = world_loop(WORLD, max_iterations=2, stop_rules=[])
    teacher, student = loop.sources.teacher, loop.sources.student
    loop.run("What is known?")
    assert counted(teacher, student) == predicted(loop.config, "function", "usual")
    kind = grader_kind(loop.config, teacher_scores=True, own=True)
    assert kind == "function" and count_calls(loop.config, kind, case="most").grade == 0


@pytest.mark.parametrize(
    ("changes", "earliest"),
    [({"max_iterations": 1}, 1), ({"max_iterations": 5}, 2), ({"target": 0.5}, 1)],
)
def test_the_least_is_when_a_rule_can_stop_first(changes, earliest):
    config = WORLD.config(**changes)
    assert count_calls(config, "function", case="least").iterations == earliest
    loop = world_loop(SyntheticWorld(skill=9, gain=0, levels=3), **changes)
    trajectory = loop.run("What is known?")
    assert trajectory.stop.iterations == earliest
    made = counted(loop.sources.teacher, loop.sources.student)
    assert made == predicted(config, "function", "least")


@pytest.mark.parametrize(
    ("grader", "scores", "kind"),
    [
        ("auto", True, "likelihood"),
        ("auto", False, "spoken"),
        ("spoken", True, "spoken"),
        ("likelihood", True, "likelihood"),
    ],
)
def test_the_kind_of_grader_follows_configuration_and_teacher(grader, scores, kind):
    assert grader_kind(LoopConfig(grader=grader), teacher_scores=scores) == kind


@settings(max_examples=60, deadline=None)
@given(
    dice=st.randoms(use_true_random=False),
    iterations=st.integers(1, 3),
    levels=st.integers(1, 3),
    tries=st.integers(1, 3),
    drafts=st.sampled_from(["auto", 1, 3]),
    accept=st.sampled_from(["better", "always"]),
    condense=st.sampled_from(["auto", "always", "never"]),
    condensed=st.integers(1, 5),
    per_question=st.integers(0, 2),
    scores=st.booleans(),
    question=st.sampled_from(["Who knows the first fact?", "Explain it.", "Is it known?"]),
)
def test_no_loop_makes_more_calls_than_the_most(
    dice,
    iterations,
    levels,
    tries,
    drafts,
    accept,
    condense,
    condensed,
    per_question,
    scores,
    question,
):
    def teach(request):
        if request.role == "teacher.ask":
            return dice.choice(["no", "", good_question(request)])
        return dice.choice([BAD, "", "Fine.\nScore: 3", "Fine.\nScore: 9"])

    def learn(request):
        return dice.choice(["", "The first fact is known", "Everybody", different(request)])

    able = EVERYTHING if scores else frozenset()
    teacher = ScriptedModel(teach, name="t", capabilities=able)
    student = ScriptedModel(learn, name="s")
    world = SyntheticWorld(levels=levels)
    config = world.config(
        max_iterations=iterations,
        grader="spoken",
        question_attempts=tries,
        grade_attempts=tries,
        retrieval={"per_question": per_question, "passages": 1, "useful_score": 0.0},
        revision={
            "drafts": drafts,
            "accept": accept,
            "condense": condense,
            "condensed": condensed,
        },
    )
    loop = ReflectiveLoop(
        world.documents(),
        teacher=teacher,
        student=student,
        embedder=ConstantEmbedder(),
        config=config,
    )
    with suppress(ReflectoryError):  # without an R_0 there is no loop
        loop.run(question)
    most = count_calls(config, "spoken", case="most").by_role
    for role, count in counted(teacher, student).items():
        assert count <= most[role], role
