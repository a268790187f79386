"""The loop and the others where a question has no documents.

An instruction such as "write two paragraphs without a comma" is followed or not, whatever
any document says. C_t stays empty then, nothing is retrieved and nothing can be unsupported; what
the teacher asks is about the instruction and the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

import yaml

from reflectory.agents import PromptSet
from reflectory.agents.graders import Grader, SpokenGrader
from reflectory.assembly import Parts
from reflectory.config import Level, LoopConfig
from reflectory.config.levels import DEFAULT_LEVELS
from reflectory.models.protocol import Model
from reflectory.types import Passage, ScoredPassage, Statement

RUBRIC = "It does everything that the instruction demands."
"""What a good response has where there are no documents."""

LEVELS = (
    Level(
        name="basic",
        description="asks for one thing that the response was told to have or to be",
        rubric="The answer names something that the instruction demands.",
        starters=("What", "Which", "How many", "How long"),
    ),
    Level(
        name="intermediate",
        description="asks where the response does one of these things",
        rubric="The answer names the part of the response that does it.",
        starters=("Where in the response", "Which part of the response"),
    ),
    Level(
        name="advanced",
        description="asks what the instruction demands that the response does not do",
        rubric="The answer names a demand that is not met, or says that there is none.",
        starters=("What demand", "Why does the response"),
    ),
    Level(
        name="expert",
        description="asks what has to change so that the response does everything",
        rubric="The answer says what to change, and that change meets a demand.",
        starters=("What has to change", "How would the response"),
    ),
)
"""The default levels where there are no documents, by the same names."""


class NoDocuments:
    """Stands where a retriever belongs when a question is answered without documents."""

    @property
    def fingerprint(self) -> str:
        """A fixed name."""
        return "none"

    async def prepare(self) -> int:
        """Nothing is there."""
        return 0

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> list[ScoredPassage]:
        """Find nothing."""
        return []


class NothingStated:
    """A verifier where there is nothing to verify by: nothing is unsupported then."""

    @property
    def fingerprint(self) -> str:
        """A fixed name."""
        return "none"

    async def verify(
        self, question: str, answer: str, passages: Sequence[Passage]
    ) -> tuple[Statement, ...]:
        """Return no statement."""
        return ()


def alone_config(config: LoopConfig) -> LoopConfig:
    """Return a loop's configuration for questions without documents.

    Default levels are replaced by those of the same names that ask of the response alone;
    others stay. Short stretches are not considered: only what documents hold is one.
    """
    by_name = {level.name: level for level in LEVELS}
    levels = tuple(
        by_name[level.name] if level in DEFAULT_LEVELS else level for level in config.levels
    )
    revision = config.revision.model_copy(update={"condense": "never"})
    return config.model_copy(update={"levels": levels, "revision": revision})


def alone_prompts(prompts: PromptSet, config: LoopConfig) -> PromptSet:
    """Return the prompts of loop and contenders for questions without documents.

    Args:
        prompts: Those with documents, of the contenders as well.
        config: What it replaces itself stays replaced.
    """
    own = {name: text for name, text in _texts().items() if name not in config.prompts}
    return PromptSet({**prompts.texts, **own})


def alone_parts(parts: Parts, prompts: PromptSet) -> Parts:
    """Return the live objects of a loop for questions without documents.

    The grader stays the configured one: a likelihood grader measures with the prompts that it
    was calibrated for, and one that is asked in words reads those of ``prompts``.

    Args:
        parts: Those with documents.
        prompts: From :func:`alone_prompts`.
    """

    def make_grader(model: Model) -> Grader:
        grader = parts.make_grader(model)
        return grader.with_prompts(prompts) if isinstance(grader, SpokenGrader) else grader

    return replace(
        parts,
        config=alone_config(parts.config),
        prompts=prompts,
        retriever=NoDocuments(),
        verifier=NothingStated(),
        make_grader=make_grader,
        response_rubric=RUBRIC,
    )


@cache
def _texts() -> dict[str, str]:
    file = files("reflectory.contenders").joinpath("alone.yaml")
    loaded: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded
