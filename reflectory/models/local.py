"""A transformers model on this machine, as the agents see it.

Importing this module is cheap; torch is loaded when a model is made.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from reflectory.errors import BackendError, UserError
from reflectory.models.device import DeviceName, DtypeName, choose_device, choose_dtype
from reflectory.models.protocol import Capability, Completion, Request, ScoreRequest, Scores

if TYPE_CHECKING:
    from reflectory.models.engine.work import Job

CACHE_BYTES = 1_000_000_000
"""Default size of the prefix cache."""

BATCH_BYTES = 2_000_000_000
"""Keys and values that one batch may hold."""


@dataclass(frozen=True)
class RoleStatistics:
    """What the calls of one role took.

    Attributes:
        calls: Calls that were answered.
        prompt_tokens: Tokens that they read.
        reused_tokens: Of those, tokens that were not computed for them.
        completion_tokens: Tokens that they wrote.
        seconds: From question to answer, waiting included, summed over the
            calls; calls that run together are each counted in full.
    """

    calls: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class LocalModel:
    """A transformers model that answers many calls at once.

    Calls are gathered into batches by a thread of its own, which starts with
    the first call; the keys and values of shared segments are computed once.

    In float32 every call is computed by itself, in passes whose shapes depend on
    that call only, so that it gives the same bits whatever else runs. Other
    formats are for speed: there a call's text can depend on its neighbours where
    two tokens are almost equally likely.

    Args:
        model: A transformers causal language model, already on its device. It is
            changed in place: an adapter is put into it, and its attention learns
            to share prefixes (which changes nothing for other uses of it).
        tokenizer: Its tokenizer.
        fingerprint: Identity of the weights, without the adapter.
        adapter: Folder of a LoRA adapter.
        max_batch: Most sequences that are decoded together.
        batch_invariant: Whether calls are computed one by one; ``None`` does so
            in float32 only.
        cache_bytes: Size of the prefix cache; 0 keeps nothing.

    Raises:
        ModelError: The adapter is missing or was made for another model.
        UserError: ``max_batch`` is less than 1.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        fingerprint: str,
        adapter: str | Path | None = None,
        max_batch: int = 32,
        batch_invariant: bool | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}", hint="it must be at least 1")
        import torch

        from reflectory.models.engine.loading import load_adapter
        from reflectory.models.engine.prefix_cache import PrefixCache
        from reflectory.models.engine.runner import Runner
        from reflectory.models.engine.scheduler import Scheduler
        from reflectory.models.engine.selection import Limits

        if adapter is not None:
            model, fingerprint = load_adapter(model, adapter, fingerprint=fingerprint)
        self._fingerprint = fingerprint
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._statistics: dict[str, RoleStatistics] = {}
        if batch_invariant is None:
            batch_invariant = model.dtype == torch.float32
        runner = Runner(
            model, _ending_tokens(model, tokenizer), share_attention=not batch_invariant
        )
        self._window = _context_window(model)
        alone = batch_invariant or not runner.batches
        self._scheduler = Scheduler(
            runner,
            tokenizer,
            self._lock,
            PrefixCache(runner.compute_prefix, limit_bytes=cache_bytes, extend=not batch_invariant),
            limits=Limits(
                rows=1 if alone else max_batch,
                cells=BATCH_BYTES // max(runner.token_bytes, 1),
                copies=not runner.cascades,
            ),
            invariant=batch_invariant,
            window=self._window,
            on_done=self._count,
        )

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: DeviceName = "auto",
        dtype: DtypeName = "auto",
        adapter: str | Path | None = None,
        fingerprint: str | None = None,
        max_batch: int = 32,
        batch_invariant: bool | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> Self:
        """Load a model from a folder or from the Hugging Face hub.

        Args:
            source: A folder with ``config.json`` and safetensors, or a hub id.
            device: Where it runs.
            dtype: Number format of weights and activations.
            adapter: Folder of a LoRA adapter.
            fingerprint: Identity of the weights; made from the files when it is
                not given.
            max_batch: As in the constructor.
            batch_invariant: As in the constructor.
            cache_bytes: As in the constructor.

        Raises:
            ModelError: Model or adapter are missing, unreadable or do not fit.
            UserError: The device or the number format cannot be had.
        """
        from reflectory.models.engine.loading import fingerprint_of, load_model, resolve_model

        folder, name = resolve_model(source)
        place = choose_device(device)
        number_format = choose_dtype(dtype, place)
        model, tokenizer = load_model(folder, place, number_format)
        return cls(
            model,
            tokenizer,
            fingerprint=fingerprint or fingerprint_of(folder, name, number_format),
            adapter=adapter,
            max_batch=max_batch,
            batch_invariant=batch_invariant,
            cache_bytes=cache_bytes,
        )

    @property
    def fingerprint(self) -> str:
        """Identity of weights, number format and adapter."""
        return self._fingerprint

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything that the protocol knows."""
        return frozenset(Capability)

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together; ``None`` when unknown."""
        return self._window

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``.

        Raises:
            UserError: Prompt and ``max_tokens`` exceed the context window.
            BackendError: The deadline passed (retryable), memory ran out, or the
                model was closed.
        """
        result: Completion = await self._ask(request)
        return result

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihood of each continuation of ``request``.

        Raises:
            UserError: There is nothing to score, a continuation is empty, or
                something exceeds the context window.
            BackendError: As in :meth:`complete`.
        """
        result: Scores = await self._ask(request)
        return result

    async def _ask(self, request: Request | ScoreRequest) -> Any:
        from reflectory.models.engine.work import Job

        job = Job(request)
        self._scheduler.submit(job)
        try:
            # Leaving the await cancels the future, which drops the job.
            async with asyncio.timeout(request.deadline_s):
                return await asyncio.wrap_future(job.future)
        except TimeoutError as error:
            raise BackendError(
                f"{request.role or 'a call'}: no answer within {request.deadline_s:g} s",
                hint="allow more time, or let fewer calls run at once",
            ) from error

    def count_tokens(self, text: str) -> int:
        """Return how many tokens ``text`` has, without special tokens."""
        with self._lock:
            return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def stats(self) -> dict[str, RoleStatistics]:
        """Return what the calls of each role took until now."""
        with self._lock:
            return dict(self._statistics)

    async def aclose(self) -> None:
        """End the thread and give the prefix cache back; waiting calls fail."""
        await asyncio.to_thread(self._scheduler.close)

    def _count(self, job: Job, result: Completion | Scores) -> None:
        seconds = time.perf_counter() - job.submitted
        usage, role = result.usage, job.request.role
        with self._lock:
            old = self._statistics.get(role, RoleStatistics())
            self._statistics[role] = RoleStatistics(
                calls=old.calls + 1,
                prompt_tokens=old.prompt_tokens + usage.prompt_tokens,
                reused_tokens=old.reused_tokens + usage.reused_tokens,
                completion_tokens=old.completion_tokens + usage.completion_tokens,
                seconds=old.seconds + seconds,
            )


def _context_window(model: Any) -> int | None:
    """Return the most positions that the configuration names."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(window) if window else None


def _ending_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids that end a completion: those of the model and of the tokenizer."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = set(named if isinstance(named, list | tuple) else [named])
    return {int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None}
