"""The configuration: every problem at once, and the same after a round trip."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
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
from reflectory.errors import ConfigError, UserError


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


# YAML

# YAML 1.1 has no lone surrogates, and a path has no null character.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x85"), max_size=15)
loops = st.builds(
    LoopConfig,
    max_iterations=st.integers(1, 1000),
    epsilon=st.floats(1e-300, 1e300),
    patience=st.none() | st.integers(1, 9),
    target=st.none() | st.floats(0, 1),
    levels=st.lists(
        st.builds(
            Level,
            name=words.filter(str.strip),
            description=words.filter(str.strip),
            rubric=words,
            starters=st.lists(words, max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda level: level.name,
    ).map(tuple),
    returns=st.sampled_from(["last", "best"]),
    prompts=st.dictionaries(words, words, max_size=2),
    seed=st.integers(0, 2**40),
)
runs = st.builds(
    RunConfig,
    documents=st.lists(words.map(lambda word: f"/{word}"), max_size=3).map(tuple),
    instructions=st.lists(words, max_size=3).map(tuple),
    teacher=words.filter(bool),
    loop=loops,
    training=st.builds(TrainingConfig, target_modules=words | st.lists(words).map(tuple)),
)


@settings(max_examples=60, deadline=None)
@given(runs)
def test_yaml_round_trip(config: RunConfig) -> None:
    assert RunConfig.from_dict(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029"])
def test_unusual_line_breaks_survive_yaml(mark: str) -> None:
    for text in (mark, f"a{mark}b", f"a:{mark} b", f"a\n{mark}é"):
        config = RunConfig(instructions=(text,), loop={"prompts": {text: text}})  # type: ignore[arg-type]
        assert RunConfig.from_dict(yaml.safe_load(config.to_yaml())) == config


def test_file_round_trip(tmp_path: Path) -> None:
    config = RunConfig(
        documents=(str(tmp_path / "notes é"),),
        instructions=("Why: yes?", "no", "1e3", "- # 'quoted'"),
        loop=LoopConfig(epsilon=1e-9, levels=DEFAULT_LEVELS[:2]),
    )
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert RunConfig.load(file) == config
    assert RunConfig.load(str(file)) == config


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-3 as text; the configuration does not."""
    file = tmp_path / "run.yaml"
    file.write_text("loop: {epsilon: 1e-3}\ntraining: {learning_rate: 2e-4}\n")
    config = RunConfig.load(file)
    assert (config.loop.epsilon, config.training.learning_rate) == (1e-3, 2e-4)


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n", "---\n", "{}"])
def test_empty_file_is_the_default_configuration(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert RunConfig.load(file) == RunConfig()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    absolute = str(tmp_path / "elsewhere")
    file.write_text(
        f"documents: [notes, {absolute}]\ninstructions: questions.txt\n"
        "teacher_adapter: adapters/t\n"
    )
    config = RunConfig.load(file)
    assert config.documents == (str(tmp_path / "notes"), absolute)
    assert config.instructions == str(tmp_path / "questions.txt")
    assert config.teacher_adapter == str(tmp_path / "adapters/t")
    assert config.student_adapter is None


def test_one_document_may_stand_alone_and_listed_instructions_are_no_paths(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("documents: notes\ninstructions: [Explain.]\n")
    config = RunConfig.load(file)
    assert config.documents == (str(tmp_path / "notes"),)
    assert config.instructions == ("Explain.",)


def test_hub_ids_and_providers_are_no_paths(tmp_path: Path) -> None:
    config = RunConfig(teacher="local:org/model", student="openai:model").anchored(tmp_path)
    assert (config.teacher, config.student) == ("local:org/model", "openai:model")


def test_local_model_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    config = RunConfig(student="local:models/small").anchored(tmp_path)
    assert config.student == f"local:{tmp_path / 'models/small'}"


def test_empty_instructions_are_no_path(tmp_path: Path) -> None:
    assert RunConfig(instructions="").anchored(tmp_path).instructions == ""


def test_documents_may_be_path_objects() -> None:
    one: Any = Path("notes")
    several: Any = [Path("a"), "b"]
    assert RunConfig(documents=one).documents == ("notes",)
    assert RunConfig(documents=several).documents == ("a", "b")


UNREADABLE = {
    "binary": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "null": b"teacher: \0",
    "syntax": b"teacher: [local",
    "tab": b"loop:\n\tepsilon: 1",
    "code": b"teacher: !!python/object/apply:os.getcwd []",
    "key": b"? [a, b]\n: c",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_file_that_is_not_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.yaml is not YAML") as caught:
        RunConfig.load(file)
    assert caught.value.hint


@pytest.mark.parametrize("content", ["teacher: 2020-99-99", "[" * 20_000], ids=["date", "nested"])
def test_yaml_that_breaks_its_reader_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=r"run\.yaml is not YAML"):
        RunConfig.load(file)


@pytest.mark.parametrize("content", ["- a\n- b\n", "only words", "3"])
def test_yaml_without_fields_is_a_config_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"run\.yaml: 1 problem"):
        RunConfig.load(file)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml") as caught:
        RunConfig.load(tmp_path / "none.yaml")
    assert "YAML" in caught.value.hint
    with pytest.raises(UserError, match=tmp_path.name):
        RunConfig.load(tmp_path)


def test_problems_of_a_file_name_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("teacher: ''\nloop: {epsilon: 0}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: 2 problems"):
        RunConfig.load(file)


def test_a_number_of_thousands_of_digits_is_a_problem_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("concurrency: 0x" + "f" * 9000)  # YAML reads it, Python writes no such decimal
    with pytest.raises(ConfigError, match=r"concurrency: .*thousands of digits"):
        RunConfig.load(file)


def test_yaml_that_names_a_billion_texts_is_refused_in_a_short_message(tmp_path: Path) -> None:
    lines = [f"f{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    file = tmp_path / "run.yaml"
    file.write_text("\n".join(["f0: &a0 [x]", *lines, "documents: [*a9]"]))
    with pytest.raises(ConfigError, match=r"documents\.0: .*\.\.\.") as caught:
        RunConfig.load(file)
    assert all(len(problem) <= 400 for problem in caught.value.problems)


def test_a_whole_number_that_no_file_holds_is_refused() -> None:
    for seed in (2**63, 10**5000):
        with pytest.raises(ConfigError, match="seed must be below 2 to the power of 63"):
            RunConfig.from_dict({"loop": {"seed": seed}})
    assert RunConfig.from_dict({"loop": {"seed": 2**63 - 1}}).loop.seed == 2**63 - 1


def test_one_held_out_file_needs_no_list() -> None:
    config = RunConfig(improvement={"held_out": "held_out.jsonl", "review": "rows"})
    assert config.improvement.held_out == ("held_out.jsonl",)
    assert config.improvement.review == ("rows",)
