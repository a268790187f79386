"""Preference pairs of what responses were chosen over."""

from functools import partial
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import world_loop

from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import answer_segments
from reflectory.config import CurationConfig
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld
from reflectory.training import curate
from reflectory.training.counts import KINDS
from reflectory.training.curation.making import prompt_messages
from reflectory.types import Answer, Draft, Failure, Feedback, Flag, Passage, Response, Trajectory
from reflectory.types.practice import Candidate, CandidateSet

PROMPTER = partial(answer_segments, PromptSet.with_replacements())
ALPHA, BETA = (
    Passage(id=f"d#{n}", document_id="d", text=text, start=0, end=len(text))
    for n, text in enumerate(["A rock fell.", "It fell in 1908."])
)
ASKED = "What made the crater?"
FIRST, GOOD, BAD = "Nobody knows what it was.", "A falling rock made it.", "It is not there."


def response(iteration, text, score, drafts=(), *, context=(ALPHA, BETA), failure=None):
    return Response(
        iteration=iteration,
        answer=Answer(text=text, context=tuple(p.id for p in context), cited_by="overlap"),
        grade=None if score is None else Feedback(score=score, reason="so", grader="rule"),
        drafts=tuple(Draft(text=t, origin=o, score=s) for t, o, s in drafts),
        failure=failure,
    )


R0 = response(0, FIRST, 0.4, context=(ALPHA,))
CHOSEN = [(GOOD, "drawn", 0.8), (FIRST, "kept", 0.5), (BAD, "reflection", 0.2)]


def trajectory(*responses, **changes):
    return Trajectory(
        **{
            "id": "t",
            "instruction": ASKED,
            "levels": ("basic",),
            "passages": {p.id: p for p in (ALPHA, BETA)},
            "responses": responses or (R0, response(1, GOOD, 0.8, CHOSEN)),
            "models": {"student": "small", "teacher": "small"},
            **changes,
        }
    )


def made(*trajectories, candidates=(), **settings):
    config = CurationConfig(**{"draft_pairs": 9, **settings})
    return curate(trajectories, config, PROMPTER, candidates=candidates)


def of_drafts(curation):
    """Return the pairs of drafts: better and worse text, and the margin."""
    found = [
        (p.chosen[0].content, p.rejected[0].content, round(p.margin, 6))
        for p in curation.preferences
    ]
    return found[curation.counts.pairs.accepted :]


def test_the_response_is_preferred_over_every_draft_with_the_margin_of_their_grades():
    result = made(trajectory())
    assert of_drafts(result) == [(GOOD, BAD, 0.6)]
    # Over R_0 it is preferred already, as the best response.
    assert result.counts.draft_pairs.refused == {"repeated": 1}
    pair = result.preferences[1]
    assert pair.prompt == prompt_messages(PROMPTER, ASKED, (ALPHA, BETA))
    known = pair.provenance
    assert (known.iteration, known.score, known.baseline, known.grader) == (1, 0.8, 0.2, "rule")
    assert (known.what, known.origin, known.source) == ("response", "sample", "self")


def test_what_stayed_is_preferred_over_what_it_was_not_replaced_by():
    stayed = response(1, FIRST, 0.6, [(FIRST, "kept", 0.6), (BAD, "reflection", 0.3)])
    result = made(trajectory(response(0, FIRST, 0.6), stayed))
    assert of_drafts(result) == [(FIRST, BAD, 0.3)]
    assert result.counts.pairs.refused == {"first_is_best": 1}


def test_only_what_says_the_same_as_the_best_response_is_preferred():
    between = response(1, "Perhaps a rock.", 0.6, [("Perhaps a rock.", "drawn", 0.6), *CHOSEN[1:]])
    result = made(trajectory(R0, between, response(2, GOOD, 0.8, CHOSEN[:1])))
    assert of_drafts(result) == []
    assert result.counts.draft_pairs.refused == {"not_the_best": 2}


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        ((BAD, "drawn", None), "ungraded"),
        ((BAD, "drawn", 0.75), "below_minimum_margin"),
        ((BAD, "condensed", 0.95), "below_minimum_margin"),  # brevity or a gain decided
        ((GOOD.upper(), "drawn", 0.1), "same_text"),
        (("  ", "drawn", 0.1), "empty"),
    ],
)
def test_a_draft_that_teaches_nothing_is_refused_with_its_reason(draft, reason):
    result = made(trajectory(R0, response(1, GOOD, 0.8, [CHOSEN[0], draft])))
    assert of_drafts(result) == []
    assert result.counts.draft_pairs.refused == {reason: 1}


