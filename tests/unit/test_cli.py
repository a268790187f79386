"""The command line: exit codes, one clear message per mistake, and results for machines."""

import json
import subprocess
import sys

import pytest

import reflectory
from reflectory.cli.common import DONE, FAILED, INTERRUPTED, USAGE
from reflectory.cli.main import app, run_command


def output_of(capfd, arguments):
    code = run_command([str(a) for a in arguments])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


VERBS = [
    "demo",
    "check",
    "plan",
    "index",
    "run",
    "dataset",
    "train",
    "improve",
    "evaluate",
    "export",
]
VERBS += ["cache", "report", "show", "trace", "models"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(capfd, verb):
    code, out, _ = output_of(capfd, [verb, "--help"])
    assert code == DONE
    if verb != "models":
        assert "Example:" in out and f"reflectory {verb}" in out
        assert "--json" in out


def test_help_lists_every_verb_and_is_quick(capfd):
    code, out, _ = output_of(capfd, ["--help"])
    assert code == DONE and all(verb in out for verb in VERBS)
    assert {c.name for c in app.registered_commands} | {"models"} == set(VERBS)


def test_the_version_is_that_of_the_package(capfd):
    assert run_command(["--version"]) == 0
    assert capfd.readouterr().out == f"reflectory {reflectory.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "-o", "x"], "no documents were named"),
        (["run", "-o", "x", "-d", "d"], "no instructions were named"),
        (["run", "-o", "x", "-d", "d", "-i", "a", "--instructions", "f"], "both"),
        (["run", "-o", "x", "-d", "d", "-i", "a", "--epsilon", "-1"], "epsilon"),
        (["run", "-o", "x", "-d", "d", "-i", "a", "--max-iterations", "0"], "max_iterations"),
        (["run", "-c", "missing.yaml", "-o", "x"], "missing.yaml"),
        (["trace", "runs/first"], "`reflectory show runs/first` lists their ids"),
        (["improve", "-o", "x"], "give --documents FOLDER"),
        (["dataset", "missing-run", "-o", "x"], "missing-run"),
        (["train", "missing-data", "-o", "x"], "missing-data"),
        (["models", "pull", "--model", "moon"], "moon"),
        (["no-such-verb"], "no-such-verb"),
        (["run", "--no-such-option"], "no-such-option"),
    ],
)
def test_a_mistake_of_the_user_is_one_clear_message_and_exit_code_2(
    capfd, monkeypatch, tmp_path, arguments, says
):
    monkeypatch.chdir(tmp_path)
    code, out, err = output_of(capfd, arguments)
    assert code == USAGE
    assert says in err and "Traceback" not in err and out == ""
    assert not (tmp_path / "x").exists()


def test_every_problem_of_a_configuration_is_reported_at_once(capfd, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "loop: {epsilon: 0, max_iterations: -2, levels: [{name: a, description: b},"
        " {name: a, description: c}]}\nconcurrency: 0\nsurprise: 1\n"
    )
    code, _, err = output_of(capfd, ["check", "-c", file])
    assert code == USAGE
    for field in ("loop.epsilon", "loop.max_iterations", "loop.levels", "concurrency", "surprise"):
        assert field in err


def test_check_reports_what_is_wrong_without_stopping_at_the_first(capfd, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "documents: [nowhere]\n"
        "instructions: missing.txt\n"
        "loop: {prompts: {student.answer: hello}}\n"
    )
    code, out, _ = output_of(capfd, ["check", "-c", file, "--json"])
    findings = {f["part"]: f for f in json.loads(out)}
    assert code == FAILED
    for part in ("prompts", "instructions", "documents"):
        assert findings[part]["state"] == "problem", part
    assert "{question}" in findings["prompts"]["detail"]


def test_models_list_shows_both_sources(capfd):
    code, out, _ = output_of(capfd, ["models", "list", "--json"])
    rows = json.loads(out)
    assert code == DONE
    assert {(r["kind"], r["source"]) for r in rows} == {
        (kind, source) for kind in ("language", "embedding") for source in ("hub", "package")
    }


def test_a_bug_keeps_its_traceback():
    code = (
        "from reflectory.cli import main, models\n"
        "import reflectory.models.defaults as d\n"
        "def broken(): raise RuntimeError('a bug')\n"
        "d.list_models = broken\n"
        "main.run_command(['models', 'list'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1 and "Traceback" in result.stderr and "a bug" in result.stderr


def test_ctrl_c_says_that_work_is_kept(capfd, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("reflectory.models.defaults.list_models", interrupt)
    code, _, err = output_of(capfd, ["models", "list"])
    assert code == INTERRUPTED and "kept" in err
