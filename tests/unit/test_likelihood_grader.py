"""The grader that listens to likelihoods, and how any grader is measured on known cases."""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean

import pytest

from reflectory.agents import PromptSet
from reflectory.agents.citations import content_words
from reflectory.agents.graders import FunctionGrader, Grader, GradingTask
from reflectory.agents.graders.calibration import Calibration
from reflectory.agents.graders.cases import (
    GraderReport,
    GradingCase,
    calibration_cases,
    measure_grader,
    packaged_cases,
)
from reflectory.agents.graders.likelihood import (
    SIGNALS,
    LikelihoodGrader,
    calibrate,
    calibration_for,
    measure,
    reason_for,
)
from reflectory.agents.student import context_segments
from reflectory.errors import BackendError, IntegrityError, OutputError
from reflectory.models.protocol import Capability, ScoreRequest, content_hash
from reflectory.testing.models import ScriptedModel
from reflectory.types import Passage

PROMPTS = PromptSet.with_replacements()
SCORE = frozenset({Capability.SCORE})
Likelihood = Callable[[ScoreRequest, str], float]


def passage(number: int, text: str) -> Passage:
    return Passage(id=f"p{number}", document_id=f"d{number}", text=text, start=0, end=len(text))


CONTEXT = (passage(1, "Alexander Fleming saw the mould in London in 1928."),)
EXTRA = (passage(2, "Norman Heatley built the apparatus in Oxford."),)
TASK = GradingTask("Who saw the mould in London?", "Alexander Fleming", "", CONTEXT, EXTRA)


def scoring(likelihood: Likelihood | None = None, name: str = "scripted") -> ScriptedModel:
    return ScriptedModel({}, name=name, capabilities=SCORE, score=likelihood)


@cache
def cases() -> tuple[GradingCase, ...]:
    """Every third packaged set, which is enough to fit on and three times as fast."""
    chosen = set(sorted({case.group for case in packaged_cases()})[::3])
    return tuple(case for case in packaged_cases() if case.group in chosen)


def fitted(likelihood: Likelihood) -> LikelihoodGrader:
    model = scoring(likelihood)
    return LikelihoodGrader(model, PROMPTS, asyncio.run(calibrate(model, PROMPTS, cases())))


def grades(grader: Grader, tasks: list[GradingTask]) -> list[float]:
    async def all_of_them() -> list[float]:
        return [f.score for f in await asyncio.gather(*map(grader.grade, tasks))]

    return asyncio.run(all_of_them())


def by_kind(grader: Grader) -> dict[str, list[float]]:
    found = defaultdict(list)
    scores = grades(grader, [case.task for case in cases()])
    for case, score in zip(cases(), scores, strict=True):
        found[case.kind].append(score)
    return found


def by_overlap(request: ScoreRequest, text: str) -> float:
    """A model to which words are likely that it has just read, as they are to every model."""
    read = set(content_words(" ".join(s.text for s in request.segments)))
    words = content_words(text)
    known = sum(word in read for word in words) / len(words) if words else 0.0
    return -0.5 - 3.0 * (1.0 - known)


KNOWN = {(c.task.question, c.task.answer): c.right for c in packaged_cases()}


def by_knowledge(request: ScoreRequest, text: str) -> float:
    """A model that knows what is right when it has read the documents and the question."""
    question = request.segments[-1].text.removeprefix("Question: ").removesuffix("\nAnswer:")
    informed = len(request.segments) > 2 and question != "Answer:"
    right = informed and KNOWN.get((question, text), False)
    noise = int(content_hash(text, question)[:4], 16) / 2**16
    return (-0.5 if right else -3.0) - noise


# What is measured


def test_an_answer_is_scored_from_three_sides() -> None:
    model = scoring(by_overlap)
    signals = asyncio.run(measure(model, PROMPTS, TASK))
    assert set(signals) == {*SIGNALS, "repeated"}
    assert all(map(math.isfinite, signals.values()))

    documents = context_segments(PROMPTS, CONTEXT, EXTRA)
    asked = "Question: Who saw the mould in London?\nAnswer:"
    full, without_question, without_documents = model.score_requests
    assert full.segments[:-1] == without_question.segments[:-1] == documents
    assert without_documents.segments[:-1] == context_segments(PROMPTS, ())
    assert full.segments[-1].text == without_documents.segments[-1].text == asked
    assert without_question.segments[-1].text == "Answer:"
    assert {r.continuations for r in model.score_requests} == {("Alexander Fleming",)}
    assert {r.role for r in model.score_requests} == {"teacher.grade"}


def test_signals_follow_from_the_likelihoods() -> None:
    def table(request: ScoreRequest, text: str) -> float:
        if len(request.segments) == 2:  # no documents
            return -5.0
        return -1.0 if "Question" in request.segments[-1].text else -2.0

    signals = asyncio.run(measure(scoring(table), PROMPTS, TASK))
    assert signals["fit"] == signals["weakest"] == -1.0
    assert signals["evidence"] == 4.0
    assert signals["relevance"] == 1.0
    assert signals["proximity"] == 1.0
    # Its rivals are 1928, which stands in the same sentence, Norman Heatley and Oxford.
    assert signals["nearest"] == pytest.approx(1.0 - 1 / 3)


@pytest.mark.parametrize("answer", ["", " \n"])
def test_there_is_no_score_for_no_answer(answer: str) -> None:
    model = scoring()
    with pytest.raises(OutputError) as caught:
        asyncio.run(measure(model, PROMPTS, replace(TASK, answer=answer)))
    assert caught.value.raw == answer
    assert model.score_requests == []


# What becomes of it

CALIBRATION = Calibration(
    names=("fit", "support"),
    mean=(-2.0, 0.5),
    scale=(1.0, 0.5),
    weights=(1.0, 1.0),
    bias=0.0,
    cases=10,
    auc=0.9,
    model="scripted",
)


def test_feedback_holds_the_score_and_all_it_was_made_from() -> None:
    grader = LikelihoodGrader(scoring(by_overlap), PROMPTS, CALIBRATION)
    feedback = asyncio.run(grader.grade(TASK))
    assert feedback.signals == asyncio.run(measure(scoring(by_overlap), PROMPTS, TASK))
    assert feedback.score == CALIBRATION.score(feedback.signals)
    assert feedback.grader == grader.fingerprint
    assert feedback.reason == "The documents support it."
    assert isinstance(grader, Grader)


def test_an_answer_without_a_word_of_its_own_loses_what_it_repeats() -> None:
    grader = LikelihoodGrader(scoring(by_overlap), PROMPTS, CALIBRATION)
    echo, half = [
        asyncio.run(grader.grade(replace(TASK, answer=answer)))
        for answer in (TASK.question, "Who saw the mould")
    ]
    assert echo.score == 0.0
    assert echo.reason.startswith("It repeats the question")
    assert half.signals["repeated"] == pytest.approx(2 / 3)
    assert half.score == pytest.approx(CALIBRATION.score(half.signals) / 3)


def test_the_fingerprint_names_model_and_calibration() -> None:
    prints = {
        LikelihoodGrader(scoring(name=name), PROMPTS, calibration).fingerprint
        for name in ("a", "b")
        for calibration in (CALIBRATION, replace(CALIBRATION, bias=1.0))
    }
    assert len(prints) == 4


