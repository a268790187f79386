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
from reflectory.agents.teacher import RUBRIC_WITHOUT_DOCUMENTS
from reflectory.assembly import Parts
from reflectory.config import LoopConfig
from reflectory.config.levels import DEFAULT_LEVELS, LEVELS_WITHOUT_DOCUMENTS
from reflectory.types import Passage, ScoredPassage, Statement


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


def config_without_documents(config: LoopConfig) -> LoopConfig:
    """Return a loop's configuration for questions without documents.

    Default levels are replaced by those of the same names that ask of the response alone;
    others stay. Short stretches are not considered: only what documents hold is one.
    """
    instead = list(zip(DEFAULT_LEVELS, LEVELS_WITHOUT_DOCUMENTS, strict=True))
    levels = tuple(
        next((other for default, other in instead if level == default), level)
        for level in config.levels
    )
    revision = config.revision.model_copy(update={"condense": "never"})
    return config.model_copy(update={"levels": levels, "revision": revision})


def prompts_without_documents(prompts: PromptSet, config: LoopConfig) -> PromptSet:
    """Return the prompts of loop and contenders for questions without documents.

    Args:
        prompts: Those with documents, of the contenders as well.
        config: What it replaces itself stays replaced.
    """
    own = {name: text for name, text in _texts().items() if name not in config.prompts}
    return PromptSet({**prompts.texts, **own})


def parts_without_documents(parts: Parts, prompts: PromptSet) -> Parts:
    """Return the live objects of a loop for questions without documents.

    The grader stays the configured one: a likelihood grader measures with the prompts that it
    was calibrated for, and one that is asked in words reads those of ``prompts``.

    Args:
        parts: Those with documents.
        prompts: From :func:`prompts_without_documents`.
    """
    return replace(
        parts,
        config=config_without_documents(parts.config),
        prompts=prompts,
        retriever=NoDocuments(),
        verifier=NothingStated(),
        response_rubric=RUBRIC_WITHOUT_DOCUMENTS,
    )


@cache
def _texts() -> dict[str, str]:
    file = files("reflectory.contenders").joinpath("without_documents.yaml")
    loaded: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded
