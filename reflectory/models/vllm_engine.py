"""The engine behind :mod:`reflectory.models.vllm`: one for all models of one source.

UNTESTED on vLLM itself, as that module says.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from reflectory.errors import ModelError

MAX_RANK = 64
"""Largest rank of an adapter that the engine makes room for."""

_SHARED: dict[tuple[str, str], Engine] = {}
_LOCK = threading.Lock()


class Engine:
    """vLLM's AsyncLLM on an event loop of its own.

    Its sockets and tasks belong to the loop that it was made on, and callers'
    loops come and go.

    Args:
        source: A folder or an id on the Hugging Face hub.
        dtype: Number format, ``auto`` for the model's own.
    """

    def __init__(self, source: str, dtype: str) -> None:
        self.vllm: Any = importlib.import_module("vllm")
        transformers: Any = importlib.import_module("transformers")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        self.key, self.users = (source, dtype), 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="reflectory-vllm", daemon=True).start()
        made = asyncio.run_coroutine_threadsafe(self._make(source, dtype), self._loop)
        try:
            self.core = made.result()
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise
        number = str(self.core.model_config.dtype).rpartition(".")[2]
        self.fingerprint = f"vllm:{Path(source).name}@{_content_of(source)}/{number}"

    async def _make(self, source: str, dtype: str) -> Any:
        options = self.vllm.AsyncEngineArgs(
            model=source, dtype=dtype, enable_lora=True, max_lora_rank=MAX_RANK
        )
        return self.vllm.AsyncLLMEngine.from_engine_args(options)

    async def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run ``work`` on the engine's loop; cancelling the caller cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def release(self) -> None:
        """Leave the engine; the last one to leave shuts it down."""
        with _LOCK:
            self.users -= 1
            if self.users:
                return
            del _SHARED[self.key]
        self.core.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)


def shared_engine(source: str, dtype: str) -> Engine:
    """Return the engine of a source, started when it is the first to be asked for.

    Raises:
        ModelError: vLLM is not installed, or cannot load the model.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            f"vllm:{source} needs the package vllm, which is not installed",
            hint="pip install vllm on a machine with a GPU; or run `vllm serve`, set "
            f"OPENAI_BASE_URL to its address, and use openai:{source}",
        )
    with _LOCK:
        try:
            engine = _SHARED.get((source, dtype)) or Engine(source, dtype)
        except Exception as error:
            raise ModelError(
                f"vLLM cannot load {source}: {type(error).__name__}: {error}",
                hint="vLLM's log says more; try the same model with `vllm serve`",
            ) from error
        _SHARED[engine.key] = engine
        engine.users += 1
        return engine


def _content_of(source: str) -> str:
    """Return a hash of a folder's weights and settings, or the hub's commit."""
    if not Path(source).is_dir():
        hub: Any = importlib.import_module("huggingface_hub")
        file = hub.try_to_load_from_cache(source, "config.json")
        return Path(file).parent.name[:12] if isinstance(file, str) else "unknown"
    digest = hashlib.sha256()
    for file in sorted([*Path(source).glob("*.safetensors"), *Path(source).glob("*.json")]):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
