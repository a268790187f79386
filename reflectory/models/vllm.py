"""vLLM in this process, on its AsyncLLM engine.

UNTESTED on vLLM itself, which was not at hand. It is written from vLLM's sources
and documentation of 2025 and 2026; the tests check with a stand-in what the
engine is asked, not what it answers. The recommended way is vLLM's server and
``openai:MODEL``, see docs/servers.md.

vLLM starts a process of its own, so a script that uses this module guards its
entry with ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import uuid
from pathlib import Path
from typing import Any, Self

from reflectory.errors import BackendError, ModelError, UserError
from reflectory.models.adapter_files import AdapterFiles, read_adapter
from reflectory.models.control import control_tokens_of, without_control
from reflectory.models.engine.rendering import prompt_text
from reflectory.models.protocol import (
    Capability,
    Completion,
    Request,
    ScoreRequest,
    Scores,
    TokenScores,
    Usage,
)
from reflectory.models.provider_errors import translated
from reflectory.models.thinking import CLOSE, ends_inside_thinking, split_thinking
from reflectory.models.vllm_engine import MAX_RANK, Engine, shared_engine


class VLLMModel:
    """A model that vLLM runs in this process (untested, see the module).

    Models of one source share one engine, with and without adapters; an adapter
    goes along with each request as vLLM's ``LoRARequest``. There is no
    ``Capability.SEED``: a draw can depend on what shares its batch. vLLM's
    repetition penalty counts the tokens of the prompt too, other than the
    protocol's.

    Args:
        engine: What :func:`~reflectory.models.vllm_engine.shared_engine` returned.
        adapter: The LoRA adapter of every request.
    """

    def __init__(self, engine: Engine, *, adapter: AdapterFiles | None = None) -> None:
        self._engine, self._tokenizer, self._lora = engine, engine.tokenizer, None
        self._lock, self._closed = threading.Lock(), False
        self._fingerprint = engine.fingerprint
        if adapter is not None:
            self._fingerprint += f"+adapter@{adapter.digest}"
            lora: Any = importlib.import_module("vllm.lora.request")
            # The number must differ between adapters and be at least 1.
            number = int(adapter.digest[:7], 16) + 1
            self._lora = lora.LoRARequest(adapter.name, number, str(adapter.folder))

    @classmethod
    def load(cls, source: str, *, adapter: str | Path | None = None, dtype: str = "auto") -> Self:
        """Start vLLM on a model, or share the engine that runs it already.

        Args:
            source: A folder or an id on the Hugging Face hub.
            adapter: Folder of a LoRA adapter.
            dtype: Number format, ``auto`` for the model's own.

        Raises:
            ModelError: vLLM is not installed, or model or adapter cannot be loaded.
        """
        files = None if adapter is None else read_adapter(adapter, lora_only=True)
        if files is not None and files.rank > MAX_RANK:
            raise ModelError(
                f"the adapter {adapter} has rank {files.rank}, more than {MAX_RANK}",
                hint="train it with a lower training.rank, or use vLLM's server",
            )
        return cls(shared_engine(source, dtype), adapter=files)

    @property
    def fingerprint(self) -> str:
        """Identity of weights, adapter and number format."""
        return self._fingerprint

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything but seeds."""
        return frozenset(Capability) - {Capability.SEED}

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together."""
        return int(self._engine.core.model_config.max_model_len)

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``.

        Raises:
            UserError: The prompt leaves no room, or the chat template refuses it.
            BackendError: vLLM failed, or the deadline passed.
        """
        sampling = request.sampling
        text, thinking = self._prompt(request, close=bool(request.prefill))
        prompt = self._tokens(text + request.prefill)
        output = await self._ask(
            prompt,
            request,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            stop=list(sampling.stop),
            seed=request.seed,
        )
        said = output.outputs[0]
        text, thought = split_thinking(request.prefill + said.text, opened=thinking)
        usage = Usage(
            prompt_tokens=len(prompt),
            reused_tokens=getattr(output, "num_cached_tokens", None) or 0,
            completion_tokens=len(said.token_ids),
        )
        finish = "length" if said.finish_reason == "length" else "stop"
        return Completion(text=text, finish=finish, usage=usage, thinking=thought)

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the log-likelihood of each continuation of ``request``.

        Raises:
            UserError: There is nothing to score, or a continuation is empty or too long.
            BackendError: As in :meth:`complete`.
        """
        prompt = self._tokens(self._prompt(request, close=True)[0])
        control = control_tokens_of(self._tokenizer)
        said = [without_control(text, control) for text in request.continuations]
        targets = [self._tokens(text) for text in said]
        if not targets or not all(targets):
            raise UserError("nothing to score", hint="give continuations, none of them empty")
        # vLLM tells likelihoods of a prompt only, and always writes a token after it.
        options = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}
        outputs = await asyncio.gather(
            *[self._ask([*prompt, *tokens], request, **options) for tokens in targets]
        )
        continuations = []
        for tokens, output in zip(targets, outputs, strict=True):
            entries = output.prompt_logprobs[len(prompt) :]
            logprobs = [e[token].logprob for e, token in zip(entries, tokens, strict=True)]
            continuations.append(TokenScores(logprobs=tuple(logprobs)))
        usage = Usage(prompt_tokens=len(prompt) + sum(map(len, targets)))
        return Scores(continuations=tuple(continuations), usage=usage)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens ``text`` has, without special tokens."""
        return len(self._tokens(text))

    async def aclose(self) -> None:
        """Leave the engine, which ends with its last model."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._engine.release)

    def _tokens(self, text: str) -> list[int]:
        with self._lock:
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _prompt(self, request: Request | ScoreRequest, *, close: bool) -> tuple[str, bool]:
        """Return the prompt and whether it ends inside a thinking block."""
        with self._lock:
            text = prompt_text(self._tokenizer, request.segments)
        if not ends_inside_thinking(text[-40:]):
            return text, False
        return (f"{text.rstrip()}\n{CLOSE}\n\n", False) if close else (text, True)

    async def _ask(self, prompt: list[int], request: Request | ScoreRequest, **options: Any) -> Any:
        if self._closed:
            raise ModelError(f"{self._fingerprint} was closed", hint="resolve the model again")
        if len(prompt) + options["max_tokens"] > (self.context_window or 0):
            raise UserError(
                f"{request.role or 'a call'}: the prompt has {len(prompt)} tokens and "
                f"{options['max_tokens']} more are asked for, which exceeds the context window",
                hint="lower retrieval.context_tokens or the token limits in the configuration",
            )
        try:
            async with asyncio.timeout(request.deadline_s):
                with translated(self._fingerprint):
                    return await self._engine.call(self._generate(prompt, options))
        except TimeoutError:
            raise BackendError(
                f"{self._fingerprint}: no answer within {request.deadline_s:g} s",
                hint="allow more time, or let fewer calls run at once",
            ) from None

    async def _generate(self, prompt: list[int], options: dict[str, Any]) -> Any:
        params, given = self._engine.vllm.SamplingParams(**options), {"prompt_token_ids": prompt}
        generate, last = self._engine.core.generate, None
        async for output in generate(given, params, uuid.uuid4().hex, lora_request=self._lora):
            last = output
        return last
