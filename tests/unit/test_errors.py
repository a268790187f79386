"""The three kinds of errors, their hints and exit codes."""

import inspect

import pytest

from reflectory import errors
from reflectory.errors import (
    AccessRefused,
    BackendError,
    BudgetSpent,
    ConfigError,
    IntegrityError,
    OutputError,
    ReflectoryError,
    StorageError,
    TrainingError,
    UserError,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, ReflectoryError)
]


def make(kind: type[ReflectoryError]) -> ReflectoryError:
    if kind is ConfigError:
        return ConfigError(["epsilon: must be greater than 0"])
    if kind is OutputError:
        return OutputError("no score", raw="Well,", hint="ask again")
    return kind("the culprit", hint="the remedy")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_of_exactly_one_kind(kind: type[ReflectoryError]) -> None:
    kinds = [base for base in (UserError, BackendError, OutputError) if issubclass(kind, base)]
    assert len(kinds) == (0 if kind is ReflectoryError else 1)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_exit_code_is_two_for_usage_three_for_a_spent_budget_and_one_otherwise(
    kind: type[ReflectoryError],
) -> None:
    usage = issubclass(kind, UserError | AccessRefused)
    expected = 2 if usage else 3 if issubclass(kind, BudgetSpent) else 1
    assert make(kind).exit_code == expected


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_text_names_culprit_and_remedy(kind: type[ReflectoryError]) -> None:
    error = make(kind)
    assert error.message in str(error)
    assert error.hint in str(error)


def test_text_without_a_hint_is_the_message_alone() -> None:
    assert str(UserError("the culprit")) == "the culprit"
    assert str(UserError("the culprit", hint="the remedy")) == "the culprit\n  -> the remedy"


def test_config_error_lists_every_problem() -> None:
    one = ConfigError(["epsilon: must be greater than 0"], source="run.yaml")
    assert str(one).splitlines() == [
        "run.yaml: 1 problem",
        "  - epsilon: must be greater than 0",
    ]
    two = ConfigError(["a: x", "b: y"])
    assert str(two).splitlines() == ["configuration: 2 problems", "  - a: x", "  - b: y"]
    assert two.problems == ("a: x", "b: y")


def test_backend_errors_say_whether_to_try_again() -> None:
    assert BackendError("busy").retryable
    assert BackendError("busy", retry_after=2.5).retry_after == 2.5
    assert BackendError("busy").retry_after is None
    assert not BackendError("wrong key", retryable=False).retryable


@pytest.mark.parametrize("kind", [StorageError, IntegrityError, TrainingError])
def test_what_trying_again_cannot_mend_is_not_retryable(
    kind: type[StorageError | IntegrityError | TrainingError],
) -> None:
    assert not kind("broken").retryable


def test_output_error_keeps_what_the_model_said() -> None:
    assert OutputError("no score", raw="Well,").raw == "Well,"
