"""From a name to a model.

Light to import; the library behind a name is imported when it is asked for.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from reflectory.config.remote import RemoteConfig
from reflectory.errors import ModelError
from reflectory.models.device import DeviceName, DtypeName
from reflectory.models.embedders import resolve_embedder
from reflectory.models.langchain import LangChainModel
from reflectory.models.progress import Progress
from reflectory.models.protocol import Model
from reflectory.models.provider_errors import redact
from reflectory.models.store import check_allowed

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["ModelPool", "resolve_embedder", "resolve_model"]

_ACCEPTED = (
    "use `local`, `local:PATH_OR_HUB_ID`, `PROVIDER:MODEL` (for example "
    "`openai:gpt-4.1-mini` or `ollama:llama3.2`), `vllm:PATH_OR_HUB_ID`, a LangChain chat model, "
    "or an object that meets reflectory.models.protocol.Model"
)


def resolve_model(
    spec: object,
    *,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    adapter: str | Path | None = None,
    progress: Progress | None = None,
    remote: RemoteConfig | None = None,
) -> Model:
    """Return a model from a name or an object.

    Args:
        spec: ``local`` (the default model), ``local:PATH_OR_HUB_ID``,
            ``PROVIDER:MODEL`` as LangChain's ``init_chat_model`` understands it,
            ``vllm:PATH_OR_HUB_ID`` (vLLM in this process), a LangChain chat model,
            or anything that meets the protocol.
        device: Where a local model runs.
        dtype: Number format of a local model.
        adapter: Folder of an adapter for ``local``; LoRA only for ``vllm:``, or ``openai:`` with
            a server of the user's own (:mod:`reflectory.models.server_lora`).
        progress: Is told how far the download of the default model is.
        remote: How a chat model's server is called; the defaults when ``None``.

    Raises:
        ModelError: It is nothing of the above, a package or key is missing, or
            there is an adapter for something that takes none.
        UserError: The device is not there.
        BackendError: A download failed.
    """
    kind, _, rest = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if spec == "local" or (kind == "local" and rest):
        from reflectory.models.local import LocalModel

        return LocalModel.load(
            _local_source(rest, progress), device=device, dtype=dtype, adapter=adapter
        )
    if kind == "vllm" and rest:
        check_allowed(str(spec))
        from reflectory.models.vllm import VLLMModel

        return VLLMModel.load(rest, adapter=adapter, dtype="auto" if dtype == "int8" else dtype)
    if kind == "openai" and rest:
        check_allowed(str(spec))
        return _on_server(_from_provider(kind, rest), adapter, remote)
    if adapter is not None:
        raise ModelError(
            f"the adapter {adapter} was given for {_shown(spec)}, which takes no adapter folder",
            hint="adapters work with `local`, `local:PATH_OR_HUB_ID`, `vllm:PATH_OR_HUB_ID`, and "
            "with `openai:MODEL` when OPENAI_BASE_URL names your own server",
        )
    if isinstance(spec, str):
        if not (kind and rest) or kind == "local":
            raise ModelError(f"{spec!r} is no model", hint=_ACCEPTED)
        check_allowed(spec)
        return LangChainModel(_from_provider(kind, rest), remote=remote)
    if isinstance(spec, Model):
        return spec
    if _is_chat_model(spec):
        return LangChainModel(spec, remote=remote)
    raise ModelError(f"{_shown(spec)} is no model", hint=_ACCEPTED)


def _on_server(
    chat_model: BaseChatModel, adapter: str | Path | None, remote: RemoteConfig | None
) -> Model:
    from reflectory.models.server_lora import serve_adapter, serve_plainly

    served = serve_plainly(chat_model) if adapter is None else serve_adapter(chat_model, adapter)
    return LangChainModel(chat_model, adapter=served, remote=remote)


def _local_source(rest: str, progress: Progress | None) -> Path | str:
    if not rest:
        from reflectory.models.defaults import ensure_language_model

        return ensure_language_model(progress).path
    check_allowed(rest)
    return rest


def _shown(spec: object) -> str:
    return repr(spec) if isinstance(spec, str) else f"an object of {type(spec).__name__}"


def _is_chat_model(spec: object) -> TypeGuard[BaseChatModel]:
    from langchain_core.language_models import BaseChatModel

    return isinstance(spec, BaseChatModel)


def _from_provider(provider: str, model: str) -> BaseChatModel:
    """Return LangChain's chat model for a provider."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise ModelError(
            f"{provider}:{model} needs the package langchain",
            hint="pip install 'reflectory[providers]'",
        ) from error
    try:
        made: BaseChatModel = init_chat_model(
            model, model_provider=provider, **_own_server(provider)
        )
    except ImportError as error:
        raise ModelError(
            f"{provider}:{model} needs the provider's package: {error}",
            hint="install the package named above; `pip install 'reflectory[providers]'` brings "
            "LangChain and OpenAI's",
        ) from error
    except Exception as error:  # noqa: BLE001 - see below
        # A missing key raises another class with every provider, and a wrong
        # provider a ValueError whose text lists those that exist.
        said = redact(" ".join(str(error).split()))[:500]
        raise ModelError(
            f"{provider}:{model} cannot be used: {said}",
            hint="set the provider's key in its environment variable, and check the provider's "
            "name; " + _ACCEPTED,
        ) from None
    return made


