"""Judges that are known to be good or bad, and what the report says of each."""

import asyncio
import hashlib
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import ITEMS, ORACLE, Mumbling, NoisyOracle, trial, world

from reflectory.errors import BackendError, UserError
from reflectory.evaluation.judge import cases as kinds
from reflectory.evaluation.judge.concurrency import bounded
from reflectory.evaluation.judge.noise import MatrixFacts
from reflectory.evaluation.judge.records import GradedAnswer, JudgeReport
from reflectory.evaluation.judge.trial import try_judge
from reflectory.types import Evidence, Statement


def nonsense(task):
    """A score that is drawn from the words and means nothing."""
    digest = hashlib.sha256(f"{task.question}|{task.answer}".encode()).digest()
    return digest[0] / 255


def test_an_oracle_gets_no_verdict():
    report = trial(ORACLE)
    assert report.verdicts == ()
    assert report.headline == kinds.SAME_DOCUMENTS
    assert {s.kind for s in report.separations} == set(kinds.WRONG_KINDS) - {
        kinds.OPPOSITE,
        kinds.OTHER_OPTION,
    }
    assert all(s.area == s.low == s.within == 1.0 for s in report.separations)
    assert report.noise == report.wording_noise == report.calibration_error == 0.0
    assert report.padding == report.padding_wrong == 0.0
    assert report.epsilon is None and not report.collapsed and report.unreadable == 0
    assert report.most_common == pytest.approx(0.5) and report.distinct == 2


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_a_judge_that_always_answers_the_same_is_caught(score):
    report = trial(lambda task: score)
    assert report.collapsed and report.distinct == 1
    assert report.most_common == pytest.approx(1.0)
    assert (
        report.verdicts[0] == f"It says the same to everything: 100% of its scores are {score:.2f}."
    )
    assert report.verdicts[1].startswith("It cannot tell a right answer from another name")
    assert all(s.area == 0.5 for s in report.separations)


def test_a_judge_that_hardly_moves_is_caught():
    report = trial(lambda task: 0.5 + 0.01 * nonsense(task))
    assert report.collapsed
    assert "It says nearly the same to everything: its scores hardly differ." in report.verdicts


def test_a_judge_that_answers_nonsense_is_caught():
    report = trial(nonsense)
    assert not report.collapsed
    found = report.separation(kinds.SAME_DOCUMENTS)
    assert found.low < 0.5 < found.high
    assert report.verdicts[0].startswith("It cannot tell a right answer from another name")
    assert any("looks at the wording" in text for text in report.verdicts)
    assert report.noise == 0.0  # it says the same nonsense again, which is checked


def test_a_judge_that_draws_without_a_seed_contradicts_itself():
    draw = random.Random(0)
    report = trial(lambda task: draw.random())
    assert report.noise == report.repeat_noise == pytest.approx(12**-0.5, rel=0.2)
    assert any(text.startswith("It contradicts itself") for text in report.verdicts)


def test_unreadable_words_are_counted_and_are_no_scores():
    report = trial(Mumbling(ORACLE, share=0.3))
    assert 0.2 < report.unreadable / report.judgements < 0.4
    assert re.match(r"\d\d% of its judgements cannot be read\.", report.verdicts[0])
    assert len(report.verdicts) == 1
    assert all(s.area == 1.0 for s in report.separations)  # what can be read is right
    silent = [case for case in report.cases if case.score is None]
    assert silent and len(silent) < len(report.cases)


def test_a_judge_that_nobody_understands_has_a_report_all_the_same():
    report = trial(Mumbling(ORACLE, share=1.0))
    assert report.unreadable == report.judgements > 0
    assert report.verdicts == ("100% of its judgements cannot be read.",)
    assert report.separations == () and report.bins == () and report.calibration_error is None
    assert report.epsilon is None and report.padding is None and report.headline == ""
    assert JudgeReport.model_validate_json(report.model_dump_json()) == report


def test_a_judge_that_prefers_length_is_caught():
    report = trial(lambda task: min(1.0, len(task.answer) / 300))
    assert report.length.rho == pytest.approx(1.0)
    assert report.padding > 0.3 and report.padding_wrong > 0.3
    said = " ".join(report.verdicts)
    assert "It prefers long answers" in said
    assert "Words that say nothing raise its score for a right answer" in said
    assert "Words that say nothing raise its score for a wrong answer" in said
    assert "It prefers to a right answer: the question itself" in said


def test_a_judge_that_prefers_short_answers_is_caught_too():
    report = trial(lambda task: 1.0 / (1 + len(task.answer) / 10))
    said = " ".join(report.verdicts)
    assert report.length.rho == pytest.approx(-1.0)
    assert "It prefers short answers" in said
    assert "Words that say nothing lower its score for a right answer" in said


