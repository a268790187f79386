"""``reflectory dataset``: runs, candidates and rows of people into every format, and the hub."""

import json

import pytest
from test_cli import output_of
from test_rows import cell, response, trajectory

from reflectory.cli.common import DONE, USAGE
from reflectory.config import LoopConfig, RunConfig
from reflectory.runs import RunDirectory
from reflectory.training import read_dataset
from reflectory.training.dataset_columns import COLUMNS
from reflectory.types.practice import Candidate, CandidateSet


def loop(name="t0", **changes):
    return trajectory(
        response(0, "It is old.", 0.2),
        response(1, "It is 2 million years old.", 0.9, context=("alpha", "beta", "gamma")),
        cells=[
            cell("What is alpha?", "A crater of the moon.", 0.8),
            cell("What is beta?", "No idea at all.", 0.1),
        ],
        name=name,
        **changes,
    )


def write_run(path, *loops, config=None):
    identity = {"documents": "abc", "models": {}}
    with RunDirectory.open(path, config or RunConfig(), identity=identity) as run:
        for one in loops:
            run.record(one)
    return path


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", loop())


def candidates(text="A lunar crater.", score=0.95):
    return CandidateSet(
        trajectory="t0",
        what="answer",
        level="basic",
        question="What is alpha?",
        context=(),
        candidates=(
            Candidate(text=text, origin="teacher", score=score, grader="rule", agreement=0.5),
            Candidate(text="A ship.", origin="sample", score=0.1, grader="rule"),
        ),
        chosen=0,
    )


@pytest.mark.parametrize(
    ("format", "rows"),
    [("sft", 2), ("dpo", 1), ("kto", 4), ("feedback", 4), ("prompts", 4), ("grpo", 4)],
)
@pytest.mark.parametrize(("style", "file_format"), [("chat", "datasets"), ("plain", "parquet")])
def test_every_format(capfd, run, tmp_path, format, rows, style, file_format):
    given = ["--format", format, "--style", style, "--file-format", file_format, "--json"]
    code, out, err = output_of(capfd, ["dataset", run, "-o", tmp_path / "set", *given])
    assert code == DONE, err
    result = json.loads(out)
    assert (result["rows"], result["sources"], result["pushed"]) == (rows, {"self": rows}, "")
    read = read_dataset(tmp_path / "set")
    assert len(read.rows) == rows and read.manifest.file_format == file_format
    card = (tmp_path / "set" / "README.md").read_text()
    assert all(f"`{name}`" in card for name in COLUMNS[read.format])
    assert "refused" in card
    rule = {
        "kto": "desirable when its score is at least 0.5, and undesirable below 0.4",
        "feedback": "leads by at least 0.1",
        "prompts": "Every question that was answered",
    }
    assert rule.get(read.format, "A trajectory's best response") in card


def test_candidates_and_rows_of_a_person_join_with_their_source(capfd, run, tmp_path):
    (tmp_path / "candidates.jsonl").write_text(candidates().model_dump_json() + "\n")
    (tmp_path / "mine.csv").write_text("question,answer\nWho?,Ada.\nWhen?,In 1843.\n")
    given = ["--candidates", tmp_path / "candidates.jsonl", "--manual", tmp_path / "mine.csv"]
    code, out, err = output_of(capfd, ["dataset", run, "-o", tmp_path / "set", *given])
    assert code == DONE, err
    assert "4 rows (1 distilled, 2 manual, 1 self)" in out
    rows = read_dataset(tmp_path / "set").training_rows()
    assert [r.completion[0].content for r in rows][1:] == ["A lunar crater.", "Ada.", "In 1843."]
    assert rows[2].prompt[0].content == rows[0].prompt[0].content  # the student's own prompt
    code, out, _ = output_of(
        capfd, ["dataset", run, "-o", tmp_path / "set", *given, "--share", "manual=0.34"]
    )
    assert code == DONE and "3 rows (1 distilled, 1 manual, 1 self)" in out


def test_rows_of_a_person_alone_need_no_run(capfd, tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Who?", "completion": "Ada."}\n')
    code, _, err = output_of(
        capfd, ["dataset", "--manual", tmp_path / "mine.jsonl", "-o", tmp_path / "set"]
    )
    assert code == DONE, err
    manifest = read_dataset(tmp_path / "set").manifest
    assert (manifest.kinds, manifest.counts, manifest.trajectories) == ({"manual": 1}, None, 0)


def test_no_row_holds_a_question_that_is_measured_on(capfd, run, tmp_path):
    question = {"question": "What is alpha?", "answer": "A crater of the moon."}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(question))
    code, _, err = output_of(
        capfd,
        ["dataset", run, "-o", tmp_path / "set", "--held-out", tmp_path / "held_out.jsonl"],
    )
    assert code == DONE, err
    rows = read_dataset(tmp_path / "set").training_rows()
    assert [r.completion[0].content for r in rows] == ["It is 2 million years old."]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--format", "csv"], "choose one of sft, dpo, kto, feedback, prompts, grpo"),
        (["--style", "verse"], "chat, plain"),
        (["--file-format", "pickle"], "jsonl, parquet, datasets"),
        (["--candidates", "missing.jsonl"], "missing.jsonl"),
        (["--manual", "missing.csv"], "missing.csv"),
        (["--held-out", "missing.jsonl"], "missing.jsonl"),
        (["--share", "manual"], "manual=0.3"),
        (["--share", "manual=2"], "share of 2.0"),
        (["--format", "kto", "--undesirable-below", "0.9"], "overlap"),
        (["--minimum-grade", "2"], "minimum_grade"),
        (["--minimum-grade", "1", "--minimum-score", "1"], "below_minimum_grade"),
        (["--format", "feedback", "--manual", "missing.csv"], "no manual rows"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(capfd, monkeypatch, run, tmp_path, given, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = output_of(capfd, ["dataset", run, "-o", "set", *given])
    assert code == USAGE and says in err and "Traceback" not in err and out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_nothing_to_make_rows_of(capfd, tmp_path):
    code, _, err = output_of(capfd, ["dataset", "-o", tmp_path / "set"])
    assert code == USAGE and "--manual" in err


def test_a_broken_line_of_candidates_is_named(capfd, run, tmp_path):
    good = candidates().model_dump_json()
    (tmp_path / "c.jsonl").write_text(good + "\n\n" + good.replace('"score":0.95', '"score":7'))
    code, _, err = output_of(
        capfd, ["dataset", run, "-o", tmp_path / "set", "--candidates", tmp_path / "c.jsonl"]
    )
    assert code == USAGE and "line 3" in err and "score" in err


def test_runs_with_other_prompts_do_not_mix(capfd, run, tmp_path):
    prompts = {"student.answer": "Now answer: {question}"}
    other = write_run(
        tmp_path / "other", loop("t1"), config=RunConfig(loop=LoopConfig(prompts=prompts))
    )
    code, _, err = output_of(capfd, ["dataset", run, other, "-o", tmp_path / "set"])
    assert code == USAGE and "different prompts" in err


def test_pushing_needs_a_token(capfd, monkeypatch, run, tmp_path):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    code, _, err = output_of(
        capfd, ["dataset", run, "-o", tmp_path / "set", "--push", "ada/rows", "--private"]
    )
    assert code == USAGE and "token" in err and "hf auth login" in err
    assert read_dataset(tmp_path / "set").rows  # the data set itself is there