def test_a_best_response_that_is_not_good_enough_is_not_preferred():
    assert of_drafts(made(trajectory(), minimum_grade=0.9)) == []
    assert made(trajectory(), minimum_grade=0.9).counts.draft_pairs.refused == {
        "below_minimum_grade": 2
    }


def test_a_context_that_is_not_whole_gives_no_pair():
    result = made(trajectory(passages={ALPHA.id: ALPHA}))
    assert result.counts.draft_pairs.refused == {"missing_passage": 2}


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_pairs_than_wanted_are_made_the_farthest_first(most):
    drafts = [
        (GOOD, "reflection", 0.9),
        *((f"Wrong {n} of them.", "drawn", n / 10) for n in range(3, 0, -1)),
    ]
    result = made(trajectory(R0, response(1, GOOD, 0.9, drafts)), draft_pairs=most)
    expected = [(GOOD, f"Wrong {n} of them.", 0.9 - n / 10) for n in range(1, 4)]
    assert of_drafts(result) == [(a, b, round(m, 6)) for a, b, m in expected[:most]]
    assert result.counts.draft_pairs.refused == {"enough_pairs": 3 - most}


def test_candidates_that_were_gathered_decide():
    gathered = CandidateSet(
        trajectory="t",
        what="response",
        question=ASKED,
        context=(ALPHA,),
        candidates=(Candidate(text=BAD, origin="sample", score=0.9, grader="rule"),),
        chosen=0,
    )
    result = made(trajectory(), candidates=[gathered])
    assert of_drafts(result) == []
    assert result.counts.draft_pairs.refused == {"candidates_decide": 2}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flags": (Flag.CONSTANT_JUDGE,)}, "flag_constant_judge"),
        ({"error": Failure(step="loop", kind="E", message="?")}, "failed_trajectory"),
    ],
)
def test_what_may_not_be_used_is_counted(changes, reason):
    result = made(trajectory(**changes))
    assert result.preferences == ()
    assert result.counts.draft_pairs.refused == {reason: 2}


def test_where_nothing_was_chosen_nothing_is_counted():
    result = made(trajectory(R0, response(1, GOOD, 0.8)))
    assert result.counts.draft_pairs.seen == 0
    assert "draft_pairs" in KINDS and "draft_pairs" not in result.counts.kinds
    assert "draft_pairs" in made(trajectory()).counts.kinds


@given(
    scores=st.lists(st.none() | st.floats(0.0, 1.0), max_size=5),
    best=st.floats(0.0, 1.0),
    most=st.integers(0, 3),
)
def test_every_draft_is_counted_once_and_the_better_side_leads(scores, best, most):
    drafts = [(GOOD, "kept", best), *((f"Wrong {n}.", "drawn", s) for n, s in enumerate(scores))]
    result = made(trajectory(response(0, GOOD, best), response(1, GOOD, best, drafts)))
    limited = made(
        trajectory(response(0, GOOD, best), response(1, GOOD, best, drafts)), draft_pairs=most
    )
    for tally in (result.counts.draft_pairs, limited.counts.draft_pairs):
        assert tally.seen == len(scores) == tally.accepted + sum(tally.refused.values())
    pairs = of_drafts(result)
    assert of_drafts(limited) == pairs[:most]
    assert all(margin >= 0.1 - 1e-6 for _, _, margin in pairs)
    assert all(a[2] >= b[2] for a, b in pairwise(pairs))


def test_a_loop_gives_pairs_of_its_own_drafts():
    world = SyntheticWorld(skill=2.0, gain=-0.5, levels=2)

    async def speak(request):
        if request.role == "student.reflect" and request.sampling.temperature:
            return "I answer with skill 1.0"
        return (await world.student().complete(request)).text

    loop = world_loop(
        world,
        max_iterations=2,
        stop_rules=[],
        student=ScriptedModel(speak),
        revision={"accept": "better", "drafts": 2, "condense": "never", "temperature": 0.7},
    )
    result = made(loop.run("What is known?"))
    better, lower = (
        "I answer with skill 2.0",
        ("I answer with skill 1.0", "I answer with skill 1.5"),
    )
    assert of_drafts(result) == [(better, lower[0], 0.5), (better, lower[1], 0.25)]
    assert result.counts.draft_pairs.refused == {
        "repeated": 2
    }  # the second iteration says the same


@pytest.mark.parametrize("origin", get_args(Draft.model_fields["origin"].annotation))
def test_drafts_of_every_origin_can_be_preferred_over(origin):
    responses = (R0, response(1, GOOD, 0.8, [(GOOD, "reflection", 0.8), (BAD, origin, 0.2)]))
    curated = curate([trajectory(*responses)], CurationConfig(), PROMPTER)
    rejected = [pair.rejected[0].content for pair in curated.preferences]
    assert BAD in rejected
