"""Evaluations with scripted models: equal budgets, resuming, failures, no references shown."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import contending
import pytest
from contending import PLACES, SECRET, config, evaluator, model, rows
from holding import held

from reflectory.config import RunConfig
from reflectory.config.evaluation import DEFAULT_CONTENDERS
from reflectory.contenders.protocol import AskedQuestion
from reflectory.errors import BackendError, RunDirectoryError, UserError
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport
from reflectory.evaluator import Evaluator
from reflectory.testing.models import ScriptedModel


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder, the model and the report of an evaluation by all contenders."""
    folder = tmp_path_factory.mktemp("evaluation")
    student = model()
    report = evaluator(student).run(folder / "run")
    return folder / "run", student, report


def answers_in(folder):
    lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [ContenderAnswer.model_validate_json(line) for line in lines]


def row_of(report, name, budget="calls"):
    return next(row for row in report.tables[budget] if row.contender == name)


def test_every_contender_answers_every_question_in_both_tables(run):
    _, _, report = run
    assert list(report.tables) == ["calls", "tokens"]
    for rows_ in report.tables.values():
        assert [row.contender for row in rows_] == list(DEFAULT_CONTENDERS)
        assert all([a.id for a in row.answers] == ["q0", "q1", "q2"] for row in rows_)


def test_no_contender_that_asks_again_gets_more_than_the_loop_spent(run):
    folder, _, report = run
    spent = {a.id: a.attempts[-1] for a in answers_in(folder) if a.contender == "loop"}
    for budget, rows_ in report.tables.items():
        for row in rows_:
            for answer in row.answers:
                limit = getattr(spent[answer.id], budget)
                assert getattr(answer, budget) <= limit, (budget, row.contender)


@pytest.mark.parametrize("name", ["best_of_n", "self_consistency", "self_refine"])
def test_contenders_that_ask_again_use_both_budgets_up(run, name):
    folder, _, _ = run
    spent = {a.id: a.attempts[-1] for a in answers_in(folder) if a.contender == "loop"}
    for answer in answers_in(folder):
        if answer.contender == name:
            last = answer.attempts[-1]
            assert last.calls >= spent[answer.id].calls
            assert last.tokens >= spent[answer.id].tokens


def test_the_loop_is_metered_response_by_response(run):
    folder, _, _ = run
    (answer,) = (a for a in answers_in(folder) if a.contender == "loop" and a.id == "q1")
    notes = [attempt.note for attempt in answer.attempts]
    assert notes == ["R_0", "R_1", "R_2", "chosen R_2"]
    # One call, then four levels with question and answer each and a reflection; the judge
    # of this world is a function and asks no model.
    assert [attempt.calls for attempt in answer.attempts] == [1, 10, 19, 19]
    assert [attempt.grade for attempt in answer.attempts] == [0.1, 0.9, 0.9, 0.9]
    costs = [attempt.tokens for attempt in answer.attempts]
    assert costs == sorted(costs)


def test_retrieval_alone_costs_what_the_first_response_costs(run):
    _, _, report = run
    assert row_of(report, "retrieve").calls == 1
    assert [a.text for a in row_of(report, "retrieve").answers] == ["Paris"] * 3
    assert row_of(report, "direct").tokens < row_of(report, "retrieve").tokens


def test_the_report_says_who_was_right(run):
    _, _, report = run
    assert row_of(report, "loop").means["exact_match"] == 1.0
    assert row_of(report, "retrieve").means["f1"] == 0.0
    first, second, third = report.turning
    assert (second.turned_right, second.turned_wrong) == (3, 0)
    assert (third.turned_right, third.turned_wrong) == (0, 0)
    assert first.means["exact_match"] == 0.0
    found = next(
        c
        for c in report.comparisons
        if (c.contender, c.metric, c.budget) == ("retrieve", "f1", "calls")
    )
    assert found.result.difference == 1.0
    assert any("only 3 questions" in warning for warning in report.warnings)
    assert report.matrices.loops == 3
    assert report.domains == {"even": 1.0, "odd": 1.0}
    assert report.generalisation == 1.0


def test_the_report_is_written_as_it_is_returned(run):
    folder, _, report = run
    text = (folder / "evaluation.json").read_text(encoding="utf-8")
    assert EvaluationReport.model_validate_json(text) == report
    assert "NaN" not in text


def test_no_request_of_any_contender_holds_a_reference(run):
    _, student, _ = run
    roles = {request.role for request in student.requests}
    assert {"contender.direct", "contender.criticise", "contender.rewrite"} <= roles
    for request in student.requests:
        assert SECRET not in "".join(segment.text for segment in request.segments)


