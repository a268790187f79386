"""``reflectory evaluate``: what it prints and writes, comparing, checking, exit codes."""

import json

import contending
import pytest

from reflectory.cli.common import DONE, USAGE
from reflectory.cli.main import run_command
from reflectory.evaluator import Evaluator
from reflectory.testing.embedder import HashingEmbedder


@pytest.fixture(autouse=True)
def _scripts_instead_of_models(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def with_scripts(config):
        student = contending.model()
        return Evaluator(
            config,
            teacher=student,
            student=student,
            embedder=HashingEmbedder(),
            grader=contending.judge,
        )

    monkeypatch.setattr("reflectory.evaluator.Evaluator", with_scripts)


@pytest.fixture
def options(tmp_path):
    questions = tmp_path / "set.jsonl"
    lines = [json.dumps(row) + "\n" for row in contending.rows(4)]
    questions.write_text("".join(lines), encoding="utf-8")
    file = tmp_path / "run.yaml"
    settings = contending.config(sets=["set.jsonl"], contenders=["retrieve", "loop"])
    file.write_text(settings.to_yaml(), encoding="utf-8")
    return ["-c", file, "-o", tmp_path / "run"]


def said(capfd, *arguments, verb="evaluate"):
    code = run_command([verb, *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_it_prints_tables_and_writes_report_and_page(capfd, options, tmp_path):
    code, out, err = said(capfd, *options, "--rows", "1-3", "--no-judge")
    assert code == DONE, err
    assert "retrieve" in out and "loop" in out and "only 3 questions" in " ".join(out.split())
    assert "6/6" in err
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"evaluation.json", "answers.jsonl", "items.jsonl", "report.html"} <= names
    assert "bell number 0" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    again = said(capfd, *options, "--rows", "1-3", "--no-judge", "--no-page")
    assert again[0] == DONE
    assert again[1].splitlines()[2:9] == out.splitlines()[2:9]


def test_json_is_the_whole_report(capfd, options):
    code, out, err = said(
        capfd, *options, "--contenders", "direct, loop", "--metrics", "f1,words", "--json", "-q"
    )
    assert (code, err) == (DONE, "")
    report = json.loads(out)
    assert [row["contender"] for row in report["tables"]["calls"]] == ["direct", "loop"]
    assert set(report["tables"]["calls"][0]["means"]) == {"f1", "words", "exact_match"}
    assert report["rows"] == 4


def test_two_evaluations_are_compared(capfd, options, tmp_path):
    assert said(capfd, *options, "-q")[0] == DONE
    other = [*options[:-1], tmp_path / "later"]
    assert said(capfd, *other, "-q", "--rows", "1-3")[0] == DONE
    code, out, _ = said(capfd, "--compare", tmp_path / "run", tmp_path / "later")
    assert code == DONE and "loop" in out
    code, out, _ = said(capfd, "--compare", tmp_path / "run", tmp_path / "later", "--json")
    assert code == DONE and json.loads(out)
    code, _, err = said(capfd, "--compare", tmp_path / "run", tmp_path / "nowhere")
    assert code == USAGE and "cannot read the evaluation" in err
    (tmp_path / "wrong.json").write_text("{}", encoding="utf-8")
    code, _, err = said(capfd, "--compare", tmp_path / "wrong.json", tmp_path / "run")
    assert code == USAGE and "no report of an evaluation" in err


def test_mistakes_are_usage_errors(capfd, options, tmp_path):
    assert said(capfd, "-c", options[1])[0] == USAGE
    for extra in (["--contenders", "nobody"], ["--rows", "9-12"], ["--metrics", "beauty"]):
        code, _, err = said(capfd, *options, *extra)
        assert code == USAGE and "->" in err
    code, _, err = said(capfd, *options, "--set", tmp_path / "none.jsonl")
    assert code == USAGE and "cannot read the set" in err


def test_check_looks_at_the_evaluation(capfd, options, tmp_path):
    code, out, _ = said(capfd, "-c", options[1], "--json", verb="check")
    found = {f["part"]: f for f in json.loads(out)}
    assert found["evaluation"]["state"] == "warning"
    assert "4 questions, 2 contenders" in found["evaluation"]["detail"]
    (tmp_path / "set.jsonl").unlink()
    code, out, _ = said(capfd, "-c", options[1], "--json", verb="check")
    found = {f["part"]: f for f in json.loads(out)}
    assert found["evaluation"]["state"] == "problem" and code == 1
