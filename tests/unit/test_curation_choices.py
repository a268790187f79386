"""Rows and pairs from several answers to one question."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import answer_segments
from reflectory.alignment import CellStatus
from reflectory.config import CurationConfig
from reflectory.models.engine.rendering import messages_of
from reflectory.training import curate
from reflectory.training.rows import assistant
from reflectory.types import (
    Answer,
    Examination,
    Failure,
    Feedback,
    Flag,
    Passage,
    Question,
    Response,
    Trajectory,
)
from reflectory.types.practice import Candidate, CandidateSet

PROMPTS = PromptSet.with_replacements()
PROMPTER = partial(answer_segments, PROMPTS)
ALPHA, BETA = (
    Passage(id=f"d#{n}", document_id="d", text=text, start=0, end=len(text))
    for n, text in enumerate(["The crater is old.", "It was made by a falling rock."])
)
INSTRUCTION = "What made the crater?"
WHICH = "Which rock?"


def trajectory(name="t", *, score=0.6, cell_score=0.6, failed_cell=False, **changes):
    grade = Feedback(score=score, reason="because", grader="rule")
    context = (ALPHA.id,)
    done = {
        "question": Question(text=WHICH),
        "answer": Answer(text="Some rock.", context=context, cited_by="overlap"),
        "feedback": Feedback(score=cell_score, reason="because", grader="rule"),
        "alignment": 0.5,
    }
    cell = Examination(
        level="basic",
        iteration=0,
        status=CellStatus.FAILED if failed_cell else CellStatus.DONE,
        failure=Failure(step="answer", kind="OutputError", message="?") if failed_cell else None,
        **({} if failed_cell else done),
    )
    return Trajectory(
        **{
            "id": name,
            "instruction": INSTRUCTION,
            "levels": ("basic",),
            "passages": {ALPHA.id: ALPHA},
            "responses": (
                Response(
                    iteration=0,
                    answer=Answer(text="I think a rock fell down there.", context=context),
                    grade=grade,
                ),
            ),
            "examinations": (cell,),
            "models": {"student": "small", "teacher": "small"},
            **changes,
        }
    )


def candidate(text, score=0.9, origin="sample", **changes):
    return Candidate(text=text, origin=origin, score=score, grader="rule", **changes)


def choice(*candidates, chosen=0, what="response", name="t", **changes):
    place = {} if what == "response" else {"level": "basic", "iteration": 0}
    return CandidateSet(
        trajectory=name,
        what=what,
        question=INSTRUCTION if what == "response" else WHICH,
        context=(ALPHA,),
        extra=(BETA,),
        candidates=candidates,
        chosen=chosen,
        **{**place, **changes},
    )


GOOD = candidate("A falling rock.", agreement=0.75, groundedness=1.0)


def run(*choices, trajectories=None, **settings):
    given = [trajectory()] if trajectories is None else trajectories
    return curate(given, CurationConfig(**settings), PROMPTER, candidates=choices)


def test_the_chosen_candidate_takes_the_place_of_what_the_loop_wrote():
    result = run(choice(GOOD, candidate("Water.", 0.1)))
    response, answer = result.rows
    assert response.completion == assistant("A falling rock.")
    asked = messages_of(answer_segments(PROMPTS, INSTRUCTION, [ALPHA], [BETA]))
    assert [m.model_dump() for m in response.prompt] == asked
    origin = response.provenance
    assert (origin.origin, origin.agreement, origin.groundedness) == ("sample", 0.75, 1.0)
    assert (origin.score, origin.baseline, origin.source) == (0.9, 0.6, "self")
    assert (origin.question, origin.passages) == (INSTRUCTION, (ALPHA.id, BETA.id))
    assert answer.completion == assistant("Some rock.")
    assert answer.provenance.origin is None
    assert result.counts.candidates.accepted == 1


def test_a_set_for_a_cell_replaces_that_cell_alone():
    result = run(choice(candidate("The iron one."), what="answer"))
    assert [r.completion[0].content for r in result.rows] == [
        "I think a rock fell down there.",
        "The iron one.",
    ]
    assert result.rows[1].provenance.level == "basic"


def test_a_set_can_answer_what_the_loop_could_not():
    broken = [trajectory(failed_cell=True, score=0.1)]
    result = run(choice(GOOD), choice(GOOD, what="answer"), trajectories=broken)
    assert [r.provenance.what for r in result.rows] == ["response", "answer"]


@pytest.mark.parametrize(
    ("made", "settings", "reason"),
    [
        (choice(GOOD, chosen=None), {}, "none_chosen"),
        (choice(GOOD, chosen=3), {}, "no_such_candidate"),
        (choice(candidate("A rock.", None)), {}, "ungraded"),
        (choice(candidate("A rock.").model_copy(update={"score": float("nan")})), {}, "ungraded"),
        (choice(candidate("A rock.", 0.4)), {}, "below_minimum_grade"),
        (choice(candidate("A rock.", 0.4), what="answer"), {}, "below_minimum_score"),
        (choice(GOOD, what="answer"), {"questions": False}, "questions_switched_off"),
        (choice(candidate("。、")), {}, "empty"),
        (choice(candidate(INSTRUCTION)), {}, "echo"),
        (choice(GOOD, name="another"), {}, "nothing_to_match"),
        (choice(GOOD, what="answer", iteration=3), {}, "nothing_to_match"),
    ],
)
def test_every_set_that_gives_no_row_has_its_reason(made, settings, reason):
    counts = run(made, **settings).counts
    assert counts.candidates.refused == {reason: 1}
    assert counts.candidates.accepted == 0


def test_a_question_for_which_none_is_good_enough_gives_no_row_at_all():
    result = run(choice(GOOD, chosen=None))
    assert [r.provenance.what for r in result.rows] == ["answer"]
    assert result.counts.responses.refused == {"none_chosen": 1}


def test_of_two_sets_for_one_question_the_first_counts():
    result = run(choice(GOOD), choice(candidate("Another rock."), candidate("No.", 0.1)))
    assert result.rows[0].completion == assistant("A falling rock.")
    assert result.counts.candidates.refused == {"same": 1}
    assert result.counts.candidate_pairs.refused == {"same": 1}


def test_unusable_trajectories_give_nothing_with_candidates_either():
    flagged = [trajectory(flags=(Flag.CONSTANT_JUDGE,))]
    counts = run(choice(GOOD, candidate("No.", 0.1)), trajectories=flagged).counts
    assert counts.candidates.refused == {"flag_constant_judge": 1}
    assert counts.candidate_pairs.refused == {"flag_constant_judge": 1}


def test_what_a_stronger_teacher_wrote_is_distilled_and_what_the_student_wrote_is_not():
    written = choice(candidate("A rock fell.", origin="teacher"))
    for teacher, source in (("small", "self"), ("large", "distilled")):
        models = {"student": "small", "teacher": teacher}
        (row, _) = run(written, trajectories=[trajectory(models=models)]).rows
        assert (row.provenance.origin, row.provenance.source) == ("teacher", source)


def test_pairs_prefer_what_the_student_said_itself_and_got_wrong():
    rivals = [
        candidate("Ice.", 0.0, "teacher"),
        candidate("Stone.", 0.6),
        candidate("It was a rock, I think.", 0.7),
        candidate("Water.", 0.2, "loop"),
        candidate("Lava.", 0.1),
    ]
    made = run(choice(GOOD, *rivals), pairs_per_question=9, minimum_margin=0.0)
    rejected = [p.rejected[0].content for p in made.preferences]
    assert rejected == ["Lava.", "Water.", "It was a rock, I think.", "Stone.", "Ice."]
    first = made.preferences[0]
    assert first.margin == pytest.approx(0.8)
    assert (first.provenance.score, first.provenance.baseline) == (0.9, 0.1)
    assert first.prompt == made.rows[0].prompt
    assert run(choice(GOOD, *rivals)).preferences == made.preferences[:1]
    assert run(choice(GOOD, *rivals), pairs_per_question=0).preferences == ()


def test_every_candidate_that_makes_no_pair_has_its_reason():
    rivals = [
        candidate("a falling ROCK", 0.1),
        candidate("Lava.", 0.1),
        candidate("lava", 0.1),
        candidate("Ice.", None),
        candidate("Snow.", 0.85),
        candidate(" ", 0.1),
        candidate("Better.", 0.95),
        candidate("Wind.", 0.2),
        candidate("Rain.", 0.3),
    ]
    counts = run(choice(GOOD, *rivals), pairs_per_question=2).counts.candidate_pairs
    assert counts.refused == {
        "same_text": 2,
        "ungraded": 1,
        "below_minimum_margin": 2,
        "empty": 1,
        "enough_pairs": 1,
    }
    assert (counts.seen, counts.accepted) == (9, 2)


words = st.sampled_from(["Rock.", "A rock fell.", "Lava.", "", INSTRUCTION, "Rain or snow."])
answers = st.lists(
    st.builds(
        candidate,
        words,
        st.one_of(st.none(), st.floats(0, 1)),
        st.sampled_from(["loop", "sample", "condensed", "teacher"]),
    ),
    max_size=4,
)
sets = st.lists(
    st.tuples(
        answers,
        st.one_of(st.none(), st.integers(0, 4)),
        st.sampled_from(["a", "b", "lost"]),
        st.sampled_from(["response", "answer"]),
    ),
    max_size=5,
)


@given(sets, st.integers(0, 3))
def test_no_candidate_disappears(drawn, pairs):
    choices = [choice(*made, chosen=c, name=name, what=what) for made, c, name, what in drawn]
    result = run(
        *choices, trajectories=[trajectory("a"), trajectory("b")], pairs_per_question=pairs
    )
    counts = result.counts
    for tally in counts.kinds.values():
        assert tally.seen == tally.accepted + sum(tally.refused.values())
    assert counts.candidates.seen == len(choices)
    assert counts.candidate_pairs.seen == sum(
        len(c.candidates) - (c.chosen is not None and c.chosen < len(c.candidates)) for c in choices
    )
    assert len(result.rows) == counts.responses.accepted + counts.answers.accepted
    assert len(result.preferences) == counts.pairs.accepted + counts.candidate_pairs.accepted
    assert all(r.provenance.score >= 0.5 for r in result.rows)
    assert all(p.margin >= 0.1 - 1e-9 for p in result.preferences)
