"""Judges of pairs: which of them look at the order in which answers are shown."""

import asyncio

from judging import ORACLE, trial

from reflectory.errors import OutputError
from reflectory.evaluation.judge.position import Pair, position_of
from reflectory.evaluation.metrics.preference import PairJudge


class Pairs:
    """A judge of pairs by a function of both texts, in their order."""

    fingerprint = "pairs"

    def __init__(self, function, *, ordered=True):
        self._function = function
        self.ordered = ordered

    async def choose(self, question, first, second, context):
        said = self._function(first, second)
        if said is None:
            raise OutputError("no verdict", raw="?")
        return said


def test_a_judge_that_looks_at_the_order_is_caught():
    report = trial(ORACLE, pairwise=Pairs(lambda first, second: "first"))
    assert report.position == report.position_first == 1.0
    assert report.verdicts == (
        "It looks at the order: 100% of its preferences change when the answers are swapped, "
        "mostly for the one shown first.",
    )
    last = trial(ORACLE, pairwise=Pairs(lambda first, second: "second"))
    assert last.position_first == 0.0 and "shown last" in last.verdicts[0]


def test_a_judge_that_looks_at_the_answers_is_not():
    by_text = Pairs(lambda first, second: "first" if first > second else "second")
    assert isinstance(by_text, PairJudge)
    report = trial(ORACLE, pairwise=by_text)
    assert report.position == 0.0 and report.position_first is None
    assert report.verdicts == ()
    assert trial(ORACLE, pairwise=Pairs(lambda *_: "tie")).position == 0.0


def test_pairs_that_cannot_be_read_are_no_preferences():
    pairs = [Pair("Q", "a", "b", ()), Pair("Q", "a", "c", ())]
    found = asyncio.run(position_of(Pairs(lambda *two: None if "c" in two else "first"), pairs))
    assert (found.pairs, found.unreadable, found.changed, found.first) == (1, 1, 1.0, 1.0)
    nothing = asyncio.run(position_of(Pairs(lambda *_: None), pairs))
    assert nothing.changed is None and nothing.first is None


def test_a_judge_for_which_order_cannot_matter_has_no_position():
    report = trial(ORACLE, pairwise=Pairs(lambda *_: "first", ordered=False))
    assert report.position is None and report.verdicts == ()
    half = Pairs(lambda first, second: None if second.startswith("A") else "first")
    assert any("could not be read" in note for note in trial(ORACLE, pairwise=half).notes)


def test_a_tie_in_one_order_only_is_a_change():
    judge = Pairs(lambda first, second: "first" if first == "a" else "tie")
    found = asyncio.run(position_of(judge, [Pair("Q", "a", "b", ())]))
    assert found.changed == 1.0 and found.first == 1.0
