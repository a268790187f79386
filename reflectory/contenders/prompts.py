"""The prompts of the contenders, as data and in the same set as those of the loop."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from reflectory.agents import PromptSet


def with_contenders(prompts: PromptSet) -> PromptSet:
    """Return the prompts of a loop together with those of the contenders."""
    return PromptSet({**_texts(), **prompts.texts})


@cache
def _texts() -> dict[str, str]:
    file = files("reflectory.contenders").joinpath("prompts.yaml")
    loaded: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded
