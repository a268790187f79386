"""The grader that listens to likelihoods: what it measures and what becomes of it."""

import asyncio
import math
from collections import defaultdict
from dataclasses import replace
from functools import cache
from statistics import mean

import pytest
from grading import CONTEXT, EXTRA, PROMPTS, TASK, Likelihood, by_knowledge, by_overlap, scoring

from reflectory.agents import PromptSet
from reflectory.agents.graders import Grader, GradingTask
from reflectory.agents.graders.calibration import Calibration
from reflectory.agents.graders.cases import GradingCase, packaged_cases
from reflectory.agents.graders.features import echo_share, supported_share
from reflectory.agents.graders.likelihood import (
    SIGNALS,
    LikelihoodGrader,
    calibrate,
    reason_for,
)
from reflectory.agents.graders.measuring import READ_APART, measure, measure_together
from reflectory.agents.student import answer_segments, context_segments
from reflectory.errors import OutputError
from reflectory.models.protocol import ScoreRequest
from reflectory.types import Passage


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


def by_kind(grader: Grader) -> dict[str | bool, list[float]]:
    """Return the scores of every kind, and of all that is right and all that is wrong."""
    found = defaultdict(list)
    scores = grades(grader, [case.task for case in cases()])
    for case, score in zip(cases(), scores, strict=True):
        found[case.kind].append(score)
        found[case.right].append(score)
    return found


# What is measured


@pytest.mark.parametrize(
    "prompts", [PROMPTS, PromptSet.with_replacements({"student.answer": "{question} Briefly:"})]
)
def test_an_answer_is_scored_with_the_question_and_without(prompts: PromptSet) -> None:
    model = scoring(by_overlap)
    signals = asyncio.run(measure(model, prompts, replace(TASK, answer=" Alexander Fleming\n")))
    assert set(signals) == {*SIGNALS, "fit", "type", "class", "echo", "repeated"}
    assert all(map(math.isfinite, signals.values()))

    full, without_question, without_documents, unasked, of_class, of_any, *apart = (
        model.score_requests
    )
    # The student's own prompt, whatever it is, so that what was read for it serves here too.
    assert full.segments == answer_segments(prompts, TASK.question, CONTEXT, EXTRA)
    assert without_question.segments[:-1] == context_segments(prompts, CONTEXT, EXTRA)
    assert without_question.segments[:-1] == full.segments[:-1]
    assert without_question.segments[-1].text == "Answer:"
    # What is likely to answer it, and of the class that was asked for, no document has to say.
    assert [s.text for s in without_documents.segments] == [f"Question: {TASK.question}\nAnswer:"]
    assert [s.text for s in unasked.segments] == ["Answer:"]
    assert [s.text for s in of_any.segments] == ["The name is"]
    assert [s.text for s in of_class.segments] == ["The name of the person is"]
    first = (full, without_question, without_documents, unasked)
    assert {r.continuations for r in first} == {("Alexander Fleming",)}
    # It is held against the names around it that the question does not say.
    around = ("Alexander Fleming", "1928", "Norman Heatley", "Oxford")
    assert of_any.continuations == of_class.continuations == around
    assert {r.role for r in model.score_requests} == {"teacher.grade"}
    # And it is read by each passage alone, as a student that has no other reads it.
    for passage, told, untold in zip((*CONTEXT, *EXTRA), apart[::2], apart[1::2], strict=True):
        assert told.segments == answer_segments(prompts, TASK.question, [passage])
        assert untold.segments[:-1] == context_segments(prompts, [passage])
        assert untold.segments[-1].text == "Answer:"
        assert told.continuations == untold.continuations == ("Alexander Fleming",)


def test_signals_follow_from_the_likelihoods() -> None:
    def table(request: ScoreRequest, text: str) -> float:
        return -1.0 if "Question" in request.segments[-1].text else -2.0

    model = scoring(table)
    signals = asyncio.run(measure(model, PROMPTS, TASK))
    (scored,) = asyncio.run(model.score(model.score_requests[0])).continuations
    assert signals["fit"] == -1.0
    assert signals["information"] == len(scored.logprobs) > 1  # a nat of each token
    assert signals["type"] == 1.0
    assert signals["proximity"] == 1.0


def test_the_class_that_was_asked_for_speaks_for_its_own_names() -> None:
    def people(request: ScoreRequest, text: str) -> float:
        asked = request.segments[-1].text == "The name of the person is"
        return -1.0 if asked and text == "Alexander Fleming" else -2.0

    def of(answer: str) -> dict[str, float]:
        return asyncio.run(measure(scoring(people), PROMPTS, replace(TASK, answer=answer)))

    person, city = of("Alexander Fleming"), of("London")
    assert person["class"] > 0.6 > 0.5 > city["class"]
    assert person["kind"] == person["class"]


def test_only_names_are_held_against_a_class_and_only_where_there_is_one() -> None:
    def requests(question: str, *answers: str) -> list[ScoreRequest]:
        model = scoring(by_overlap)
        tasks = [replace(TASK, question=question, answer=answer) for answer in answers]
        found = asyncio.run(measure_together(model, PROMPTS, tasks))
        assert len(found) == len(answers)
        unknown = [row["class"] for row in found if row["class"] == 0.6]
        known = len(model.score_requests) == 6 + apart and LONG not in answers
        assert len(unknown) == (0 if known else 1)
        return model.score_requests

    who, apart = TASK.question, 2 * len((*CONTEXT, *EXTRA))
    assert len(requests(who, "Alexander Fleming")) == 6 + apart
    # Six words may be a name, seven are a sentence.
    assert len(requests(who, " ".join(["Ada"] * 6))) == 6 + apart
    assert len(requests(who, LONG)) == 4
    # Several answers share the calls; a name said twice is scored once.
    made = requests(who, "Ada Frey", LONG, "Ada Frey", "Emil Rau")
    of_class, of_any, alone = made[4:7]
    assert of_class.continuations == of_any.continuations
    assert of_any.continuations[:2] == ("Ada Frey", "Emil Rau") and LONG not in of_any.continuations
    assert alone.continuations == ("Ada Frey", "Emil Rau")
    assert len(requests("Why did the mould grow?", "London")) == 4 + apart


def test_a_name_is_held_by_the_passage_that_speaks_for_it_most() -> None:
    """Passages beside it say less than it does, and together they confuse the model."""

    def distracted(request: ScoreRequest, text: str) -> float:
        read = "".join(segment.text for segment in request.segments)
        asked, one = TASK.question in read, CONTEXT[0].text in read and EXTRA[0].text not in read
        return -1.0 if asked and one else -2.0

    name = asyncio.run(measure(scoring(distracted), PROMPTS, TASK))
    sentence = asyncio.run(measure(scoring(distracted), PROMPTS, replace(TASK, answer=LONG)))
    assert name["information"] > 0.0 == sentence["information"]
    alone = replace(TASK, context=EXTRA, extra=())  # one passage is all of them
    model = scoring(distracted)
    assert asyncio.run(measure(model, PROMPTS, alone))["information"] == 0.0
    assert len(model.score_requests) == 6


def test_what_may_come_from_one_passage_is_not_read_by_it_but_asked_for_behind_it() -> None:
    """Whoever wrote it from one passage alone was likely to, whether it is right or wrong."""
    written = replace(TASK, apart=False)
    around = ("1928", "Norman Heatley", "Oxford")

    def known(request: ScoreRequest, text: str) -> float:
        fleming = text.startswith("Alexander Fleming\nQuestion")
        return -1.0 if fleming else -1.5 if text.startswith(around) else -2.0

    model = scoring(known)
    signals = asyncio.run(measure(model, PROMPTS, written))
    assert len(model.score_requests) == 6
    assert not any(
        EXTRA[0].text in prompt and CONTEXT[0].text not in prompt
        for request in model.score_requests
        for prompt in ["".join(segment.text for segment in request.segments)]
    )
    # No call more: what is read with nothing before it is read with the question behind it too.
    names = ("Alexander Fleming", *around)
    behind = tuple(f"{name}\nQuestion: {TASK.question}" for name in names)
    (unasked,) = [r for r in model.score_requests if r.continuations == names + behind]
    assert [segment.text for segment in unasked.segments] == ["Answer:"]
    # Seven words stand behind each: -9 + 4 nats for Fleming, at -1.5 a word for the others.
    others = [-1.5 * 7] * 3
    assert signals["channel"] == pytest.approx(-9 + 4 - mean(others))
    # A name that says a word of the question makes it likelier by that alone, and so does a
    # sentence; and where no document was read there is nothing to hold an answer against.
    for other in (
        replace(written, answer="London"),
        replace(written, answer=LONG),
        replace(written, context=(), extra=()),
        TASK,
    ):
        assert "channel" not in asyncio.run(measure(scoring(known), PROMPTS, other))