def _own_server(provider: str) -> dict[str, Any]:
    """Return what a chat model of OpenAI's must be told about a server of the user's own.

    Its client would read the second variable by itself, but then no setting of the
    chat model would show the address, and two servers would have one fingerprint.
    Connections are not kept, because LangChain keeps them for the whole process,
    and one of an event loop that has ended fails the next call.
    """
    if provider != "openai":
        return {}
    address = os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL")
    return {"base_url": address, "default_headers": {"Connection": "close"}} if address else {}


class ModelPool:
    """Loads each named model once, however many roles ask for it.

    Two names that lead to the same folder share one model. Objects that were
    handed over are passed through and stay their owner's to close.

    Args:
        device: Where local models run.
        dtype: Number format of local models.
        progress: Is told how far a download is.
        remote: How servers are called; the defaults when ``None``.
    """

    def __init__(
        self,
        *,
        device: DeviceName = "auto",
        dtype: DtypeName = "auto",
        progress: Progress | None = None,
        remote: RemoteConfig | None = None,
    ) -> None:
        self._remote = remote
        self._device: DeviceName = device
        self._dtype: DtypeName = dtype
        self._progress = progress
        self._models: dict[tuple[str, str | None], Model] = {}
        self._lock = threading.Lock()

    def get(self, spec: object, *, adapter: str | Path | None = None) -> Model:
        """Return the model of ``spec``, loading it when it is the first to be asked for.

        May be called from several threads; raises what :func:`resolve_model` raises.

        Args:
            spec: As for :func:`resolve_model`.
            adapter: The folder of an adapter that stands beside it.
        """
        if not isinstance(spec, str):
            return resolve_model(spec, adapter=adapter, remote=self._remote)
        with self._lock:
            key = self._key(spec, adapter)
            if key not in self._models:
                self._models[key] = self._load(key, spec, adapter)
            return self._models[key]

    async def release(self, spec: str, *, adapter: str | Path) -> None:
        """Close a model with an adapter that is not needed any more, as after a round.

        The base model stays. Nothing happens when it was never loaded.

        Args:
            spec: As it was asked for.
            adapter: The adapter's folder.
        """
        with self._lock:
            model = self._models.pop(self._key(spec, adapter), None)
        if model is not None:
            await model.aclose()

    def _key(self, spec: str, adapter: str | Path | None) -> tuple[str, str | None]:
        folder = None if adapter is None else str(Path(adapter).expanduser().resolve())
        return self._canonical(spec), folder

    def _load(self, key: tuple[str, str | None], spec: str, adapter: str | Path | None) -> Model:
        if adapter is not None and key[0].partition(":")[0] == "local":
            from reflectory.models.local import LocalModel

            plain = (key[0], None)
            if plain not in self._models:
                self._models[plain] = self._load(plain, spec, None)
            base = self._models[plain]
            if isinstance(base, LocalModel):
                return base.with_adapter(adapter)  # one engine, the base in memory once
        return resolve_model(
            spec,
            device=self._device,
            dtype=self._dtype,
            adapter=adapter,
            progress=self._progress,
            remote=None if self._remote is None else self._remote.of(spec),
        )

    def _canonical(self, spec: str) -> str:
        """Return one name for the names that lead to the same folder."""
        kind, _, rest = spec.partition(":")
        if spec == "local":
            folder = Path(_local_source("", self._progress))
        elif kind == "local" and Path(rest).expanduser().is_dir():
            folder = Path(rest).expanduser()
        else:
            return spec
        return f"local:{folder.resolve()}"

    async def aclose(self) -> None:
        """Close every model that was loaded here, also when one of them fails.

        Raises:
            Exception: What the first that failed raised, once all have been closed.
        """
        with self._lock:
            models, self._models = list(self._models.values()), {}
        closed = await asyncio.gather(*(model.aclose() for model in models), return_exceptions=True)
        errors = [outcome for outcome in closed if isinstance(outcome, BaseException)]
        for error in errors[1:]:
            errors[0].add_note(f"closing another model failed too: {error!r}")
        if errors:
            raise errors[0]
