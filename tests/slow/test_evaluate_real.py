"""Evaluations with the default model: packaged questions, and prompts without references."""

import pytest

from reflectory.config import RunConfig
from reflectory.demo.story import data_folder
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport
from reflectory.evaluator import Evaluator

pytestmark = pytest.mark.slow

CONTENDERS = ("direct", "retrieve", "best_of_n", "self_consistency", "loop")


def test_contenders_of_the_default_model_share_a_budget(tmp_path):
    config = RunConfig(
        documents=(str(data_folder() / "documents"),),
        loop={
            "max_iterations": 1,
            "levels": [{"name": "basic", "description": "asks for a fact", "starters": ["What"]}],
            "sampling": {"question_tokens": 16, "answer_tokens": 16, "response_tokens": 16},
        },
        evaluation={
            "sets": [str(data_folder() / "held_out.jsonl")],
            "rows": "1-2",
            "contenders": CONTENDERS,
            "judge": False,
            "resamples": 200,
        },
    )
    report = Evaluator(config).run(tmp_path / "run")
    assert report.rows == 2
    lines = (tmp_path / "run/answers.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [ContenderAnswer.model_validate_json(line) for line in lines]
    assert not [answer.failure for answer in answers if answer.failure]
    spent = {a.id: a.attempts[-1] for a in answers if a.contender == "loop"}
    for budget, rows in report.tables.items():
        assert [row.contender for row in rows] == list(CONTENDERS)
        for row in rows:
            assert row.missing == 0
            for answer in row.answers:
                assert 0 < getattr(answer, budget) <= getattr(spent[answer.id], budget)
    first = {a.id: a.attempts[0] for a in answers if a.contender == "loop"}
    for answer in answers:  # R_0 is the same text at the same cost, whoever asks for it
        if answer.contender == "retrieve":
            assert answer.attempts[0].text == first[answer.id].text
            assert answer.attempts[0].tokens == first[answer.id].tokens
    # Everything was recorded: the same again asks no model and finds the same.
    again = Evaluator(config).run(tmp_path / "run")
    assert again.tables == report.tables
    text = (tmp_path / "run/evaluation.json").read_text(encoding="utf-8")
    assert EvaluationReport.model_validate_json(text) == again


def test_prompts_without_references_and_documents(tmp_path):
    rows = [
        {
            "key": number,
            "prompt": prompt,
            "instruction_id_list": [kind],
            "kwargs": [parameters],
        }
        for number, (prompt, kind, parameters) in enumerate(
            [
                ("Name a fruit. Do not use any commas.", "punctuation:no_comma", {}),
                (
                    "Write a short greeting that contains the word lighthouse.",
                    "keywords:existence",
                    {"keywords": ["lighthouse"]},
                ),
                (
                    "Write one sentence about rain in capital letters only.",
                    "change_case:english_capital",
                    {},
                ),
            ]
        )
    ]
    config = RunConfig(
        loop={
            "max_iterations": 1,
            "sampling": {"question_tokens": 24, "answer_tokens": 16, "response_tokens": 24},
            "revision": {"drafts": 1, "fresh": 0},
        },
        evaluation={"contenders": ("direct", "self_refine", "loop"), "resamples": 200},
    )
    report = Evaluator(config, questions=rows).run(tmp_path / "run")
    lines = (tmp_path / "run/answers.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [ContenderAnswer.model_validate_json(line) for line in lines]
    assert not [answer.failure for answer in answers if answer.failure]
    assert report.primary == "strict_prompt"
    for row in report.tables["calls"]:
        for answer in row.answers:
            strict, loose = (answer.values[f"{how}_prompt"] for how in ("strict", "loose"))
            assert strict in (0.0, 1.0) and strict <= loose
    # The default model asks questions of a response alone, in most cells at least.
    assert report.matrices.failed_cells <= report.matrices.cells / 2
    assert report.judge.separations == () and report.judge.agreement
    assert "has a reference" in report.judge.notes[0]