def test_a_judge_that_knows_the_truth_and_pays_for_padding_is_caught():
    report = trial(lambda task: min(1.0, 0.5 * ORACLE(task) + 0.2 * (len(task.answer) > 120)))
    assert report.padding == pytest.approx(0.2)
    assert report.length.rho is None
    assert [
        text for text in report.verdicts if "raise its score for a wrong answer by 0.20" in text
    ]


def test_a_judge_that_falls_for_echoes_is_caught():
    report = trial(lambda task: 1.0 if task.answer == task.question else ORACLE(task))
    assert report.separation(kinds.ECHO).area == 0.5
    assert report.separation(kinds.SAME_DOCUMENTS).area == 1.0
    assert len(report.verdicts) == 1 and "the question itself" in report.verdicts[0]


def test_a_judge_that_prefers_wrong_answers_is_caught():
    report = trial(lambda task: 1.0 - ORACLE(task))
    assert report.verdicts[0].startswith("It prefers to a right answer: another name")
    assert report.separation(kinds.OTHER_ROWS).area == 0.0


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_noise_is_measured_right(noise):
    report = trial(NoisyOracle(ITEMS, noise), again=lambda n: NoisyOracle(ITEMS, noise, n))
    # 60 answers, three scores each: 120 degrees of freedom, one standard error is 6.5%.
    assert report.noise == pytest.approx(noise, rel=0.2)
    assert report.repeat_noise == 0.0
    # Every text draws anew here, so wording shows the same noise.
    assert report.wording_noise == pytest.approx(noise, rel=0.3)
    assert report.epsilon > report.matrix_noise > report.noise
    assert not [text for text in report.verdicts if "contradicts" not in text]


def test_drawing_is_not_blamed_on_the_wording():
    report = trial(NoisyOracle(ITEMS, 0.15), again=lambda n: NoisyOracle(ITEMS, 0.15, n))
    assert report.wording_noise > 0.1
    assert [text for text in report.verdicts if "contradicts itself" in text]
    assert not [text for text in report.verdicts if "wording" in text]


def test_recommended_epsilon_grows_with_the_noise_and_falls_with_similarity():
    def epsilon(noise, similarity=1.0, levels=4):
        judge = NoisyOracle(ITEMS, noise)
        facts = MatrixFacts(levels=levels, similarities=(similarity,))
        report = trial(judge, again=lambda n: NoisyOracle(ITEMS, noise, n), matrix=facts)
        assert report.levels == levels and report.similarity == pytest.approx(similarity)
        return report.epsilon

    values = [epsilon(noise) for noise in (0.01, 0.03, 0.06, 0.1)]
    assert values == sorted(values) and values[0] < values[-1] / 5
    assert epsilon(0.06, similarity=0.5) == pytest.approx(values[2] / 2, rel=0.05)
    assert epsilon(0.06, levels=1) < values[2] < epsilon(0.06, levels=8)


def test_other_seeds_are_asked_for_by_number():
    asked = []

    def again(n):
        asked.append(n)
        return NoisyOracle(ITEMS, 0.05, n)

    trial(NoisyOracle(ITEMS, 0.05), again=again)
    assert asked == [1, 2]


def test_a_judge_that_notices_the_order_of_a_batch_does_not_repeat_itself():
    turn = iter(range(10**6))
    report = trial(lambda task: 0.2 + 0.6 * ORACLE(task) + 0.05 * (next(turn) % 2))
    assert report.repeat_noise > 0.01
    assert any("does not repeat itself" in text for text in report.verdicts)


def graded(score_of, count=60):
    random_ = random.Random(0)
    found = []
    for n in range(count):
        f1 = random_.random()
        values = {"f1": f1, "exact_match": float(f1 > 0.8)}
        score = score_of(f1, random_)
        found.append(GradedAnswer(id=f"q{n % 20}", score=score, values=values, right=f1 > 0.5))
    return found


def test_grades_that_follow_f1_are_seen_to():
    report = trial(ORACLE, graded=graded(lambda f1, r: f1))
    found = {c.of: c for c in report.agreement}
    assert found["G and f1"].rho == pytest.approx(1.0) and found["G and f1"].low > 0.9
    assert found["G and f1 within questions"].rho == pytest.approx(1.0)
    assert found["G and exact_match"].rho > 0.4
    assert report.calibrated_on == "answers"
    assert not [text for text in report.verdicts if "follow" in text]


def test_grades_that_follow_nothing_get_a_verdict():
    report = trial(ORACLE, graded=graded(lambda f1, r: r.random()))
    assert any("not shown to follow f1 (rank" in text for text in report.verdicts)
    upside_down = trial(ORACLE, graded=graded(lambda f1, r: 1.0 - f1))
    assert any("not shown to follow f1 (rank" in text for text in upside_down.verdicts)