def test_when_likelihoods_know_the_answer_right_and_wrong_come_apart() -> None:
    grader = fitted(by_knowledge)
    assert grader.calibration.auc > 0.99
    assert grader.calibration.cases == len(cases())
    found = by_kind(grader)
    right = found["right"] + found["right_sentence"]
    wrong = [
        score for kind, scores in found.items() if not kind.startswith("right") for score in scores
    ]
    # "The Brooklyn Bridge" adds nothing to "Which is older, the Brooklyn Bridge or ...?".
    assert mean(right) > 0.9
    assert sorted(right)[len(right) // 20] > 0.5
    assert mean(wrong) < 0.1
    assert max(found["echo"]) == 0.0
    assert max(found["constant"]) < 0.2

    # Question by question: the right answer gets more than an echo and a constant one.
    best = defaultdict(dict)
    scores = grades(grader, [case.task for case in cases()])
    for case, score in zip(cases(), scores, strict=True):
        best[case.task.question][case.kind] = score
    assert all(kinds["right"] > max(kinds["echo"], kinds["constant"]) for kinds in best.values())


PURE_ECHOES = ("{}?", "{}.", "{}? {}?", "**{}**")
PADDED_ECHOES = ("The question is: {}?", "I will answer this: {}?")
CONSTANTS = (
    "The answer can be found in the documents.",
    "I do not know.",
    "According to the documents, it is as described above.",
    "It is a very interesting question with several aspects.",
)


def test_echoes_and_constant_answers_score_low_though_they_are_likely() -> None:
    """The words of an echo were just read, so a model finds them likely; it must not pay."""
    grader = fitted(by_overlap)
    assert grader.calibration.auc > 0.7
    right = [case.task for case in cases() if case.kind == "right"]

    def scores_of(form: str) -> list[float]:
        said = [form.replace("{}", task.question.rstrip("?")) for task in right]
        tasks = [replace(task, answer=answer) for task, answer in zip(right, said, strict=True)]
        return grades(grader, tasks)

    usual = mean(grades(grader, right))
    assert usual > 0.55
    for form in PURE_ECHOES:
        assert max(scores_of(form)) == 0.0, form
    for form in PADDED_ECHOES:
        found = scores_of(form)
        assert mean(found) < 0.8 * usual, form
        assert sum(score >= 0.5 for score in found) <= 0.15 * len(found), form
    for form in CONSTANTS:
        found = scores_of(form)
        assert mean(found) < 0.8 * usual, form
        assert max(found) < 0.5, form


def test_half_a_question_is_worth_less_than_half() -> None:
    """A piece of the question stands in the documents and fits as well as an answer."""
    grader = fitted(by_overlap)
    tasks = [case.task for case in cases() if case.kind == "right"]
    for share in (1 / 2, 2 / 3, 3 / 4):
        pieces = [
            " ".join(words[: math.ceil(share * len(words))])
            for words in (task.question.rstrip("?").split() for task in tasks)
        ]
        found = [replace(task, answer=piece) for task, piece in zip(tasks, pieces, strict=True)]
        assert mean(grades(grader, found)) < 0.5


def test_a_calibration_is_the_same_every_time() -> None:
    one, two = [asyncio.run(calibrate(scoring(by_overlap), PROMPTS, cases())) for _ in range(2)]
    assert one == two
    assert one.names == SIGNALS
    assert one.model == "scripted"


# Keeping a calibration


def few() -> list[GradingCase]:
    chosen = sorted({case.group for case in packaged_cases()})[:4]
    return [case for case in packaged_cases() if case.group in chosen]


def test_a_calibration_is_made_once(tmp_path: Path) -> None:
    model = scoring(by_overlap)
    first = asyncio.run(calibration_for(model, PROMPTS, few(), tmp_path / "made"))
    asked = len(model.score_requests)
    assert asked > 0
    again = asyncio.run(calibration_for(model, PROMPTS, few(), tmp_path / "made"))
    assert again == first
    assert len(model.score_requests) == asked


def test_a_calibration_is_used_for_nothing_else(tmp_path: Path) -> None:
    one = few()[0]
    other_passages = (passage(1, "Something else."), *one.task.context[1:])
    variants = [
        (scoring(by_overlap), PROMPTS, few()),
        (scoring(by_overlap, name="another"), PROMPTS, few()),
        (scoring(by_overlap), PromptSet.with_replacements({"system": "Be brief."}), few()),
        (scoring(by_overlap), PROMPTS, few()[:-1]),
        (scoring(by_overlap), PROMPTS, [replace(one, right=not one.right), *few()[1:]]),
        (
            scoring(by_overlap),
            PROMPTS,
            [replace(one, task=replace(one.task, context=other_passages)), *few()[1:]],
        ),
    ]
    for model, prompts, some_cases in variants:
        asyncio.run(calibration_for(model, prompts, some_cases, tmp_path))
        assert model.score_requests
    assert len(list(tmp_path.iterdir())) == len(variants)


def test_a_damaged_calibration_is_not_believed(tmp_path: Path) -> None:
    asyncio.run(calibration_for(scoring(by_overlap), PROMPTS, few(), tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(IntegrityError):
        asyncio.run(calibration_for(scoring(by_overlap), PROMPTS, few(), tmp_path))


# The reason

PLAIN = {"repeated": 0.0, "support": 1.0, "evidence": 1.0}


@pytest.mark.parametrize(
    ("score", "signals", "verdict"),
    [
        (0.0, {"repeated": 1.0}, "It repeats the question instead of answering it."),
        (0.3, {"repeated": 0.5}, "It repeats the question instead of answering it."),
        (0.9, {}, "The documents support it."),
        (0.9, {"support": 0.2, "evidence": -1.0}, "The documents support it."),
        (0.5, {"support": 0.4}, "Much of it is not in the documents."),
        (0.5, {"evidence": 0.0}, "The documents do not make it likelier."),
        (0.1, {}, "It does not fit the question."),
        (0.5, {"repeated": 0.4}, "The documents support it only in part."),
    ],
)
def test_the_reason_says_what_was_measured(score: float, signals: dict, verdict: str) -> None:
    reason = reason_for(score, {**PLAIN, **signals}, TASK)
    assert reason.startswith(verdict)
    pointer = 'Look at [1]: "Alexander Fleming saw the mould in London in 1928."'
    assert (pointer in reason) == (score < 0.66)


def test_the_pointer_counts_passages_as_the_student_saw_them() -> None:
    task = replace(TASK, question="Who built the apparatus?")
    assert 'Look at [2]: "Norman Heatley built' in reason_for(0.1, PLAIN, task)
    nowhere = replace(TASK, question="Why is coal black?")
    assert reason_for(0.1, PLAIN, nowhere) == "It does not fit the question."


def test_the_reason_names_a_statement_without_evidence_when_it_is_one_of_several() -> None:
    task = replace(TASK, answer="It was Fleming. He was a king.", unsupported=("He was a king.",))
    assert reason_for(0.9, PLAIN, task) == 'The documents support it, but not "He was a king."'
    assert reason_for(0.1, PLAIN, task).startswith('The documents do not support "He was a king."')
    whole = replace(task, answer="He was a king.")
    assert reason_for(0.1, PLAIN, whole) == reason_for(0.1, PLAIN, replace(whole, unsupported=()))


def test_a_good_sentence_is_not_called_an_echo() -> None:
    grader = LikelihoodGrader(scoring(by_overlap), PROMPTS, CALIBRATION)
    task = replace(TASK, answer="Alexander Fleming saw the mould in London.")
    feedback = asyncio.run(grader.grade(task))
    assert feedback.reason == "The documents support it."


# Measuring any grader


def report(function: Callable[[GradingTask], object]) -> GraderReport:
    return asyncio.run(measure_grader(FunctionGrader(function), packaged_cases()))  # type: ignore[arg-type]


def test_the_packaged_cases_are_of_every_kind() -> None:
    kinds = Counter(case.kind for case in packaged_cases())
    questions = kinds["right"]
    assert questions >= 120
    for kind in ("right_sentence", "wrong_sentence", "unsupported", "echo", "constant"):
        assert kinds[kind] == questions
    assert kinds["same_documents"] > questions
    assert {c.kind for c in packaged_cases() if c.right} == {"right", "right_sentence"}
    groups = defaultdict(set)
    for case in packaged_cases():
        assert case.task.context
        assert case.task.rubric
        groups[case.group].add(case.task.question)
        if case.kind == "echo":
            assert case.task.answer == case.task.question
    assert all(len(asked) == 2 for asked in groups.values())
    assert packaged_cases() is packaged_cases()


def test_a_judge_that_knows_is_measured_as_perfect() -> None:
    found = report(lambda task: KNOWN[task.question, task.answer])
    assert found.auc == 1.0
    assert set(found.auc_by_kind.values()) == {1.0}
    assert set(found.auc_by_kind) == {
        "same_documents",
        "wrong_sentence",
        "unsupported",
        "echo",
        "constant",
    }
    assert (found.failed, found.graded, found.constant) == ((), len(packaged_cases()), False)
    assert found.better_than_chance


def test_a_judge_that_says_the_same_to_everything_is_flagged() -> None:
    found = report(lambda task: 0.7)
    assert found.constant
    assert found.auc == 0.5
    assert not found.better_than_chance


def test_a_judge_that_throws_dice_is_no_better_than_chance() -> None:
    found = report(lambda task: int(content_hash(task.question, task.answer)[:8], 16) / 2**32)
    assert 0.45 < found.auc < 0.55
    assert not found.constant
    assert not found.better_than_chance


def test_a_judge_of_one_weakness_is_found_out_by_kind() -> None:
    """Counting the words that the documents hold is fooled by an echo, not by the unsupported."""

    def support(task: GradingTask) -> float:
        held = set(content_words(" ".join(p.text for p in task.passages)))
        words = content_words(task.answer)
        return sum(w in held for w in words) / len(words) if words else 0.0

    found = report(support)
    assert found.auc_by_kind["unsupported"] > 0.9
    assert found.auc_by_kind["echo"] < found.auc_by_kind["unsupported"]
    assert found.auc_by_kind["same_documents"] < 0.6


def test_what_cannot_be_graded_counts_as_failed_and_not_as_wrong() -> None:
    def shy(task: GradingTask) -> object:
        return KNOWN[task.question, task.answer] if len(task.answer) < 40 else "no idea"

    found = report(shy)
    failed = sum(len(c.task.answer) >= 40 for c in packaged_cases())
    assert len(found.failed) == failed > 0
    assert set(found.failed) == {"'no idea'"}
    assert found.graded == len(packaged_cases()) - failed
    assert found.auc == 1.0


def test_a_judge_that_fails_on_everything_is_worth_nothing() -> None:
    found = report(lambda task: None)
    assert (found.graded, len(found.failed)) == (0, len(packaged_cases()))
    assert math.isnan(found.auc)
    assert not found.constant
    assert not found.better_than_chance


def test_a_server_that_is_down_is_no_verdict() -> None:
    def down(task: GradingTask) -> float:
        raise BackendError("the server is down")

    with pytest.raises(BackendError):
        report(down)


def test_the_packaged_calibration_fits_the_packaged_cases_prompts_and_signals(tmp_path):
    """When cases, system prompt or signals change, it has to be fitted and packaged again."""
    for number_format in ("bfloat16", "float32"):
        # This model cannot score, so a calibration can only come from the package.
        model = ScriptedModel({}, name=f"SmolLM2-135M-Instruct@4aca7fbd0095/{number_format}")
        found = asyncio.run(calibration_for(model, PROMPTS, calibration_cases(), tmp_path))
        assert found.names == SIGNALS and found.cases == len(calibration_cases())
    assert not list(tmp_path.iterdir())
