"""An evaluation with the default model: two packaged questions, four contenders."""

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
