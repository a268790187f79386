"""How the context of a loop grows, and what the teacher is told that it does not support."""

import itertools

import pytest
from worlds import world_loop

from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Document, Trajectory


def test_useful_passages_are_appended_to_the_context_and_never_reordered():
    world = SyntheticWorld(levels=2)
    trajectory = world_loop(
        world, max_iterations=3, epsilon=1e-9, retrieval={"passages": 1, "per_question": 1}
    ).run("Go on, what then?")
    contexts = [r.answer.context for r in trajectory.responses]
    for before, after in itertools.pairwise(contexts):
        assert after[: len(before)] == before
    assert {i for c in contexts for i in c} <= set(trajectory.passages)


FACTS = {
    "rivers": "The Danube begins in the Black Forest.",
    "bridges": "The Forth Bridge was opened in 1890.",
    "metals": "Selenium was found by Berzelius in 1817.",
}


def facts_loop(grade, said="Selenium was found by Berzelius.", **options):
    """Return a loop whose context begins with one fact and whose question is about another."""
    documents = [Document(id=name, title=name, text=text) for name, text in FACTS.items()]

    async def teacher(request):
        return f"Who was it that found selenium {request.seed}?"

    async def student(request):
        return said if request.role == "student.answer" else "In the Black Forest. It is on Mars."

    return world_loop(
        SyntheticWorld(levels=1),
        documents=documents,
        embedder=HashingEmbedder(),
        teacher=ScriptedModel(teacher),
        student=ScriptedModel(student),
        grader=lambda task: grade,
        max_iterations=2,
        epsilon=1e-9,
        retrieval={"passages": 1, **options},
    )


@pytest.mark.parametrize(
    ("grade", "said", "reason"),
    [
        (0.9, "Selenium was found by Berzelius.", "useful"),
        (0.1, "Selenium was found by Berzelius.", "unknown"),
        (0.9, "It was a queen of Spain.", "unknown"),
        (0.1, "It was a queen of Spain.", "unknown"),
    ],
)
def test_the_context_grows_by_what_was_useful_and_by_what_was_not_known(grade, said, reason):
    trajectory = facts_loop(grade, said).run("Where does the Danube begin?")
    first, second, third = (r.answer.context for r in trajectory.responses)
    assert len(first) == 1 and first[0].startswith("rivers")
    assert second[:1] == first and second[1].startswith("metals")
    assert third == second
    (added,) = trajectory.additions
    assert (added.iteration, added.passage, added.reason) == (1, second[1], reason)
    assert added.level == "level 1" and added.score > 0
    assert added.question == trajectory.examinations[0].question.text
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


@pytest.mark.parametrize("accept", ["always", "better"])
def test_the_teacher_is_shown_what_the_response_and_the_answers_cannot_support(accept):
    judged = []
    teacher = ScriptedModel(lambda request: f"Who was it that found selenium {request.seed}?")
    loop = world_loop(
        SyntheticWorld(levels=1),
        documents=[Document(id=n, title=n, text=t) for n, t in FACTS.items()],
        embedder=HashingEmbedder(),
        teacher=teacher,
        student=ScriptedModel(lambda r: "The Danube begins in the Black Forest. It is on Mars."),
        grader=lambda task: judged.append(task) or 0.5,
        max_iterations=1,
        revision={"accept": accept, "condense": "never"},
    )
    trajectory = loop.run("Where does the Danube begin?")
    assert [r.answer.groundedness for r in trajectory.responses] == [0.5, 0.5]
    asked = teacher.requests[0].segments[-1].text
    assert 'Not found in the documents: "It is on Mars."' in asked
    assert {task.unsupported for task in judged} == {("It is on Mars.",)}
    # R_0 and one answer; R_1 says the same as R_0 and needs no grade unless it is a new one.
    assert len(judged) == (3 if accept == "always" else 2)
    assert trajectory.grades == [0.5, 0.5]
    evidence = trajectory.responses[0].answer.statements[0].evidence[0]
    passage = trajectory.passages[evidence.passage]
    assert passage.text[evidence.start : evidence.end] == FACTS["rivers"]
