"""Configurations in YAML files: the round trip, paths, and files that cannot be read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.config import DEFAULT_LEVELS, Level, LoopConfig, RunConfig, TrainingConfig
from reflectory.errors import ConfigError, UserError

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
