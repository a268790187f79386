"""What waits and runs: jobs of callers, and the rows of batches they become."""

from __future__ import annotations

import functools
import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch

from reflectory.errors import UserError
from reflectory.models.control import control_tokens_of, without_control
from reflectory.models.engine.rendering import Renderer
from reflectory.models.engine.virtual import virtual_ids
from reflectory.models.protocol import (
    Completion,
    Request,
    SamplingParameters,
    ScoreRequest,
    Scores,
    TokenScores,
    Usage,
)
from reflectory.models.thinking import CLOSE, ends_inside_thinking, split_thinking

_ANCHOR = 4
"""Prompt tokens decoded before a completion, because some tokenizers drop the
space at the beginning of what they decode."""


@dataclass
class Counts:
    """What an engine has done since it was made.

    Attributes:
        prefilled: Prompt tokens that were read.
        remembered: Continuations whose likelihood was known.
        decoded: Tokens that were written.
        near_ties: Greedy tokens where the two best were nearer than 1e-4 in logit, so
            that rounding, and with it the rest of a batch, may have decided.
        passes: Passes of the network.
        busy_seconds: Time in which the engine computed.
    """

    prefilled: int = 0
    remembered: int = 0
    decoded: int = 0
    near_ties: int = 0
    passes: int = 0
    busy_seconds: float = 0.0


@dataclass(eq=False)
class Job:
    """One call of a caller; its future gets a :class:`Completion` or :class:`Scores`.

    Attributes:
        request: The call.
        adapter: Who answers; "" for the base model.
        virtual: How many virtual tokens the adapter puts before the prompt.
        future: Gets the result.
        submitted: When it was asked, on the clock of ``time.perf_counter``.
        rows: What the engine made of it.
        on_done: Told of the result before the caller gets it.
    """

    request: Request | ScoreRequest
    adapter: str = ""
    virtual: int = 0
    on_done: Callable[[Job, Completion | Scores], None] | None = None
    future: Future[Any] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    rows: tuple[Row, ...] = ()

    def finish(self, result: Completion | Scores | BaseException) -> None:
        """Hand over the result, unless nobody waits for it any more."""
        if self.future.done():
            return
        if self.on_done is not None and not isinstance(result, BaseException):
            # First, so that whoever gets the result finds it counted.
            self.on_done(self, result)
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


@dataclass(eq=False)
class Row:
    """One row of a batch.

    Attributes:
        job: Whose it is.
        tokens: Tokens to read, the virtual ones first.
        prefix_length: How many of the first ones other calls begin with too.
        room: Tokens that it may still write.
        reused: Tokens of the prefix that were not computed for this row.
        attempts: How often it ran out of memory by itself.
        adapter: Who reads it; "" for the base model.
    """

    job: Job
    tokens: tuple[int, ...]
    prefix_length: int
    room: int = 0
    reused: int = 0
    attempts: int = 0
    adapter: str = ""

    @property
    def virtual(self) -> int:
        """How many of the tokens are virtual."""
        return self.job.virtual

    @functools.cached_property
    def prefix(self) -> tuple[int, ...]:
        """The tokens that other calls begin with too."""
        return self.tokens[: self.prefix_length]

    @property
    def width(self) -> int:
        """Most columns that the row needs by itself."""
        return len(self.tokens) + self.room

    def reset(self) -> None:
        """Forget what was computed, to start again."""


@dataclass(eq=False)
class CompletionRow(Row):
    """A completion that is being written.

    Attributes:
        sampling: How to draw tokens.
        seed: Seed of the draws.
        thinking: Whether the prompt ends inside a thinking block.
        generated: Tokens written so far, without one that ended it.
        finish: Why it ended; empty while it runs.
    """

    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    seed: int = 0
    thinking: bool = False
    generated: list[int] = field(default_factory=list)
    finish: str = ""

    def __post_init__(self) -> None:
        self.seed %= 2**63  # what torch takes
        self.generator = torch.Generator().manual_seed(self.seed)

    def reset(self) -> None:
        """Start again, with the same draws."""
        self.generated, self.finish = [], ""
        self.generator.manual_seed(self.seed)

    def accept(self, token: int, eos_ids: frozenset[int], tokenizer: Any) -> None:
        """Take the next token and decide whether it was the last one."""
        if token in eos_ids:
            self.finish = "stop"
            return
        self.generated.append(token)
        self.room -= 1
        if self.sampling.stop and self._stopped(tokenizer):
            self.finish = "stop"
        elif len(self.generated) >= self.sampling.max_tokens:
            self.finish = "length"

    def _stopped(self, tokenizer: Any) -> bool:
        # Only the end can be new; a character has four tokens at most.
        span = 4 * max(map(len, self.sampling.stop)) + 8
        recent = _decode(tokenizer, self.generated[-span:])
        if not any(stop in recent for stop in self.sampling.stop):
            return False
        return _first_stop(self.text(tokenizer), self.sampling.stop, self.thinking) is not None

    def text(self, tokenizer: Any) -> str:
        """Return what was generated, as text."""
        anchor = [token for token in self.tokens[-_ANCHOR:] if token >= 0]
        before = _decode(tokenizer, anchor)
        return _decode(tokenizer, anchor + self.generated)[len(before) :]

    def completion(self, tokenizer: Any) -> Completion:
        """Return the finished completion."""
        request = self.job.request
        prefill = request.prefill if isinstance(request, Request) else ""
        text = self.text(tokenizer)
        cut = _first_stop(text, self.sampling.stop, self.thinking)
        said, thought = split_thinking(prefill + text[:cut], opened=self.thinking)
        usage = Usage(
            prompt_tokens=len(self.tokens) - self.virtual,
            reused_tokens=max(0, self.reused - self.virtual),
            completion_tokens=len(self.generated),
        )
        finish = "length" if self.finish == "length" else "stop"
        return Completion(text=said, finish=finish, usage=usage, thinking=thought)


