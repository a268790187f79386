"""How many of IFEval's instructions a response follows, strictly and loosely.

Four figures are published (Zhou et al. 2023, arXiv:2311.07911): the share of prompts all of
whose instructions are followed and the share of instructions, each strictly and loosely.
Loosely means that a response counts as well when it follows without its first line, its last
line, or its stars: a greeting, a farewell and bold type are forgiven.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from reflectory.errors import UserError
from reflectory.evaluation.metrics.instructions.checks import CHECKS, check_instruction
from reflectory.types import Record


class Instruction(Record):
    """One verifiable instruction.

    Attributes:
        id: Its kind, one of :data:`~reflectory.evaluation.metrics.instructions.CHECKS`.
        parameters: What the kind leaves open, by name.
    """

    id: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("id"), str):
            given = check_instruction(data["id"], data.get("parameters") or {})
            return {**data, "parameters": given}
        return data


class VerifiablePrompt(Record):
    """A prompt with what can be verified of a response to it.

    Attributes:
        id: Unique in its set.
        prompt: What the model is told.
        instructions: What the prompt asks for, at least one.
    """

    id: str
    prompt: str
    instructions: tuple[Instruction, ...] = Field(min_length=1)


class Followed(Record):
    """Which instructions of a prompt a response follows.

    Attributes:
        ids: Kinds of the instructions.
        strict: Whether the response as it is follows each.
        loose: Whether it does with some of it forgiven; true wherever ``strict`` is.
    """

    ids: tuple[str, ...]
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


class FollowingAccuracy(Record):
    """The published figures over many prompts, all in [0, 1].

    Attributes:
        prompts: Number of prompts.
        instructions: Number of instructions.
        strict_prompt: Share of prompts all of whose instructions are followed.
        strict_instruction: Share of instructions that are followed.
        loose_prompt: The first, with some of a response forgiven.
        loose_instruction: The second, with some of a response forgiven.
        by_kind: Share of instructions that are strictly followed, for each kind that occurs.
    """

    prompts: int
    instructions: int
    strict_prompt: float
    strict_instruction: float
    loose_prompt: float
    loose_instruction: float
    by_kind: dict[str, float]


def follows(response: str, instruction: Instruction) -> bool:
    """Return whether a response follows an instruction as it is; a blank one follows none.

    Args:
        response: What was answered.
        instruction: What can be checked in it.
    """
    return bool(response.strip()) and bool(
        CHECKS[instruction.id](response, **instruction.parameters)
    )


def forgiving_variants(response: str) -> tuple[str, ...]:
    """Return a response and what is left of it without first line, last line and stars."""
    lines = response.split("\n")
    cut = (
        response,
        "\n".join(lines[1:]).strip(),
        "\n".join(lines[:-1]).strip(),
        "\n".join(lines[1:-1]).strip(),
    )
    return tuple(dict.fromkeys([*cut, *(text.replace("*", "") for text in cut)]))


def follow(response: str | None, instructions: Sequence[Instruction]) -> Followed:
    """Return which instructions a response follows.

    Args:
        response: The response; ``None``, when there is none, follows nothing.
        instructions: What was asked for.
    """
    text = response or ""
    strict = tuple(follows(text, instruction) for instruction in instructions)
    variants = forgiving_variants(text)
    loose = tuple(
        done or any(follows(variant, instruction) for variant in variants[1:])
        for done, instruction in zip(strict, instructions, strict=True)
    )
    return Followed(ids=tuple(i.id for i in instructions), strict=strict, loose=loose)


def following_accuracy(results: Sequence[Followed]) -> FollowingAccuracy:
    """Return the four figures over many prompts.

    Raises:
        UserError: There is no prompt.
    """
    if not results:
        raise UserError("there is nothing to average", hint="judge at least one response")
    strict = [value for result in results for value in result.strict]
    loose = [value for result in results for value in result.loose]
    kinds: dict[str, list[bool]] = {}
    for result in results:
        for id, value in zip(result.ids, result.strict, strict=True):
            kinds.setdefault(id, []).append(value)
    return FollowingAccuracy(
        prompts=len(results),
        instructions=len(strict),
        strict_prompt=sum(all(result.strict) for result in results) / len(results),
        strict_instruction=sum(strict) / len(strict),
        loose_prompt=sum(all(result.loose) for result in results) / len(results),
        loose_instruction=sum(loose) / len(loose),
        by_kind={id: sum(kinds[id]) / len(kinds[id]) for id in sorted(kinds)},
    )


def read_verifiable_prompts(path: str | Path) -> list[VerifiablePrompt]:
    """Read prompts from JSON Lines in IFEval's shape.

    Each line has ``prompt``, ``instruction_id_list`` and ``kwargs`` (the parameters of each
    instruction, in order), and may have ``key``.

    Raises:
        UserError: The file cannot be read, or a line is no such prompt.
    """
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}", hint="pass a JSON Lines file") from error
    prompts = [
        _prompt(line, f"{file}, line {number}", str(number))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not prompts:
        raise UserError(f"{file} holds no prompts", hint="one JSON object per line")
    return prompts


def instructions_of(row: Mapping[str, Any]) -> tuple[Instruction, ...]:
    """Return the instructions of a row in IFEval's shape, in their order.

    Args:
        row: Has ``instruction_id_list`` and ``kwargs``, the parameters of each.

    Raises:
        UserError: A kind is unknown, or a parameter does not fit.
        ValueError: There are not as many parameters as instructions.
        KeyError: One of the two fields is missing.
    """
    pairs = zip(row["instruction_id_list"], row["kwargs"], strict=True)
    return tuple(Instruction(id=id, parameters=given or {}) for id, given in pairs)


def _prompt(line: str, place: str, number: str) -> VerifiablePrompt:
    try:
        row = json.loads(line)
        return VerifiablePrompt(
            id=str(row.get("key", number)),
            prompt=row["prompt"],
            instructions=instructions_of(row),
        )
    except UserError as error:
        raise UserError(f"{place}: {error.message}", hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise UserError(
            f"{place}: not a prompt with instructions ({error!r})",
            hint='each line is {"prompt": "...", "instruction_id_list": [...], "kwargs": [...]}',
        ) from error
