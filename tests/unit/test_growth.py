"""How a context grows: only at its end, within the budget, and by what was not known."""

from hypothesis import given
from hypothesis import strategies as st

from reflectory.alignment import CellStatus
from reflectory.graphs.growth import Branch, grow
from reflectory.retrieval.context import render_passages
from reflectory.types import (
    Answer,
    Examination,
    Feedback,
    Passage,
    PathStep,
    Question,
    ScoredPassage,
    Statement,
)

USEFUL = 0.5
PATH = (PathStep(kind="question", name="q"), PathStep(kind="passage", name="p", by="dense"))


def count(text: str) -> int:
    return len(text.split())


def passage(name: str) -> Passage:
    text = f"The words of {name} are {name} alone."
    return Passage(id=name, document_id=name, text=text, start=0, end=len(text))


def found(name: str, score: float = 0.7) -> ScoredPassage:
    return ScoredPassage(passage=passage(name), score=score, signals={"dense": score}, path=PATH)


def branch(
    level: str,
    score: float | None,
    extra: list[str],
    *,
    cited: tuple[str, ...] = (),
    grounded: bool = True,
    iteration: int = 2,
) -> Branch:
    feedback = None if score is None else Feedback(score=score, reason="", grader="g")
    statement = Statement(start=0, end=3, supported=grounded)
    cell = Examination(
        level=level,
        iteration=iteration,
        status=CellStatus.FAILED if score is None else CellStatus.DONE,
        question=Question(text=f"What is {level}?"),
        answer=Answer(text="So.", cited=cited, statements=(statement,)),
        feedback=feedback,
    )
    return Branch(cell, [found(name) for name in extra])


def grown(branches, context=("a",), budget=10_000):
    return grow(
        [passage(name) for name in context],
        branches,
        useful_score=USEFUL,
        token_budget=budget,
        count_tokens=count,
    )


def names(branches, **options) -> list[tuple[str, str, str]]:
    context, added = grown(branches, **options)
    assert [p.id for p in context[-len(added) :]] == [a.passage for a in added] or not added
    return [(a.passage, a.level, a.reason) for a in added]


def test_what_a_good_answer_cites_joins_and_is_recorded() -> None:
    context, (added,) = grown([branch("basic", 0.5, ["x", "y"], cited=("a", "y"))])
    assert [p.id for p in context] == ["a", "y"]
    assert (added.iteration, added.passage, added.level) == (3, "y", "basic")
    assert (added.question, added.reason) == ("What is basic?", "useful")
    assert (added.score, added.signals, added.path) == (0.7, {"dense": 0.7}, PATH)


def test_the_best_that_a_poorly_answered_question_found_joins() -> None:
    assert names([branch("basic", 0.4, ["x", "y"], cited=("y",))]) == [("x", "basic", "unknown")]


def test_so_does_that_of_a_good_answer_without_support() -> None:
    good = branch("basic", 0.9, ["x", "y"], cited=("y",), grounded=False)
    assert names([good]) == [("y", "basic", "useful"), ("x", "basic", "unknown")]


def test_the_useful_come_before_the_unknown_and_each_passage_comes_once() -> None:
    poor, good = branch("basic", 0.1, ["x"]), branch("expert", 0.9, ["y", "x"], cited=("y",))
    assert names([poor, good]) == [("y", "expert", "useful"), ("x", "basic", "unknown")]
    again = branch("expert", 0.9, ["x"], cited=("x",))
    assert names([poor, again]) == [("x", "expert", "useful")]


def test_a_good_supported_answer_that_cites_nothing_new_adds_nothing() -> None:
    assert names([branch("basic", 0.9, ["x"], cited=("a",))]) == []


def test_a_cell_without_a_grade_shows_nothing() -> None:
    assert names([branch("basic", None, ["x"], cited=("x",), grounded=False)]) == []
    failed = Examination(level="basic", iteration=0, status=CellStatus.FAILED)
    assert names([Branch(failed, [found("x")])]) == []


ids = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4)
branches = st.lists(
    st.builds(
        branch,
        st.sampled_from(["basic", "expert"]),
        st.none() | st.floats(0, 1),
        ids,
        cited=ids.map(tuple),
        grounded=st.booleans(),
    ),
    max_size=4,
)


@given(branches, ids, st.integers(0, 80))
def test_growth_keeps_its_promises(given_branches, start, budget) -> None:
    context, added = grown(given_branches, context=start, budget=budget)
    kept = [p.id for p in context]
    assert kept[: len(start)] == start  # append-only, also over the budget
    assert kept[len(start) :] == [a.passage for a in added]
    assert len(set(kept)) == len(kept)
    if added:
        assert count(render_passages(context)) <= budget
    reasons = [a.reason for a in added]
    assert reasons == sorted(reasons, reverse=True)  # useful before unknown
    poor = {
        b.cell.level
        for b in given_branches
        if b.cell.feedback is not None
        and (b.cell.feedback.score < USEFUL or b.cell.answer.unsupported)
    }
    assert {a.level for a in added if a.reason == "unknown"} <= poor
    offered = {s.passage.id for b in given_branches for s in b.extra}
    assert {a.passage for a in added} <= offered
    assert len([a for a in added if a.reason == "unknown"]) <= len(given_branches)


@given(branches, ids)
def test_with_room_enough_every_poor_answer_brings_its_best(given_branches, start) -> None:
    context, _ = grown(given_branches, context=start)
    kept = {p.id for p in context}
    for cell, extra in given_branches:
        if cell.feedback is not None and extra and cell.feedback.score < USEFUL:
            assert extra[0].passage.id in kept


@given(branches, ids, st.integers(0, 80))
def test_growing_again_by_the_same_changes_nothing(given_branches, start, budget) -> None:
    once, _ = grown(given_branches, context=start, budget=budget)
    twice, added = grown(given_branches, context=[p.id for p in once], budget=budget)
    assert [p.id for p in twice] == [p.id for p in once]
    assert added == []