def test_what_contenders_are_handed_has_no_place_for_a_reference():
    assert set(AskedQuestion.model_fields) == {"id", "text", "context"}


def test_an_evaluation_that_is_done_is_only_read(run):
    folder, _, report = run
    before = (folder / "answers.jsonl").read_bytes()
    silent = ScriptedModel(lambda request: pytest.fail("asked again"), name="scripted")
    again = evaluator(silent).run(folder)
    assert (folder / "answers.jsonl").read_bytes() == before
    assert again.tables == report.tables
    assert again.comparisons == report.comparisons


def test_rows_and_contenders_may_be_added(tmp_path):
    few = config(contenders=["retrieve", "loop"])
    evaluator(settings=few, count=2).run(tmp_path / "run")
    kept = (tmp_path / "run/answers.jsonl").read_bytes()
    more = config(contenders=["retrieve", "loop", "self_consistency"])
    report = evaluator(settings=more, count=3).run(tmp_path / "run")
    assert report.rows == 3
    assert (tmp_path / "run/answers.jsonl").read_bytes().startswith(kept)
    assert len(answers_in(tmp_path / "run")) == 9


def test_a_question_that_changed_is_asked_again(tmp_path):
    settings = config(contenders=["retrieve", "loop"])
    evaluator(settings=settings, count=1).run(tmp_path / "run")
    changed = [{**rows(4)[3], "id": "q0"}]
    report = evaluator(settings=settings, questions=changed).run(tmp_path / "run")
    assert row_of(report, "loop").answers[0].text == PLACES[3]


def test_another_loop_needs_another_directory(tmp_path):
    evaluator(settings=config(contenders=["loop"]), count=1).run(tmp_path / "run")
    other = config(contenders=["loop"])
    other = other.model_copy(update={"loop": other.loop.model_copy(update={"max_iterations": 1})})
    with pytest.raises(RunDirectoryError, match=r"loop\.max_iterations"):
        evaluator(settings=other, count=1).run(tmp_path / "run")


def test_a_failure_is_recorded_and_counts_as_wrong(tmp_path):
    def speak(request):
        if request.role == "contender.direct" and "number 1" in request.segments[-1].text:
            raise BackendError("the server is away")
        return contending.speak(request)

    settings = config(contenders=["direct", "loop"])
    student = ScriptedModel(speak, name="scripted")
    report = evaluator(student, settings=settings).run(tmp_path / "run")
    row = row_of(report, "direct")
    assert row.missing == 1
    assert row.answers[1].text is None
    assert row.answers[1].values["f1"] == 0.0
    assert any("direct failed on 1 of 3 questions" in warning for warning in report.warnings)
    # Only when it is asked for, the failed one is tried again.
    assert row_of(evaluator(settings=settings).run(tmp_path / "run"), "direct").missing == 1
    mended = evaluator(settings=settings).run(tmp_path / "run", retry_failed=True)
    assert row_of(mended, "direct").missing == 0


def test_where_the_reference_fails_the_others_keep_a_budget(tmp_path):
    def speak(request):
        if request.role == "student.reflect" and "number 1" in request.segments[-1].text:
            raise BackendError("the server is away")
        return contending.speak(request)

    settings = config(contenders=["self_consistency", "loop"])
    student = ScriptedModel(speak, name="scripted")
    report = evaluator(student, settings=settings).run(tmp_path / "run")
    (failed,) = (a for a in answers_in(tmp_path / "run") if a.failure)
    assert (failed.contender, failed.id) == ("loop", "q1")
    assert [attempt.note for attempt in failed.attempts] == ["R_0"]
    calls = [answer.calls for answer in row_of(report, "self_consistency").answers]
    assert calls[1] == 19


def test_a_reference_that_always_fails_ends_the_evaluation(tmp_path):
    def speak(request):
        raise BackendError("the server is away")

    settings = config(contenders=["loop", "direct"])
    with pytest.raises(UserError, match="failed on every question"):
        evaluator(ScriptedModel(speak), settings=settings).run(tmp_path / "run")


def test_a_contender_of_ones_own(tmp_path):
    class Parrot:
        name = "parrot"
        description = "repeats the question"

        async def attempts(self, task):
            yield task.attempt(task.question.text, "echo")

    settings = config(contenders=["retrieve"], reference="parrot")
    report = evaluator(settings=settings, contenders=[Parrot()]).run(tmp_path / "run")
    assert [row.contender for row in report.tables["calls"]] == ["retrieve", "parrot"]
    assert row_of(report, "parrot").answers[0].text == "Where is the bell number 0?"
    assert report.matrices is None


