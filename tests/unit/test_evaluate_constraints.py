"""Evaluations of prompts whose constraints rules verify: without references and documents."""

import json

import contending
import pytest
from contending import config, evaluator

from reflectory.agents import PromptSet
from reflectory.agents.teacher import RUBRIC_WITHOUT_DOCUMENTS as RUBRIC
from reflectory.cli.common import DONE, FAILED
from reflectory.cli.evaluate import write_report_page
from reflectory.cli.main import run_command
from reflectory.config import Level, LoopConfig, RunConfig
from reflectory.config.evaluation import CONSTRAINT_METRICS, REFERENCE_METRICS
from reflectory.config.levels import DEFAULT_LEVELS
from reflectory.config.levels import LEVELS_WITHOUT_DOCUMENTS as LEVELS
from reflectory.contenders.prompts import with_contenders
from reflectory.contenders.protocol import AskedQuestion
from reflectory.contenders.without_documents import (
    config_without_documents,
    prompts_without_documents,
)
from reflectory.errors import UserError
from reflectory.evaluation.answer_store import AnswerStore
from reflectory.evaluation.changes import compare_reports
from reflectory.evaluation.metrics.instructions import follow, following_accuracy
from reflectory.evaluation.sets import read_sets
from reflectory.evaluator import Evaluator
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel

NO_COMMA, LONG = "punctuation:no_comma", "length_constraints:number_words"
AT_LEAST_3 = {"num_words": 3, "relation": "at least"}


def prompts(count=3):
    """Return prompts of which every other one demands two things."""
    return [
        {
            "key": 100 + n,
            "prompt": f"Describe lamp {n} without a comma.",
            "instruction_id_list": [NO_COMMA, LONG][: 1 + n % 2],
            "kwargs": [{}, {**AT_LEAST_3, "keyword": None}][: 1 + n % 2],
        }
        for n in range(count)
    ]


def speak(request):
    """Break a constraint at first, and follow all of them after an examination."""
    if request.role == "teacher.ask":
        return f"What was the response told to be by draw {request.seed}?"
    if request.role in ("student.reflect", "contender.rewrite"):
        return "a lamp of brass"
    if request.role == "contender.criticise":
        return "It holds a comma."
    if request.sampling.temperature > 0:
        return "a lamp, of glass, again"
    return "small, bright"


def judge(task):
    return 0.1 if "," in task.answer else 0.9


def evaluate(folder, questions, settings=None, **options):
    model = options.pop("model", None) or ScriptedModel(speak, name="scripted")
    found = Evaluator(
        settings or config(contenders=["direct", "retrieve", "best_of_n", "self_refine", "loop"]),
        questions=questions,
        teacher=model,
        student=model,
        embedder=HashingEmbedder(),
        grader=options.pop("grader", judge),
        **options,
    )
    return found.run(folder), model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("constraints") / "run"
    report, model = evaluate(folder, prompts(4))
    return folder, report, model


def row_of(report, name):
    return next(row for row in report.tables["calls"] if row.contender == name)


def test_rows_are_known_by_their_fields(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in prompts(2)), encoding="utf-8")
    found = read_sets(str(file))
    assert [q.id for q in found.questions] == ["100", "101"]
    assert all(q.references == () and q.documents == () for q in found.questions)
    assert [c.id for c in found.questions[1].constraints] == [NO_COMMA, LONG]
    assert found.questions[1].constraints[1].parameters == AT_LEAST_3


def test_a_row_may_have_both_references_and_constraints():
    row = {**prompts(1)[0], "question": "Describe it.", "answer": "brass"}
    (both,) = read_sets([row]).questions
    assert (both.references, len(both.constraints)) == (("brass",), 1)
    (read,) = read_sets([row], shape="questions").questions
    assert (read.references, read.constraints) == (("brass",), ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kwargs": []}, "row 1"),
        ({"instruction_id_list": [], "kwargs": []}, "is empty"),
        ({"instruction_id_list": ["punctuation:no_colon"]}, "row 1: unknown kind"),
        ({"kwargs": [{"num_words": 3}]}, "row 1: punctuation:no_comma has the parameters"),
        ({"prompt": " "}, "there is no question"),
    ],
)
def test_a_damaged_row_is_named(change, message):
    with pytest.raises(UserError, match=message) as caught:
        read_sets([{**prompts(1)[0], **change}])
    assert caught.value.hint


def test_a_shape_that_was_named_is_demanded():
    with pytest.raises(UserError, match="there is no field instruction_id_list"):
        read_sets([{"question": "Where?", "answer": "here"}], shape="ifeval")
    with pytest.raises(UserError, match="there is no question"):
        read_sets(prompts(1), shape="questions")