def test_only_the_first_passages_are_read_one_at_a_time() -> None:
    many = tuple(replace_id(CONTEXT[0], number) for number in range(READ_APART + 3))
    model = scoring(by_overlap)
    asyncio.run(measure(model, PROMPTS, replace(TASK, context=many, extra=())))
    assert len(model.score_requests) == 6 + 2 * READ_APART


def replace_id(one: Passage, number: int) -> Passage:
    return one.model_copy(update={"id": f"p{number}", "text": f"{one.text} {number}"})


LONG = "It was Alexander Fleming who saw it"


@pytest.mark.parametrize("apart_too", [True, False])
def test_answers_measured_together_are_measured_as_each_by_itself(apart_too: bool) -> None:
    answers = ("Alexander Fleming", LONG, "London", "Alexander Fleming", "1928")
    tasks = [replace(TASK, answer=answer, apart=apart_too) for answer in answers]
    together = asyncio.run(measure_together(scoring(by_overlap), PROMPTS, tasks))
    apart = [asyncio.run(measure(scoring(by_overlap), PROMPTS, task)) for task in tasks]
    assert together == apart


def test_of_names_and_years_of_one_sentence_the_question_says_which_is_wanted() -> None:
    asked = {"Who saw the mould?": "Alexander Fleming", "When was the mould seen?": "1928"}
    for question in asked:
        for other, answer in asked.items():
            task = replace(TASK, question=question, answer=answer)
            signals = asyncio.run(measure(scoring(by_overlap), PROMPTS, task))
            assert signals["type"] == float(question == other)


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


def test_a_good_sentence_is_not_called_an_echo() -> None:
    grader = LikelihoodGrader(scoring(by_overlap), PROMPTS, CALIBRATION)
    task = replace(TASK, answer="Alexander Fleming saw the mould in London.")
    feedback = asyncio.run(grader.grade(task))
    assert feedback.reason == "The documents support it."


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
    right, wrong = found[True], found[False]
    # "The Brooklyn Bridge" adds nothing to "Which is older, the Brooklyn Bridge or ...?".
    assert mean(right) > 0.9
    assert sorted(right)[len(right) // 20] > 0.5
    assert mean(wrong) < 0.1
    assert max(found["echo"]) == 0.0
    assert mean(found["constant"]) < 0.1
    assert max(found["constant"]) < 0.5

    # Question by question: the right answer gets more than an echo and a constant one.
    best = defaultdict(dict)
    scores = grades(grader, [case.task for case in cases()])
    for case, score in zip(cases(), scores, strict=True):
        best[case.task.question][case.kind] = score
    assert all(kinds["right"] > max(kinds["echo"], kinds["constant"]) for kinds in best.values())


PURE_ECHOES = ("{}?", "{}.", "{}? {}?", "**{}**")
PADDED_ECHOES = (
    "The question is: {}?",
    "I will answer this: {}?",
    "You asked: {}?",
    "{}? Well, certainly.",
)
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
        assert mean(found) < 0.1 * usual, form
        # "Question" is a word of an answer where the documents speak of one.
        held = [supported_share(form.format(""), task.passages) > 0.0 for task in right]
        assert sum(held) <= 0.1 * len(held), form
        assert max(s for s, by_chance in zip(found, held, strict=True) if not by_chance) == 0.0
    for form in CONSTANTS:
        found = scores_of(form)
        assert mean(found) < 0.8 * usual, form
        # "I do not know" about a passage with "know" in it is an answer by all that words tell,
        # and "can be found" is likely where a question asks what can be found.
        held = [
            supported_share(form, task.passages) == 1.0 or echo_share(form, task.question) > 0.0
            for task in right
        ]
        assert sum(held) <= 0.2 * len(held), form
        assert max(s for s, by_chance in zip(found, held, strict=True) if not by_chance) < 0.5, form


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


def test_without_documents_the_reason_does_not_speak_of_any():
    task = GradingTask(question="Who built it?", answer="Anna Reis", rubric="", context=())
    measured = {"repeated": 0.0, "type": 1.0, "information": 2.0, "support": 0.0}
    assert reason_for(0.1, measured, task) == "It fits the question."
    assert (
        reason_for(0.9, {**measured, "information": -1.0}, task) == "It does not fit the question."
    )
    assert "repeats" in reason_for(0.1, {**measured, "repeated": 1.0}, task)