def test_contenders_whose_calls_wait_on_one_another_begin_twice_as_early(tmp_path):
    began = []

    class Quick:
        name = "quick"
        description = "asks once"

        async def attempts(self, task):
            began.append(f"{self.name} {task.question.id}")
            yield task.attempt("something")

    class Slow(Quick):
        name = "slow"
        sequential = True

    settings = RunConfig.from_dict(
        {**config(contenders=["loop"]).model_dump(mode="json"), "concurrency": 1}
    )
    evaluator(settings=settings, contenders=[Quick(), Slow()]).run(tmp_path / "run")
    assert began == ["quick q0", "slow q0", "slow q1", "quick q1", "slow q2", "quick q2"]


def test_budgets_of_the_configuration_take_the_place_of_the_references(tmp_path):
    settings = config(contenders=["self_consistency", "loop"], calls=5, tokens=10_000)
    report = evaluator(settings=settings, count=1).run(tmp_path / "run")
    assert row_of(report, "self_consistency").calls == 5
    assert row_of(report, "loop").calls == 1  # R_1 costs ten


def test_what_is_wrong_is_said_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match="unknown contender 'nobody'"):
        evaluator(settings=config(contenders=["loop", "nobody"]))
    with pytest.raises(UserError, match="is not among the contenders"):
        evaluator(settings=config(contenders=["direct"]))
    with pytest.raises(UserError, match="unknown metric 'beauty'"):
        evaluator(settings=config(metrics=["beauty"]))
    with pytest.raises(UserError, match="no set of questions was named"):
        Evaluator(RunConfig()).run(tmp_path / "run")
    bare = [{"question": "Where?", "answer": "There"}]
    with pytest.raises(UserError, match="has nothing to be answered from"):
        evaluator(questions=bare).run(tmp_path / "run")


def test_the_judge_is_put_on_trial(tmp_path):
    settings = config(contenders=["retrieve", "loop"], judge=True)
    report = evaluator(settings=settings).run(tmp_path / "run")
    assert report.judge.questions == 3
    assert report.judge.separations


def test_a_session_that_was_killed_counts_up_to_its_last_call(tmp_path):
    evaluator().run(tmp_path / "run")
    file = tmp_path / "run/manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    ended = datetime.fromisoformat(manifest["sessions"][0]["updated"])
    began = (ended - timedelta(hours=2)).isoformat()
    manifest["sessions"][0] |= {"started": began, "updated": began}
    file.write_text(json.dumps(manifest), encoding="utf-8")
    # Far from the beginning of the next session, whose moment is a full second.
    with closing(sqlite3.connect(tmp_path / "run/calls.sqlite")) as calls, calls:
        calls.execute("UPDATE calls SET created = created - 3600")
    assert 3500 < evaluator().run(tmp_path / "run").seconds < 3900


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("calls", [9, 150])
def test_a_killed_evaluation_goes_on_and_asks_nothing_recorded_twice(run, tmp_path, calls):
    folder, log = tmp_path / "run", tmp_path / "log"
    script = [sys.executable, str(Path(contending.__file__)), str(folder), str(log)]
    with held(log, calls + 3):
        process = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if log.exists() and log.read_text(encoding="utf-8").count("\n") >= calls:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = log.read_text(encoding="utf-8").splitlines()
    with sqlite3.connect(folder / "calls.sqlite") as calls_made:
        recorded = {key for (key,) in calls_made.execute("SELECT key FROM calls")}
    assert recorded
    subprocess.run(script, check=True, timeout=120, stdout=subprocess.DEVNULL)
    asked = log.read_text(encoding="utf-8").splitlines()[len(before) :]
    assert asked
    assert not recorded & set(asked)
    report = EvaluationReport.model_validate_json((folder / "evaluation.json").read_text())
    assert report.tables == run[2].tables


def test_a_half_written_answer_is_given_again(run, tmp_path):
    settings = config(contenders=["retrieve", "loop"])
    whole = evaluator(settings=settings).run(tmp_path / "run")
    file = tmp_path / "run/answers.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    silent = ScriptedModel(lambda request: pytest.fail("asked again"), name="scripted")
    assert evaluator(silent, settings=settings).run(tmp_path / "run").tables == whole.tables
    assert all(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