def test_calibration_against_real_answers():
    honest = trial(ORACLE, graded=graded(lambda f1, r: float(f1 > 0.5)))
    assert honest.calibration_error == 0.0
    boastful = trial(ORACLE, graded=graded(lambda f1, r: 0.9 + 0.1 * f1))
    assert boastful.calibration_error > 0.3
    assert sum(b.count for b in boastful.bins) == 60
    assert any("are no probabilities" in text for text in boastful.verdicts)


def test_few_questions_are_said_and_give_no_verdict_on_a_kind():
    report = trial(lambda task: 0.1 + 0.1 * nonsense(task), ITEMS[:3])
    assert any("3 questions are few" in note for note in report.notes)
    assert not [text for text in report.verdicts if "cannot tell" in text]
    alone = trial(ORACLE, ITEMS[:1])
    assert alone.separation(kinds.OTHER_ROWS) is None
    assert alone.separation(kinds.SAME_DOCUMENTS).area == 1.0


def test_closed_questions_stand_beside_the_others():
    closed = [
        item.model_copy(update={"id": f"c{n}", "references": ("yes" if n % 2 else "no",)})
        for n, item in enumerate(world(12, seed=5))
    ]
    items = [*ITEMS, *closed]
    report = trial(lambda task: float(task.answer.lower().startswith("yes")), items)
    found = report.separation(kinds.OPPOSITE)
    assert (found.right, found.wrong, found.area) == (12, 12, 0.5)
    assert report.separation(kinds.SAME_DOCUMENTS).right == len(ITEMS)


def test_without_context_there_are_cases_all_the_same():
    bare = [item.model_copy(update={"context": ()}) for item in ITEMS]
    report = trial(ORACLE, bare)
    assert report.headline == kinds.OTHER_ROWS
    assert report.separation(kinds.SAME_DOCUMENTS) is None
    assert report.verdicts == ()


def test_the_judge_sees_documents_and_unsupported_statements_and_no_reference():
    seen = []

    class Verbatim:
        fingerprint = "verbatim"

        async def verify(self, question, answer, passages):
            held = any(answer in p.text for p in passages)
            evidence = (Evidence(passage="p", start=0, end=1, score=1.0),) if held else ()
            return (Statement(start=0, end=len(answer), supported=held, evidence=evidence),)

    trial(lambda task: seen.append(task) or 0.5, verifier=Verbatim(), rubric="Be strict.")
    by_question = {item.question: item for item in ITEMS}
    for task in seen:
        assert task.context == by_question[task.question].context
        assert task.rubric == "Be strict."
        held = any(task.answer in p.text for p in task.context)
        assert task.unsupported == (() if held else (task.answer,))


def test_nothing_is_judged_twice_but_the_sample():
    seen = []
    report = trial(lambda task: seen.append((task.question, task.answer)) or 0.5)
    assert len(seen) == report.judgements
    assert len(seen) - len(set(seen)) == 60


def test_the_report_is_plain_json_and_always_the_same():
    first, second = trial(nonsense, seed=3), trial(nonsense, seed=3)
    assert first.model_dump_json() == second.model_dump_json()
    assert JudgeReport.model_validate_json(first.model_dump_json()) == first
    assert "NaN" not in first.model_dump_json()
    assert trial(nonsense, seed=4).cases != first.cases


def test_a_failing_backend_ends_the_trial_and_leaves_no_task_behind():
    class Down:
        fingerprint = "down"
        started = 0

        async def grade(self, task):
            self.started += 1
            if self.started == 3:
                raise BackendError("the server is gone", hint="start it")
            await asyncio.sleep(30)

    async def run():
        with pytest.raises(BackendError):
            await asyncio.wait_for(try_judge(Down(), ITEMS), 10)
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(run()) == []


def test_no_more_judgements_at_a_time_than_allowed():
    running, most = 0, 0

    async def call():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return most

    assert len(asyncio.run(bounded([call] * 20, 3))) == 20
    assert most == 3


@pytest.mark.parametrize("confidence", [0.0, 1.0, -3.0])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(UserError):
        trial(ORACLE, confidence=confidence)


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 9), st.randoms(use_true_random=False))
def test_any_scores_make_a_report(questions, random_):
    levels = [0.0, 0.25, 0.5, 1.0]
    report = trial(lambda task: random_.choice(levels), world(questions))
    assert JudgeReport.model_validate_json(report.model_dump_json()) == report
    for s in report.separations:
        assert 0.0 <= s.low <= s.high <= 1.0 and 0.0 <= s.area <= 1.0
    assert sum(b.count for b in report.bins) <= len(report.cases)
    assert report.epsilon is None or report.epsilon >= report.matrix_noise
