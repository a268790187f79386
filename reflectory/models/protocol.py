"""What the agents speak with: requests made of segments, and completions.

A prompt is not a string here but a sequence of segments, what is shared by
many calls first and what differs last. An engine that keeps the key-value
cache of a beginning, a cache of calls and a budget can all see the same thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from reflectory.types import Record


class Capability(StrEnum):
    """What a backend can do besides completing a prompt."""

    SCORE = "score"
    """Give the log-likelihood of a text after a prompt."""
    PREFILL = "prefill"
    """Begin its completion with given words."""
    ADAPTERS = "adapters"
    """Load LoRA adapters from a folder."""
    SEED = "seed"
    """Repeat a sampled completion when it is given the same seed."""


class Segment(Record):
    """A piece of a prompt.

    Attributes:
        text: What the model reads.
        speaker: ``system`` or ``user``; neighbouring user segments become one message.
        shared: Whether other calls begin with the same segments up to this one.
    """

    text: str
    speaker: Literal["system", "user"] = "user"
    shared: bool = False


class SamplingParameters(Record):
    """How to draw the tokens of a completion.

    Attributes:
        max_tokens: Most tokens to generate.
        temperature: 0 takes the likeliest token each time.
        top_p: Keep the smallest set of tokens with at least this probability.
        repetition_penalty: Divide the logits of tokens that were already generated
            in this completion by this number (1 leaves them alone).
        stop: The completion ends before the first of these strings.
    """

    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    stop: tuple[str, ...] = ()


class Request(Record):
    """One call: continue this prompt.

    Attributes:
        segments: The prompt, shared segments first.
        role: Who asks and what for (``teacher.ask``), for statistics and tests.
        sampling: How to draw tokens.
        seed: Seed of the draws; the same request with the same seed gives the same text.
        prefill: Words that the completion begins with; part of its text.
        deadline_s: Give up after this many seconds, ``None`` for never.
    """

    segments: tuple[Segment, ...]
    role: str
    sampling: SamplingParameters = SamplingParameters()
    seed: int = 0
    prefill: str = ""
    deadline_s: float | None = Field(default=None, gt=0)

    def content(self) -> dict[str, Any]:
        """Return what decides the completion, and nothing else (no role, no deadline)."""
        return self.model_dump(mode="json", exclude={"role", "deadline_s"})


class ScoreRequest(Record):
    """One call: how likely is each of these texts after this prompt?

    Attributes:
        segments: The prompt, shared segments first.
        continuations: Texts to score, each by itself, none empty.
        role: Who asks and what for.
        deadline_s: Give up after this many seconds, ``None`` for never.
    """

    segments: tuple[Segment, ...]
    continuations: tuple[str, ...]
    role: str
    deadline_s: float | None = Field(default=None, gt=0)

    def content(self) -> dict[str, Any]:
        """Return what decides the scores, and nothing else (no role, no deadline)."""
        return self.model_dump(mode="json", exclude={"role", "deadline_s"})


class Usage(Record):
    """Tokens of one call: read, of those taken from a prefix cache, and written."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0


class Completion(Record):
    """What the model said.

    Attributes:
        text: The completion with the prefill before it, without the stop string.
        finish: ``stop`` (it ended), ``length`` (the limit cut it) or ``cancelled``.
        usage: Tokens of the call.
        thinking: The content of a thinking block, kept apart from the text.
    """

    text: str
    finish: Literal["stop", "length", "cancelled"] = "stop"
    usage: Usage = Usage()
    thinking: str = ""

    @field_validator("text", "thinking")
    @classmethod
    def _without_lone_surrogates(cls, text: str) -> str:
        # Half a surrogate pair, as a server's JSON can hold, fits into no file.
        return text.encode("utf-8", "replace").decode("utf-8")


class TokenScores(Record):
    """Log-likelihood of one continuation.

    Attributes:
        logprobs: Natural logarithm of each token's probability given all before it.
    """

    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        """Log-likelihood of the whole text, at most 0."""
        return float(sum(self.logprobs))

    @property
    def mean(self) -> float:
        """Log-likelihood per token, at most 0."""
        return self.total / len(self.logprobs)


class Scores(Record):
    """The answer to a :class:`ScoreRequest`, one entry per continuation, in order."""

    continuations: tuple[TokenScores, ...]
    usage: Usage = Usage()


@runtime_checkable
class Model(Protocol):
    """A language model as the agents see it.

    Contract:
        - ``fingerprint`` names weights, adapter and number format; two models with
          one fingerprint give the same completion to the same request.
        - ``complete`` may be called many times at once; cancelling the awaiting
          task cancels the call and harms no other.
        - Errors are :class:`~reflectory.errors.BackendError` (with ``retryable``
          set truly) or :class:`~reflectory.errors.UserError`.
        - ``score`` raises :class:`~reflectory.errors.UnsupportedCapability` unless
          ``Capability.SCORE`` is declared.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what answers."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do besides completing."""
        ...

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together; ``None`` when unknown."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``."""
        ...

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihood of each continuation of ``request``."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return how many tokens ``text`` has; an estimate where the tokenizer is unknown."""
        ...

    async def aclose(self) -> None:
        """Give back what the model holds; further calls are errors."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors.

    Contract: ``embed`` returns float32 of shape (len(texts), dimension) with rows
    of length 1 (or 0 for an empty text), in the order of the texts, and the vector
    of a text does not depend on the other texts of the call.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what embeds; an index refuses to load with another one."""
        ...

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text."""
        ...


def content_hash(*parts: Any) -> str:
    """Return the sha256 of JSON values, the same on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**31) for one draw among many.

    Every random draw of a loop has a name (role, level, iteration, attempt), so
    no draw depends on which other draws came before it.

    Args:
        seed: Of the run.
        names: Name the draw.
    """
    return int(content_hash(seed, *names)[:8], 16) & 0x7FFFFFFF
