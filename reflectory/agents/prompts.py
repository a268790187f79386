"""Prompts as data: texts with placeholders that are checked before they are used."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from reflectory.config import LoopConfig
from reflectory.errors import ConfigError

PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "student.answer": frozenset({"question"}),
    "student.reflect": frozenset({"instruction", "response", "examination"}),
    "student.cite": frozenset(),
    "teacher.ask": frozenset({"instruction", "response", "level", "description"}),
    "teacher.practise": frozenset({"answer"}),
    "teacher.grade": frozenset({"question", "answer", "rubric"}),
    "teacher.unsupported": frozenset({"statements"}),
    "teacher.relevance": frozenset(),
}
"""Every prompt by name, with the placeholders that its text must hold."""

_WHOLE = "the whole answer"
_MOST_STATEMENTS = 3
_STATEMENT_LENGTH = 160
_CITING = ("student.answer", "student.reflect")


def problems_of_prompt(name: str, text: str) -> list[str]:
    """Return what is wrong with a text as the prompt ``name``, one line per problem.

    Args:
        name: Of the prompt; it decides which placeholders there must be.
        text: The prompt's text.
    """
    if name not in PLACEHOLDERS:
        return [f"prompts.{name}: there is no such prompt; known: {', '.join(PLACEHOLDERS)}"]
    try:
        parts = [part[1:] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        return [f"prompts.{name}: {error}; write a literal brace twice"]
    fields = {str(field) for field, _, _ in parts}
    # A format behind a name ({question:>{n}}, {question!x}) could still fail, or
    # name further fields, when the prompt is filled.
    formatted = {str(field) for field, spec, conversion in parts if spec or conversion}
    wanted = PLACEHOLDERS[name]
    missing, unknown = sorted(wanted - fields), sorted(fields - wanted)
    problems = [f"prompts.{name}: the placeholder {{{f}}} is missing" for f in missing]
    # A field such as {question.__class__} would reach into objects, so only
    # the plain names are known.
    problems += [f"prompts.{name}: {{{f}}} is no placeholder here" for f in unknown]
    problems += [
        f"prompts.{name}: write {{{f}}} without a format behind it"
        for f in sorted(formatted & wanted)
    ]
    return problems


@dataclass(frozen=True)
class PromptSet:
    """The prompts of all roles, each known to hold its placeholders.

    Attributes:
        texts: Text by prompt name, one for every name in :data:`PLACEHOLDERS`.
    """

    texts: Mapping[str, str]

    @classmethod
    def with_replacements(cls, replacements: Mapping[str, str] | None = None) -> PromptSet:
        """Return the default prompts with some of them replaced.

        Raises:
            ConfigError: With every replacement that is unknown or lacks a placeholder.
        """
        replacements = replacements or {}
        problems = [
            line for name, text in replacements.items() for line in problems_of_prompt(name, text)
        ]
        if problems:
            raise ConfigError(problems, source="prompts")
        return cls({**_default_texts(), **replacements})

    @classmethod
    def for_loop(cls, config: LoopConfig) -> PromptSet:
        """Return the prompts that a configuration asks for.

        With ``citations: ask`` the student's prompts begin with ``student.cite``.

        Raises:
            ConfigError: With every replacement that is unknown or lacks a placeholder.
        """
        prompts = cls.with_replacements(config.prompts)
        if config.citations == "find":
            return prompts
        cite = prompts.texts["student.cite"].replace("{", "{{").replace("}", "}}")
        asking = {name: f"{cite}\n{prompts.texts[name]}" for name in _CITING}
        return cls({**prompts.texts, **asking})

    def fill(self, name: str, **values: str) -> str:
        """Return the prompt ``name`` with its placeholders filled; braces in values stay.

        Args:
            name: Of the prompt.
            values: The text of each placeholder.
        """
        return self.texts[name].format(**values)

    def with_unsupported(self, answer: str, unsupported: Sequence[str]) -> str:
        """Return an answer as the teacher reads it, with what nothing supports named below it.

        Where all is supported that is the answer itself, so that the prompt stays the
        same. An answer that is not supported at all is not said twice: a small model
        would repeat it a third time.

        Args:
            answer: R_t or R[j,t].
            unsupported: Statements of it; the first three are named, shortened.
        """
        if not unsupported:
            return answer
        named = [" ".join(statement.split()) for statement in unsupported]
        if " ".join(named) == " ".join(answer.split()):
            statements = _WHOLE
        else:
            statements = " ".join(f'"{_shortened(s)}"' for s in named[:_MOST_STATEMENTS])
        return f"{answer}\n{self.fill('teacher.unsupported', statements=statements)}"


def _shortened(statement: str) -> str:
    if len(statement) <= _STATEMENT_LENGTH:
        return statement
    return statement[: _STATEMENT_LENGTH - 1].rstrip() + "\u2026"


@cache
def _default_texts() -> dict[str, str]:
    file = files("reflectory.agents").joinpath("prompt_data/default.yaml")
    loaded: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded
