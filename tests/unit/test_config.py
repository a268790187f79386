"""The configuration: every problem at once, and the same after a round trip."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reflectory.alignment import EpsilonRule, PatienceRule, TargetRule
from reflectory.config import (
    DEFAULT_LEVELS,
    CurationConfig,
    Level,
    LoopConfig,
    RetrievalConfig,
    RunConfig,
    SamplingConfig,
    TrainingConfig,
)
from reflectory.errors import ConfigError


def problems(call: Any, *args: Any, **kwargs: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return caught.value.problems


def fields(found: tuple[str, ...]) -> set[str]:
    return {problem.split(":")[0] for problem in found}


# Defaults


def test_defaults_are_valid_and_as_documented() -> None:
    config = RunConfig()
    assert (config.teacher, config.student, config.embedder) == ("local", "local", "local")
    assert config.loop.level_names == ("basic", "intermediate", "advanced", "expert")
    assert config.loop.returns == "last"
    assert config.loop.epsilon > 0
    assert RunConfig.from_dict({}) == config
    for level in DEFAULT_LEVELS:
        assert level.rubric
        assert level.starters


def test_stop_rules_follow_the_configuration() -> None:
    assert LoopConfig(epsilon=0.2).stop_rules() == (EpsilonRule(0.2),)
    assert LoopConfig(epsilon=0.2, patience=3, target=0.0).stop_rules() == (
        EpsilonRule(0.2),
        PatienceRule(3),
        TargetRule(0.0),
    )


# Every problem at once


def test_all_problems_of_all_parts_are_reported_together() -> None:
    data = {
        "documnts": "notes/",
        "concurrency": "many",
        "device": "tpu",
        "loop": {
            "max_iterations": 0,
            "epsilon": -1,
            "returns": "worst",
            "retrieval": {"passages": 0},
            "sampling": {"answer_tokens": 1.5, "student_temperature": -1},
            "review": ["answers"],
        },
        "curation": {"minimum_grade": 2},
        "training": {"rank": 0, "dropout": 1.0},
    }
    found = problems(RunConfig.from_dict, data, source="run.yaml")
    assert fields(found) == {
        "documnts",
        "concurrency",
        "device",
        "loop.max_iterations",
        "loop.epsilon",
        "loop.returns",
        "loop.retrieval.passages",
        "loop.sampling.answer_tokens",
        "loop.sampling.student_temperature",
        "loop.review.0",
        "curation.minimum_grade",
        "training.rank",
        "training.dropout",
    }
    assert len(found) == 13


def test_error_names_source_field_and_value() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict({"loop": {"epsilon": -1}}, source="run.yaml")
    text = str(caught.value)
    assert text.startswith("run.yaml: 1 problem\n")
    assert "loop.epsilon" in text
    assert "(got -1)" in text
    assert "pydantic" not in text


def test_problems_of_python_arguments_are_config_errors_too() -> None:
    assert fields(problems(LoopConfig, epsilon=0, max_iterations=0)) == {
        "epsilon",
        "max_iterations",
    }
    assert fields(problems(RunConfig, teacher="", loop={"epsilon": 0})) == {
        "teacher",
        "loop.epsilon",
    }


def test_unknown_field_points_to_those_there_are() -> None:
    (problem,) = problems(RunConfig.from_dict, {"loop": {"iterations": 3}})
    assert problem.startswith("loop.iterations: there is no such field")
    assert "got" not in problem and "did you mean max_iterations?" in problem


def test_a_field_that_is_nearly_right_is_named() -> None:
    said = problems(
        RunConfig.from_dict,
        {"documnets": "notes", "loop": {"max_iteration": 3, "levels": [{"nam": "a"}]}, "x": 1},
    )
    by_field = {line.partition(":")[0]: line for line in said}
    assert "did you mean documents? See docs" in by_field["documnets"]
    assert "did you mean max_iterations?" in by_field["loop.max_iteration"]
    assert "did you mean" not in by_field["loop.levels.0.nam"] + by_field["x"]
    (problem,) = problems(LoopConfig, epsilom=0.1)
    assert "did you mean epsilon?" in problem


def test_huge_values_are_not_repeated_in_full() -> None:
    (problem,) = problems(RunConfig.from_dict, {"concurrency": "x" * 10_000})
    assert len(problem) <= 400


@pytest.mark.parametrize("data", [None, [], "teacher: local", 3, [{"teacher": "local"}]])
def test_data_without_fields_is_refused(data: Any) -> None:
    (problem,) = problems(RunConfig.from_dict, data)
    assert type(data).__name__ in problem


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
names = st.sampled_from([*RunConfig.model_fields, "unknown"])
loop_names = st.sampled_from([*LoopConfig.model_fields, "unknown"])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(names, json_like)
    | st.dictionaries(loop_names, json_like).map(lambda loop: {"loop": loop})
)
def test_any_data_is_valid_or_a_config_error(data: dict[str, Any]) -> None:
    try:
        config = RunConfig.from_dict(data)
    except ConfigError as error:
        assert error.problems
    else:
        assert RunConfig.from_dict(config.model_dump(mode="json")) == config


# Ranges


@pytest.mark.parametrize("epsilon", [0, 0.0, -0.1, math.inf, -math.inf, math.nan, "small", None])
def test_epsilon_is_a_positive_number(epsilon: Any) -> None:
    assert fields(problems(LoopConfig, epsilon=epsilon)) == {"epsilon"}


@pytest.mark.parametrize("iterations", [0, -1, 1001, 2.5, math.inf, "many", None])
def test_iterations_are_a_positive_whole_number(iterations: Any) -> None:
    assert fields(problems(LoopConfig, max_iterations=iterations)) == {"max_iterations"}


def test_one_iteration_is_allowed() -> None:
    assert LoopConfig(max_iterations=1).max_iterations == 1


@pytest.mark.parametrize(
    ("settings_class", "name", "largest"),
    [
        (LoopConfig, "target", 1.0),
        (RetrievalConfig, "useful_score", 1.0),
        (CurationConfig, "minimum_grade", 1.0),
        (CurationConfig, "minimum_margin", 1.0),
        (SamplingConfig, "teacher_temperature", 5.0),
        (SamplingConfig, "repetition_penalty", 5.0),
    ],
)
def test_fractions_have_ranges(settings_class: Any, name: str, largest: float) -> None:
    assert getattr(settings_class(**{name: largest}), name) == largest
    for value in (-0.1, largest + 0.1, math.nan, math.inf):
        assert fields(problems(settings_class, **{name: value})) == {name}


# Levels


def test_repeated_level_names_are_named() -> None:
    twice = [{"name": n, "description": "d"} for n in ("easy", "hard", "easy ")]
    (problem,) = problems(RunConfig.from_dict, {"loop": {"levels": twice}})
    assert problem.startswith("loop.levels: level names must differ, repeated: easy")


@pytest.mark.parametrize("name", ["", " ", "\n", "x" * 61])
def test_level_needs_a_name(name: str) -> None:
    assert fields(problems(Level, name=name, description="d")) == {"name"}


def test_a_loop_needs_a_level() -> None:
    assert fields(problems(LoopConfig, levels=())) == {"levels"}


def test_level_names_are_stripped() -> None:
    assert Level(name=" easy ", description=" d ").name == "easy"


def test_invalid_level_is_one_problem() -> None:
    """The list has a level, though an invalid one: nothing else is wrong with it."""
    assert fields(problems(LoopConfig, levels=[{"name": "a"}])) == {"levels.0.description"}


# Immutability


@pytest.mark.parametrize(
    "settings_class", [RunConfig, LoopConfig, RetrievalConfig, SamplingConfig, TrainingConfig]
)
def test_settings_are_frozen(settings_class: Any) -> None:
    made = settings_class()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, next(iter(settings_class.model_fields)), None)


def test_a_whole_number_that_no_file_holds_is_refused() -> None:
    for seed in (2**63, 10**5000):
        with pytest.raises(ConfigError, match="seed must be below 2 to the power of 63"):
            RunConfig.from_dict({"loop": {"seed": seed}})
    assert RunConfig.from_dict({"loop": {"seed": 2**63 - 1}}).loop.seed == 2**63 - 1


def test_one_held_out_file_needs_no_list() -> None:
    config = RunConfig(improvement={"held_out": "held_out.jsonl", "review": "rows"})
    assert config.improvement.held_out == ("held_out.jsonl",)
    assert config.improvement.review == ("rows",)