@dataclass(eq=False)
class ScoreRow(Row):
    """A continuation whose likelihood is wanted: the last ``count`` of ``targets``.

    Attributes:
        targets: Tokens of the continuation; the row reads all but the last of them.
        logprobs: The result, once it is there.
    """

    targets: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None

    @functools.cached_property
    def name(self) -> tuple[str, bytes]:
        """The adapter, and a hash of all tokens and how many of them are scored."""
        ids = array("q", (len(self.targets), *self.tokens, self.targets[-1]))
        return self.adapter, blake2b(ids.tobytes(), digest_size=16).digest()

    def know(self, logprobs: tuple[float, ...]) -> None:
        """Take a result over that was computed before; nothing is read for it."""
        self.logprobs = logprobs
        self.reused = len(self.tokens) - len(self.targets) + 1  # The whole prompt.


def _decode(tokenizer: Any, tokens: list[int]) -> str:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def _first_stop(text: str, stops: Sequence[str], thinking: bool) -> int | None:
    """Return where the first stop string begins that is not inside a thinking block."""
    begin = text.rfind(CLOSE) + len(CLOSE) if CLOSE in text else 0
    if begin == 0 and (thinking or ends_inside_thinking(text)):
        return None
    found = [at for stop in stops if stop and (at := text.find(stop, begin)) >= 0]
    return min(found, default=None)


def completion_row(
    job: Job, request: Request, renderer: Renderer, window: int | None
) -> CompletionRow:
    """Return the row of a completion.

    Args:
        job: Whose it is.
        request: The call.
        renderer: Makes tokens of prompts.
        window: Most tokens of prompt and completion, if there is such a limit.

    Raises:
        UserError: Prompt and completion do not fit into the context window.
        ModelError: The chat template refuses the prompt.
    """
    prompt = renderer(request.segments, request.prefill)
    wanted = request.sampling.max_tokens
    tokens = virtual_ids(job.virtual) + prompt.token_ids
    _check_window(len(tokens), wanted, window, request.role)
    return CompletionRow(
        job=job,
        tokens=tokens,
        prefix_length=min(job.virtual + prompt.shared_tokens, len(tokens) - 1),
        room=wanted,
        adapter=job.adapter,
        sampling=request.sampling,
        seed=request.seed,
        thinking=prompt.thinking,
    )


def score_rows(
    job: Job, request: ScoreRequest, renderer: Renderer, window: int | None
) -> list[ScoreRow]:
    """Return one row per continuation.

    Args:
        job: Whose they are.
        request: The call.
        renderer: Makes tokens of prompts, and has the tokenizer.
        window: Most tokens of prompt and continuation, if there is such a limit.

    Raises:
        UserError: There is no continuation, one is empty, or one does not fit.
        ModelError: The chat template refuses the prompt.
    """
    if not request.continuations:
        raise UserError("nothing to score", hint="give at least one continuation")
    prompt, tokenizer = renderer(request.segments, close_thinking=True), renderer.tokenizer
    tokens = virtual_ids(job.virtual) + prompt.token_ids
    rows = []
    for text in request.continuations:
        said = without_control(text, control_tokens_of(tokenizer))
        targets = tuple(tokenizer(said, add_special_tokens=False)["input_ids"])
        if not targets:
            raise UserError(
                f"the continuation {text!r} has no tokens to score",
                hint="leave empty texts out before scoring",
            )
        _check_window(len(tokens), len(targets), window, request.role)
        rows.append(
            ScoreRow(
                job=job,
                tokens=tokens + targets[:-1],
                prefix_length=min(job.virtual + prompt.shared_tokens, len(tokens) - 1),
                adapter=job.adapter,
                targets=targets,
            )
        )
    return rows


def scores_of(rows: Sequence[ScoreRow]) -> Scores:
    """Return the result of a call whose rows are all done."""
    done = [TokenScores(logprobs=row.logprobs) for row in rows if row.logprobs is not None]
    prompt = len(rows[0].tokens) - rows[0].virtual - len(rows[0].targets) + 1
    usage = Usage(
        prompt_tokens=prompt + sum(len(row.targets) for row in rows),
        reused_tokens=max(0, rows[0].reused - rows[0].virtual),
    )
    return Scores(continuations=tuple(done), usage=usage)


def _check_window(prompt: int, more: int, window: int | None, role: str) -> None:
    if window is None or prompt + more <= window:
        return
    raise UserError(
        f"{role or 'a call'}: the prompt has {prompt} tokens and {more} more are asked for, "
        f"but the model's context window is {window}",
        hint="lower retrieval.context_tokens or the token limits in the configuration, "
        "or take a model with a longer window",
    )
