"""A transformers model on this machine, as the agents see it.

Importing this module is cheap; torch is loaded when a model is made.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from reflectory.errors import BackendError, UserError
from reflectory.models.device import DeviceName, DtypeName, choose_device, choose_dtype
from reflectory.models.protocol import Capability, Completion, Request, ScoreRequest, Scores

if TYPE_CHECKING:
    from reflectory.models.engine.engine import Engine
    from reflectory.models.engine.loading import Facts
    from reflectory.models.engine.work import Job

MAX_BATCH = 64
"""Completions that are written together; more gain little and take memory."""

_LOOKED_UP = ("embed_tokens", "wte", "wpe")
"""How input embeddings are called, which are looked up and not multiplied with."""


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

    Calls run in a thread of their own, which starts with the first one. All that
    are there share every pass of the model, and what their prompts have in common
    is computed once. A model and its adapters (:meth:`with_adapter`) share one engine.

    Args:
        model: A transformers causal language model, already on its device. It
            belongs to the engine from then on.
        tokenizer: Its tokenizer.
        fingerprint: Identity of the weights, without the adapter.
        adapter: Folder of an adapter.
        max_batch: Most completions that are written together.
        batch_invariant: Whether each call is computed by itself, in passes whose
            shapes depend on that call only, so that it has the same bits whatever
            else runs. Several times slower. ``None`` does so in float32 only. In the
            other way, and in other formats, a call's text can depend on its
            neighbours where two tokens are almost equally likely.
        cache_bytes: Size of the prefix cache; 0 keeps nothing; by default a fifth of
            the free memory.

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
        max_batch: int = MAX_BATCH,
        batch_invariant: bool | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        import torch

        from reflectory.models.engine.engine import Engine
        from reflectory.models.engine.loading import Facts
        from reflectory.models.engine.trial import network_for

        alone = model.dtype == torch.float32 if batch_invariant is None else batch_invariant
        facts = Facts.of(model, fingerprint)
        engine = Engine(
            model.eval,
            network_for,
            tokenizer,
            owned=False,
            max_batch=max_batch,
            alone=alone,
            cache_bytes=cache_bytes,
        )
        self._take(engine, facts, tokenizer, fingerprint)
        if adapter is not None:
            self._adapt(adapter)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: DeviceName = "auto",
        dtype: DtypeName = "auto",
        adapter: str | Path | None = None,
        fingerprint: str | None = None,
        max_batch: int = MAX_BATCH,
        batch_invariant: bool | None = None,
        cache_bytes: int | None = None,
    ) -> Self:
        """Load a model from a folder or from the Hugging Face hub.

        Args:
            source: A folder with ``config.json`` and safetensors, or a hub id.
            device: Where it runs.
            dtype: Number format of weights and activations.
            adapter: Folder of an adapter of any kind that PEFT knows.
            fingerprint: Identity of the weights; made from the files when it is
                not given.
            max_batch: As in the constructor.
            batch_invariant: As in the constructor; ``None`` does so where float32
                was asked for by name.
            cache_bytes: As in the constructor.

        Raises:
            ModelError: Model or adapter are missing, unreadable or do not fit.
            UserError: The device or the number format cannot be had.
        """
        import torch

        from reflectory.models.engine.engine import Engine
        from reflectory.models.engine.fused import FusedLlama
        from reflectory.models.engine.fused_bfloat16 import FusedBfloat16
        from reflectory.models.engine.loading import (
            Facts,
            fingerprint_of,
            load_model,
            load_tokenizer,
            resolve_model,
        )
        from reflectory.models.engine.trial import network_for

        folder, name = resolve_model(source)
        place = choose_device(device)
        formats = [choose_dtype(dtype, place, integers=True)]
        facts: list[Facts] = []
        looped: list[bool] = []

        def fresh() -> Any:
            # Integers are made of the exact weights.
            stored = torch.float32 if formats[-1] == torch.int8 else formats[-1]
            model = load_model(folder, place, stored)
            facts[:] = [Facts.of(model, f"{name}@")]
            return model

        def prepare(model: Any) -> Any:
            quantized = formats[-1] == torch.int8
            network = network_for(model, quantized=quantized)
            looped[:] = [True] if isinstance(network, FusedLlama | FusedBfloat16) else []
            if quantized and network is None:
                if dtype == "int8":
                    raise UserError(
                        f"{name} cannot be computed in int8",
                        hint="that is for models of the Llama family; set dtype to float32",
                    )
                formats.append(torch.float32)
                network = network_for(model)
            return network

        tokenizer = load_tokenizer(folder)
        engine = Engine(
            fresh,
            prepare,
            tokenizer,
            owned=True,
            max_batch=max_batch,
            alone=dtype == "float32" if batch_invariant is None else batch_invariant,
            cache_bytes=cache_bytes,
        )
        known = fingerprint or fingerprint_of(folder, name, formats[-1])
        if fingerprint is None and looped:
            known += "-loops"  # Compiled loops round otherwise, so what is said differs.
        local = cls.__new__(cls)
        local._take(engine, facts[0], tokenizer, known)
        if adapter is not None:
            local._adapt(adapter)
        return local

    def with_adapter(self, folder: str | Path) -> Self:
        """Return the same base model with an adapter, on the same engine.

        The base is not loaded again, and calls to both run together. Each of the two
        is closed by itself.

        Args:
            folder: Where PEFT saved the adapter.

        Raises:
            ModelError: It is missing or was made for another model.
        """
        other = type(self).__new__(type(self))
        other._take(self._engine, self._facts, self._tokenizer, self._base)
        other._adapt(folder)
        return other

    def _take(self, engine: Engine, facts: Facts, tokenizer: Any, fingerprint: str) -> None:
        self._engine = engine
        self._facts = facts
        self._tokenizer = tokenizer
        self._base = self._fingerprint = fingerprint
        self._adapter = ""
        self._closed = False
        self._lock = threading.Lock()
        self._statistics: dict[str, RoleStatistics] = {}
        engine.open()

    def _adapt(self, folder: str | Path) -> None:
        from reflectory.models.engine.loading import check_adapter

        try:
            files = check_adapter(folder, self._facts, self._base)
            self._fingerprint = f"{self._base}+adapter@{files.digest}"
            if self._engine.add_adapter(files.digest, files):
                self._adapter = files.digest
                return
            own = self._engine.merged(files)
        except BaseException:
            self._engine.close()
            raise
        self._engine.close()
        self._engine = own
        own.open()

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
        return self._engine.window

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
        from reflectory.models.engine.failures import closed_error
        from reflectory.models.engine.work import Job

        if self._closed:
            raise closed_error()
        job = Job(request, adapter=self._adapter, on_done=self._count)
        self._engine.submit(job)
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
        with self._engine.lock:
            return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def stats(self) -> dict[str, RoleStatistics]:
        """Return what the calls of each role took until now."""
        with self._lock:
            return dict(self._statistics)

    @property
    def parameters(self) -> int:
        """N: the weights that each token is multiplied with, so without the input embedding."""
        # Where input and output embedding are one, it is multiplied with at the output.
        shapes = self._facts.shapes.items()
        return sum(math.prod(shape) for name, shape in shapes if not name.endswith(_LOOKED_UP))

    def engine_stats(self) -> dict[str, float]:
        """Return what the engine has computed for all its models.

        Returns:
            ``prefilled`` and ``decoded`` tokens, ``remembered`` (continuations whose
            likelihood was known), ``near_ties`` (greedy tokens where the two best were
            nearer than 1e-4 in logit), ``passes`` of the network and ``busy_seconds``.
        """
        return self._engine.statistics()

    def sleep(self) -> None:
        """Give memory back (to training, say) once the running calls have ended.

        The next call loads the weights again; adapters stay known. A model that was
        handed over as an object stays with whoever holds it.
        """
        self._engine.sleep()

    async def aclose(self) -> None:
        """Take no more calls; may be called again.

        The last of the models on one engine ends its thread: what waits there fails, and
        everything is given back.
        """
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            await asyncio.to_thread(self._engine.close, self._adapter)

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
