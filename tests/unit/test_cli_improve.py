"""``reflectory improve``: what it prints, how reviews are answered, and its exit codes."""

import json

import improving
import pytest

from reflectory.cli.common import DONE, FAILED, USAGE
from reflectory.cli.main import run_command
from reflectory.evaluation import general


@pytest.fixture(autouse=True)
def _rounds_of_a_tiny_student(monkeypatch, tmp_path_factory):
    """Let the verb make its rounds with doubles where a configuration names real models."""
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "0")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(general, "general_instructions", general.general_instructions)
    monkeypatch.setattr(general, "ANSWER_TOKENS", general.ANSWER_TOKENS)
    improving.few_general_instructions()
    real = improving.SelfImprovement

    def with_doubles(output, config=None):
        return real(
            output,
            config,
            documents=improving.WORLD.documents(),
            teacher=improving.teacher(),
            embedder=improving.ConstantEmbedder(),
            grader=improving.judge,
        )

    monkeypatch.setattr("reflectory.improvement.SelfImprovement", with_doubles)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a configuration file and a run of one promoted round."""
    folder = tmp_path_factory.mktemp("cli")
    improving.prepare(folder)
    file = folder / "run.yaml"
    file.write_text(improving.settings(folder).to_yaml(), encoding="utf-8")
    return folder


@pytest.fixture
def run(made, tmp_path):
    """Return where a run goes, and the options that name it and its configuration."""
    return tmp_path / "run", ["-c", made / "run.yaml", "-o", tmp_path / "run"]


def said(capfd, *arguments):
    code = run_command(["improve", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_rounds_from_a_file_then_listed_and_restored(capfd, run):
    folder, options = run
    code, out, err = said(capfd, *options, "--json")
    result = json.loads(out)
    assert code == DONE and result["current"] == 1 and result["seconds"] > 0
    assert [r["decision"] for r in result["rounds"]] == ["promoted"]
    assert "round 0: Training an adapter" in err and "round 0 promoted" in err
    code, out, err = said(capfd, *options)
    assert code == DONE and "Training" not in err  # the same command again: nothing to do
    assert "promoted" in out and "0.000 -> " in out and "note: only 8 held-out" in out
    assert str(folder / "rounds/000/adapter") in out
    code, out, _ = said(capfd, "--list", folder)
    assert code == DONE and "rounds/000/adapter" in out and "1 *" in out
    code, out, err = said(capfd, "--restore", 0, folder, "--json")
    assert code == DONE and json.loads(out)["current"] == 0 and "Student 0" in err
    code, out, _ = said(capfd, folder, "--list")
    assert "the base itself" in out and "0 *" in out


def test_a_review_without_a_terminal_waits_and_is_answered_by_an_option(capfd, run, made):
    folder, options = run
    config = improving.settings(made, improvement__review=("rows",))
    (folder.parent / "review.yaml").write_text(config.to_yaml(), encoding="utf-8")
    options = ["-c", folder.parent / "review.yaml", "-o", folder]
    code, out, err = said(capfd, *options, "--quiet")
    assert code == FAILED and "--approve rows" in err and "rounds/000/dataset" in err
    code, out, _ = said(capfd, *options, "--refuse", "rows", "--json")
    result = json.loads(out)
    assert code == DONE and result["rounds"][0]["reviews"] == {"rows": False}
    assert result["current"] == 0


def test_a_failed_round_is_exit_code_1_and_can_be_made_again(capfd, run, made):
    folder, options = run
    bad = folder.parent / "bad.yaml"
    text = (made / "run.yaml").read_text()
    assert "  learning_rate: 0.02" in text
    bad.write_text(text.replace("  learning_rate: 0.02", "  learning_rate: 1.0e+30"))
    code, out, _ = said(capfd, "-c", bad, "-o", folder)
    assert code == FAILED and "failed" in out
    code, out, _ = said(capfd, *options, "--retry-failed", "--json")
    assert code == DONE and json.loads(out)["current"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no run directory"),
        (["x", "-o", "y"], "two run directories"),
        (["--list", "nowhere"], "no run of rounds"),
        (["--restore", "3", "nowhere"], "no run of rounds"),
        (["-o", "x", "--approve", "grades"], "there is no review of grades"),
        (["-o", "x", "--approve", "rows", "--refuse", "rows"], "both approved and refused"),
        (["-o", "x", "--rounds", "0"], "improvement.rounds"),
        (["-o", "x", "--held-out", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(capfd, monkeypatch, tmp_path, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reflectory.improvement.facade.base_named", lambda student, base: "x")
    code, out, err = said(capfd, *arguments)
    assert code == USAGE and says in err and out == "" and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
