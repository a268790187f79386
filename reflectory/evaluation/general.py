"""What a student could do before it was trained: general instructions and plain sentences.

A student that learnt to answer shortly from documents may have forgotten how to do
anything else. The packaged instructions have no documents, and a rule says whether each
was followed; the log-likelihood of plain sentences is a finer signal where the model can
score. Neither is trained on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from pydantic import Field

from reflectory.evaluation.metrics import contains_answer
from reflectory.models.protocol import (
    Capability,
    Model,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
    derive_seed,
)
from reflectory.types import Record

ANSWER_TOKENS = 80
"""Enough for the longest text that an instruction asks for."""

_ITEM = re.compile(r"[,;\n]|\band\b")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


class Occurrences(Record):
    """How often a text must occur.

    Attributes:
        text: The text, in any case.
        times: Exactly so often, as whole words.
    """

    text: str
    times: int = Field(ge=1)


class Check(Record):
    """Conditions on an answer; all that are given must hold.

    Attributes:
        any: One of these occurs, as whole words in a row.
        all: Each of these does.
        two_of: Two of these do.
        closed: The answer begins with this word.
        count: A text occurs so often.
        case: This occurs with exactly these letters.
        items: At least so many things, divided by commas, lines or "and".
        lines: At least so many lines that are not blank.
        min_words: At least so many words.
        max_words: At most so many words.
        min_sentences: At least so many sentences.
        begins: The answer begins with this, in any case.
        ends: The answer ends with this.
    """

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    two_of: tuple[str, ...] = ()
    closed: Literal["yes", "no"] | None = None
    count: Occurrences | None = None
    case: str = ""
    items: int = 0
    lines: int = 0
    min_words: int = 0
    max_words: int | None = None
    min_sentences: int = 0
    begins: str = ""
    ends: str = ""

    def holds(self, answer: str) -> bool:
        """Return whether an answer meets every condition."""
        text = answer.strip()
        words = len(text.split())
        if not text or words < self.min_words:
            return False
        if self.max_words is not None and words > self.max_words:
            return False
        return (
            self._words_are_there(text)
            and text.casefold().startswith(self.begins.casefold())
            and text.endswith(self.ends)
            and self.case in text
            and len([part for part in _ITEM.split(text) if part.strip()]) >= self.items
            and len([line for line in text.splitlines() if line.strip()]) >= self.lines
            and len(_SENTENCE_END.findall(text)) >= self.min_sentences
        )

    def _words_are_there(self, text: str) -> bool:
        if self.any and not contains_answer(text, self.any):
            return False
        if self.closed is not None and not contains_answer(text, self.closed):
            return False
        if self.two_of and sum(contains_answer(text, option) for option in self.two_of) < 2:
            return False
        if self.count is not None:
            pattern = rf"(?<!\w){re.escape(self.count.text)}(?!\w)"
            if len(re.findall(pattern, text, re.IGNORECASE)) != self.count.times:
                return False
        return all(contains_answer(text, wanted) for wanted in self.all)


class GeneralInstruction(Record):
    """An instruction without documents whose answer a rule can check.

    Attributes:
        id: Unique in the set.
        kind: ``copy``, ``list``, ``arithmetic``, ``fact``, ``closed``, ``language``, ``form``.
        instruction: What is asked.
        check: What a good answer has.
    """

    id: str
    kind: str
    instruction: str
    check: Check


class GeneralAnswer(Record):
    """What a student said to a general instruction.

    Attributes:
        id: Of the instruction.
        text: The answer.
        followed: Whether the check holds.
    """

    id: str
    text: str
    followed: bool


def general_instructions() -> tuple[GeneralInstruction, ...]:
    """Return the packaged instructions, always the same."""
    text = files("reflectory.evaluation").joinpath("data/general.jsonl").read_text("utf-8")
    return tuple(GeneralInstruction.model_validate_json(line) for line in text.splitlines())


def plain_sentences() -> tuple[str, ...]:
    """Return the packaged sentences, always the same."""
    text = files("reflectory.evaluation").joinpath("data/sentences.txt").read_text("utf-8")
    return tuple(text.splitlines())


async def follow(
    model: Model, instructions: Sequence[GeneralInstruction] | None = None
) -> list[GeneralAnswer]:
    """Let a model answer general instructions, greedily and without a system prompt of ours.

    Args:
        model: What answers.
        instructions: The packaged ones when ``None``.

    Returns:
        One checked answer per instruction, in order.
    """

    async def one(item: GeneralInstruction) -> GeneralAnswer:
        request = Request(
            segments=(Segment(text=item.instruction),),
            role="student.general",
            sampling=SamplingParameters(max_tokens=ANSWER_TOKENS),
            seed=derive_seed(0, "general", item.id),
        )
        text = (await model.complete(request)).text
        return GeneralAnswer(id=item.id, text=text, followed=item.check.holds(text))

    chosen = general_instructions() if instructions is None else instructions
    return list(await asyncio.gather(*(one(item) for item in chosen)))


async def sentence_likelihoods(
    model: Model, sentences: Sequence[str] | None = None
) -> list[float] | None:
    """Return the mean log-likelihood per token of plain sentences, in nats, at most 0.

    Args:
        model: What scores; ``None`` is returned when it cannot.
        sentences: The packaged ones when ``None``.
    """
    if Capability.SCORE not in model.capabilities:
        return None
    chosen = plain_sentences() if sentences is None else tuple(sentences)
    request = ScoreRequest(
        segments=(Segment(text="Write a sentence."),),
        continuations=chosen,
        role="student.general",
    )
    scores = await model.score(request)
    return [continuation.mean for continuation in scores.continuations]