def test_the_hash_of_a_set_counts_constraints_and_is_what_it_was_without():
    row = {"question": "Where?", "answer": "here"}
    plain = read_sets([{"id": "a", **row}])
    assert plain.hash == "b15dcb94f372684d3592ee69ff107617def75b248ee9e2d7dea7224976544cec"
    constrained = {"instruction_id_list": [NO_COMMA], "kwargs": [{}]}
    assert read_sets([{"id": "a", **row, **constrained}]).hash != plain.hash


def test_the_default_metrics_are_those_that_the_set_allows(run):
    _, report, _ = run
    assert tuple(row_of(report, "loop").means) == (*CONSTRAINT_METRICS, "words")
    assert report.primary == "strict_prompt"
    settings = report.config["evaluation"]
    assert (settings["primary"], settings["right"]) == ("strict_prompt", "strict_prompt")


def test_means_are_the_published_figures_of_all_four_kinds(run):
    _, report, _ = run
    asked = {q.id: q.constraints for q in read_sets(prompts(4)).questions}
    for row in report.tables["calls"]:
        accuracy = following_accuracy([follow(a.text, asked[a.id]) for a in row.answers])
        for name in CONSTRAINT_METRICS:
            assert row.means[name] == pytest.approx(getattr(accuracy, name)), (row.contender, name)
    # Six instructions: of "small, bright" none is followed, of the loop's last response all.
    assert row_of(report, "retrieve").means["strict_instruction"] == 0.0
    assert row_of(report, "loop").means["strict_instruction"] == 1.0
    assert report.weights["strict_instruction"] == {"100": 1.0, "101": 2.0, "102": 1.0, "103": 2.0}


def test_statistics_and_turning_points_are_those_of_every_metric(run):
    _, report, _ = run
    found = next(
        c
        for c in report.comparisons
        if (c.contender, c.metric, c.budget) == ("retrieve", "loose_instruction", "calls")
    )
    result = found.result
    assert (result.difference, result.low, result.high) == pytest.approx((1.0, 1.0, 1.0))
    _, second, third = report.turning
    assert (second.turned_right, second.turned_wrong, third.turned_right) == (4, 0, 0)
    assert second.means["strict_instruction"] == 1.0


def test_nobody_reads_of_documents_and_nothing_is_retrieved(run):
    folder, report, model = run
    roles = {request.role for request in model.requests}
    assert {"contender.direct", "student.respond", "teacher.ask", "student.reflect"} <= roles
    for request in model.requests:
        said = "".join(segment.text for segment in request.segments)
        assert "document" not in said.lower(), (request.role, said)
        assert "few words" not in said
    said = [r.segments[-1].text for r in model.requests if r.role == "contender.direct"]
    assert sorted(said) == [f"Describe lamp {n} without a comma." for n in range(4)]
    items = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["context"] == [] for line in items)
    assert report.matrices.loops == 4
    assert {level.level for level in report.matrices.levels} == {level.name for level in LEVELS}


def test_the_judge_is_told_what_a_good_response_does(tmp_path):
    seen = []

    def looks(task):
        seen.append(task)
        return judge(task)

    evaluate(tmp_path / "run", prompts(1), grader=looks)
    assert {task.rubric for task in seen} == {RUBRIC, *(level.rubric for level in LEVELS)}
    assert all(task.passages == () and task.unsupported == () for task in seen)


def test_levels_and_prompts_of_ones_own_stay():
    own = Level(name="tone", description="asks about the tone")
    config = LoopConfig(
        levels=(DEFAULT_LEVELS[0], own, DEFAULT_LEVELS[3].model_copy(update={"rubric": "Mine."})),
        prompts={"student.answer": "Mine: {question}"},
    )
    found = config_without_documents(config)
    assert found.level_names == config.level_names
    assert found.levels == (LEVELS[0], own, config.levels[2])
    prompts = prompts_without_documents(with_contenders(PromptSet.for_loop(config)), config)
    assert prompts.texts["student.answer"] == "Mine: {question}"
    assert "document" not in prompts.texts["teacher.ask"]


def test_a_judge_that_speaks_reads_of_no_documents(tmp_path):
    def verdict(request):
        return "Fine.\nScore: 7" if request.role == "teacher.grade" else speak(request)

    model = ScriptedModel(verdict, name="scripted")
    evaluate(tmp_path / "run", prompts(1), model=model, grader=None)
    said = [r.segments[-1].text for r in model.requests if r.role == "teacher.grade"]
    assert said and all("document" not in text for text in said)
    assert any(RUBRIC in text for text in said)


def test_no_contender_is_told_how_it_is_verified():
    row = {**prompts(1)[0], "prompt": "Describe a lamp."}
    (question,) = read_sets([row]).questions
    assert NO_COMMA not in question.question
    assert set(AskedQuestion.model_fields) == {"id", "text", "context"}


def test_a_prompt_reads_documents_where_some_are_named(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("Lamp 0 is made of brass and burns oil.", encoding="utf-8")
    settings = config(contenders=["loop"]).model_copy(update={"documents": [str(notes)]})
    _, model = evaluate(tmp_path / "run", prompts(1), settings)
    first = next(r for r in model.requests if r.role == "student.respond")
    said = "".join(segment.text for segment in first.segments)
    assert "burns oil" in said and "documents above" in said


def test_sets_of_both_kinds_are_measured_each_by_its_own(tmp_path):
    def both(request):
        text = "".join(segment.text for segment in request.segments)
        return speak(request) if "lamp" in text else contending.speak(request)

    mixed = [*contending.rows(2), *prompts(2)]
    report, _ = evaluate(tmp_path / "run", mixed, model=ScriptedModel(both, name="scripted"))
    assert set(row_of(report, "loop").means) == {*REFERENCE_METRICS, *CONSTRAINT_METRICS}
    bell, _, lamp, _ = row_of(report, "loop").answers
    assert "f1" in bell.values and "strict_prompt" not in bell.values
    assert "groundedness" in bell.values and "groundedness" not in lamp.values
    assert "f1" not in lamp.values and lamp.values["strict_prompt"] == 1.0
    f1 = next(c for c in report.comparisons if c.metric == "f1")
    assert f1.result.rows == 2
    assert "claims rest on f1, which says something of 2 of 4 questions only" in report.warnings
    # Turned right is said by exact match here, which says nothing of lamps.
    assert max(p.turned_right for p in report.turning) <= 2


def test_a_metric_that_nothing_in_the_set_allows_is_an_error(tmp_path):
    with pytest.raises(UserError, match="the metric bleu needs references") as caught:
        evaluate(tmp_path / "run", prompts(1), config(metrics=["bleu"]))
    assert "evaluation.metrics" in caught.value.hint
    with pytest.raises(UserError, match="groundedness needs documents"):
        evaluate(tmp_path / "run", prompts(1), config(metrics=["groundedness"]))
    with pytest.raises(UserError, match="loose_prompt needs constraints"):
        evaluator(settings=config(metrics=["loose_prompt"])).run(tmp_path / "other")


def test_the_trial_of_the_judge_skips_what_needs_references_and_says_so(tmp_path):
    settings = config(contenders=["retrieve", "loop"], judge=True)
    report, _ = evaluate(tmp_path / "run", prompts(4), settings)
    found = report.judge
    assert (found.separations, found.cases, found.questions) == ((), (), 4)
    assert any("separation, padding, wording and length" in note for note in found.notes)
    assert found.calibrated_on == "answers"
    assert found.judgements > 0
    of = {c.of: c.rho for c in found.agreement}
    assert of["G and strict_prompt"] == pytest.approx(1.0)
    mixed = [*contending.rows(2), *prompts(2)]
    report, _ = evaluate(tmp_path / "mixed", mixed, settings)
    assert report.judge.questions == 2
    assert any(note.startswith("2 questions without") for note in report.judge.notes)


def test_a_judge_that_says_the_same_to_everything_is_caught_without_references(tmp_path):
    settings = config(contenders=["retrieve", "loop"], judge=True)
    report, _ = evaluate(tmp_path / "run", prompts(4), settings, grader=lambda task: 0.5)
    assert report.judge.collapsed
    assert any("says the same to everything" in verdict for verdict in report.judge.verdicts)


def test_it_is_resumed_and_compared(run, tmp_path):
    folder, report, _ = run
    silent = ScriptedModel(lambda request: pytest.fail("asked again"), name="scripted")
    again, _ = evaluate(folder, prompts(4), model=silent)
    assert again.tables == report.tables and again.weights == report.weights
    assert len(AnswerStore(folder / "answers.jsonl")) == 20
    few, _ = evaluate(tmp_path / "few", prompts(3))
    compared = compare_reports(few, report)
    assert (compared.primary, compared.right, compared.rows) == ("strict_prompt",) * 2 + (3,)
    assert {c.result.difference for c in compared.changes} == {0.0}


def test_command_page_and_comparison(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "120")
    real = Evaluator

    def with_scripts(settings):
        model = ScriptedModel(speak, name="scripted")
        parts = {"teacher": model, "student": model, "embedder": HashingEmbedder()}
        return real(settings, grader=judge, **parts)

    monkeypatch.setattr("reflectory.evaluator.Evaluator", with_scripts)
    file, yaml = tmp_path / "set.jsonl", tmp_path / "run.yaml"
    file.write_text("".join(json.dumps(row) + "\n" for row in prompts(3)), encoding="utf-8")
    yaml.write_text(config(contenders=["direct", "loop"]).to_yaml(), encoding="utf-8")
    options = ["evaluate", "-c", str(yaml), "--set", str(file), "--shape", "ifeval", "-o"]
    assert run_command([*options, str(tmp_path / "run")]) == DONE
    out = " ".join(capfd.readouterr().out.split())
    assert "claims rest on strict_prompt" in out
    assert "strict_instruction and loose_instruction: means over instructions." in out
    assert "that can be measured so" not in out  # all questions have constraints
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Demanded:" in page and "number words (3; at least)" in page
    assert 'id="anytime"' in page
    assert run_command([*options, str(tmp_path / "later"), "--rows", "1-2", "-q"]) == DONE
    pair = [str(tmp_path / "run"), str(tmp_path / "later")]
    assert run_command(["evaluate", "--compare", *pair]) == DONE
    assert "strict_prompt" in capfd.readouterr().out
    # What is saved with its default metrics is read as it was meant.
    saved = RunConfig.load(tmp_path / "run/config.yaml")
    assert saved.evaluation.primary == "strict_prompt"


def test_check_says_what_does_not_fit(tmp_path, monkeypatch, capfd):
    file, yaml = tmp_path / "set.jsonl", tmp_path / "run.yaml"
    file.write_text(json.dumps(prompts(1)[0]) + "\n", encoding="utf-8")
    settings = config(sets=[str(file)], metrics=["rougeL"])
    yaml.write_text(settings.to_yaml(), encoding="utf-8")
    assert run_command(["check", "-c", str(yaml), "--no-grader"]) == FAILED
    assert "the metric rougeL needs references" in " ".join(capfd.readouterr().out.split())


def test_the_page_of_a_mixed_set_says_of_each_question_what_is_measured(tmp_path):
    def both(request):
        text = "".join(segment.text for segment in request.segments)
        return speak(request) if "lamp" in text else contending.speak(request)

    mixed = [*contending.rows(1), *prompts(1)]
    settings = config(contenders=["direct", "loop"])
    model = ScriptedModel(both, name="scripted")
    report, _ = evaluate(tmp_path / "run", mixed, settings, model=model)
    page = write_report_page(tmp_path / "run", report).read_text(encoding="utf-8")
    bell, lamp = page.split('<details class="q"')[1:]
    assert "0 of 2 right" in bell and "f1 0.000" in bell and "Demanded" not in bell
    assert "of 2 right" not in lamp and "strict_prompt 1.000" in lamp and "Demanded" in lamp


def test_references_and_constraints_need_no_documents(tmp_path):
    rows = [{**row, "answer": "brass"} for row in prompts(2)]
    report, _ = evaluate(tmp_path / "run", rows)
    assert tuple(row_of(report, "loop").means) == (
        *(name for name in REFERENCE_METRICS[:-1] if name != "groundedness"),
        *CONSTRAINT_METRICS,
        "words",
    )
    assert report.matrices.flags == {}  # nothing was to be found, so nothing is missing


def test_a_text_that_a_constrained_row_brings_is_its_own():
    row = {**prompts(1)[0], "prompt": "Summarise the document.", "document": "The ship sank."}
    found = read_sets([row, {"question": "Where?", "answer": "here", "support": "It is here."}])
    assert [d.text for d in found.questions[0].documents] == ["The ship sank."]
    assert [d.text for d in found.pool] == ["It is here."]


@pytest.mark.parametrize("turned", [False, True])
def test_the_judge_is_tried_on_the_larger_kind_in_any_order(tmp_path, turned):
    rows = [{**row, "answer": "brass"} for row in prompts(3)]
    rows[0]["documents"] = [{"title": "A", "text": "The lamp is of brass."}]
    settings = config(contenders=["retrieve", "loop"], judge=True)
    report, _ = evaluate(tmp_path / "run", rows[::-1] if turned else rows, settings)
    assert {case.id for case in report.judge.cases} == {"101", "102"}
    assert any("1 questions" in note for note in report.judge.notes)
