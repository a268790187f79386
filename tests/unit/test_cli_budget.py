"""Budgets on the command line, of evaluations and of rounds: exit code 3, and on with more."""

import json

import contending
import improving
import pytest
from worlds import world_loop

from reflectory.cli.budget import spent_line
from reflectory.cli.common import DONE
from reflectory.cli.main import run_command
from reflectory.config import BudgetConfig
from reflectory.errors import BudgetSpent
from reflectory.evaluator import Evaluator
from reflectory.runs.manifest import Manifest
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.world import SyntheticWorld

SPENT = 3


@pytest.fixture
def said(monkeypatch, capfd, tmp_path):
    """Return what runs ``reflectory run`` in a synthetic world, with options."""
    world = SyntheticWorld(levels=2)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        "reflectory.cli.run.loop_from", lambda config: world_loop(world, max_iterations=1)
    )
    file = tmp_path / "asked.txt"
    file.write_text("".join(f"What is known of case {n}?\n" for n in range(4)))

    def run(*options):
        run = [
            "-d",
            tmp_path,
            "--instructions",
            file,
            "--max-iterations",
            1,
            "-o",
            tmp_path / "run",
        ]
        code = run_command(["run", *map(str, [*run, *options])])
        captured = capfd.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return run


def test_a_spent_budget_has_an_exit_code_of_its_own_and_says_how_to_go_on(said, tmp_path):
    code, _, err = said("--max-calls", 9)
    assert code == SPENT
    assert "BudgetSpent: the budget of 9 calls is spent: 9 calls" in err
    assert "raise budget.calls (--max-calls)" in err
    assert "everything is kept, and the same command goes on from here" in err
    code, out, err = said("--max-calls", 1000, "--max-tokens", 10**6)
    assert code == DONE, err
    assert "Spent:" in out and "; left: " in out and "cost" not in err
    assert "calls, " in err and "tokens left)" in err  # behind a line of progress
    manifest = Manifest.load(tmp_path / "run" / "manifest.json")
    assert [s.budget for s in manifest.sessions] == [
        {"calls": 9},
        {"calls": 1000, "tokens": 10**6},
    ]
    assert manifest.finished and manifest.totals.spent["calls"] > 9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-calls", "0"], "budget.calls"),
        (["--max-cost", "-1"], "budget.cost"),
        (["--max-hours", "nan"], "budget.hours"),
        (["--max-cost", "1", "--prices", "missing.yaml"], "missing.yaml"),
    ],
)
def test_mistakes_in_a_budget_are_usage_errors(said, options, says):
    code, _, err = said(*options)
    assert code == 2 and says in err


def test_an_evaluation_stops_at_its_budget_and_goes_on_with_more(tmp_path):
    def evaluated(calls):
        student = contending.model()
        config = contending.config(contenders=["retrieve", "loop"], judge=False)
        made = Evaluator(
            config.model_copy(update={"budget": BudgetConfig(calls=calls), "concurrency": 1}),
            questions=contending.rows(3),
            teacher=student,
            student=student,
            embedder=HashingEmbedder(),
            grader=contending.judge,
        )
        return made, student

    made, student = evaluated(25)
    with pytest.raises(BudgetSpent):
        made.run(tmp_path / "run")
    assert len(student.requests) == 25
    lines = (tmp_path / "run" / "answers.jsonl").read_text().splitlines()
    assert lines and not any(json.loads(line)["failure"] for line in lines)
    made, later = evaluated(1000)
    report = made.run(tmp_path / "run")
    whole, alone = evaluated(1000)
    expected = whole.run(tmp_path / "whole")
    assert len(later.requests) + 25 == len(alone.requests)
    assert report.tables["calls"][0].means == expected.tables["calls"][0].means
    manifest = Manifest.load(tmp_path / "run" / "manifest.json")
    assert manifest.totals.spent["calls"] == len(alone.requests)


def test_rounds_stop_at_their_budget_and_no_round_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "0")  # its student is tiny and made here
    improving.prepare(tmp_path)
    stopped = improving.rounds(tmp_path, budget={"calls": 6})
    with pytest.raises(BudgetSpent):
        stopped.run()
    assert stopped.rounds() == ()
    manifest = Manifest.load(tmp_path / "run" / "manifest.json")
    assert manifest.totals.spent["calls"] == 6 and manifest.totals.spent["cost"] == 0.0
    with pytest.raises(BudgetSpent, match="12 calls is spent: 12 calls"):
        improving.rounds(tmp_path, budget={"calls": 12}).run()


def test_what_is_spent_in_words():
    manifest = Manifest(config={}, started="", updated="")
    assert spent_line(manifest) == ""
    spent = {"calls": 1200, "tokens": 5, "cost": None, "hours": 0.5}
    manifest = manifest.model_copy(
        update={"totals": manifest.totals.model_copy(update={"spent": spent})}
    )
    assert spent_line(manifest) == "Spent: 1,200 calls, 5 tokens, cost unknown, 0.50 hours."
