"""Where calibrations of the likelihood grader are kept, and what they are good for."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from grading import PROMPTS, by_overlap, passage, scoring

from reflectory.agents import PromptSet
from reflectory.agents.graders.cases import GradingCase, calibration_cases, packaged_cases
from reflectory.agents.graders.likelihood import SIGNALS, calibration_for
from reflectory.errors import IntegrityError
from reflectory.testing.models import ScriptedModel


def few() -> list[GradingCase]:
    chosen = sorted({case.group for case in packaged_cases()})[:4]
    return [case for case in packaged_cases() if case.group in chosen]


def test_a_calibration_is_made_once(tmp_path: Path) -> None:
    model = scoring(by_overlap)
    first = asyncio.run(calibration_for(model, PROMPTS, few(), tmp_path / "made"))
    asked = len(model.score_requests)
    assert asked > 0
    again = asyncio.run(calibration_for(model, PROMPTS, few(), tmp_path / "made"))
    assert again == first
    assert len(model.score_requests) == asked


def test_a_calibration_is_used_for_nothing_else(tmp_path: Path) -> None:
    one = few()[0]
    other_passages = (passage(1, "Something else."), *one.task.context[1:])
    variants = [
        (scoring(by_overlap), PROMPTS, few()),
        (scoring(by_overlap, name="another"), PROMPTS, few()),
        (scoring(by_overlap), PromptSet.with_replacements({"system": "Be brief."}), few()),
        (scoring(by_overlap), PromptSet.with_replacements({"student.answer": "{question}"}), few()),
        (scoring(by_overlap), PROMPTS, few()[:-1]),
        (scoring(by_overlap), PROMPTS, [replace(one, right=not one.right), *few()[1:]]),
        (
            scoring(by_overlap),
            PROMPTS,
            [replace(one, task=replace(one.task, context=other_passages)), *few()[1:]],
        ),
    ]
    for model, prompts, some_cases in variants:
        asyncio.run(calibration_for(model, prompts, some_cases, tmp_path))
        assert model.score_requests
    assert len(list(tmp_path.iterdir())) == len(variants)


def test_a_damaged_calibration_is_not_believed(tmp_path: Path) -> None:
    asyncio.run(calibration_for(scoring(by_overlap), PROMPTS, few(), tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(IntegrityError):
        asyncio.run(calibration_for(scoring(by_overlap), PROMPTS, few(), tmp_path))


def test_the_packaged_calibration_fits_the_packaged_cases_prompts_and_signals(tmp_path):
    """When cases, system prompt or signals change, it has to be fitted and packaged again."""
    for number_format in ("bfloat16", "float32"):
        # This model cannot score, so a calibration can only come from the package.
        model = ScriptedModel({}, name=f"SmolLM2-135M-Instruct@4aca7fbd0095/{number_format}")
        found = asyncio.run(calibration_for(model, PROMPTS, calibration_cases(), tmp_path))
        assert found.names == SIGNALS and found.cases == len(calibration_cases())
    assert not list(tmp_path.iterdir())
