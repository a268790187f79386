"""LoRA adapters on servers that speak OpenAI's protocol.

The protocol has no word for adapters, so each server has its own:

* vLLM loads a folder while it runs (``POST /v1/load_lora_adapter``) and then
  serves it as a model of that name.
* SGLang loads a folder too (``POST /load_lora_adapter``); a request names the
  adapter in its field ``lora_path``.
* llama.cpp's server loads GGUF files when it starts (``--lora-scaled FILE:0``),
  lists them (``GET /lora-adapters``), and a request chooses one in its field
  ``lora``. Every request chooses, also those without an adapter: one that does
  not can be answered from what the prompt cache holds of another's request.
* Any other server may list a model of the adapter's name (``GET /v1/models``),
  made from it beforehand.

Which server it is, is found by asking for these paths in this order. vLLM and
SGLang read the folder from their own disk, so they must see the same path. The
name of an adapter holds the hash of its content, so that one name never stands
for two adapters.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reflectory.errors import BackendError, ModelError, ReflectoryError
from reflectory.models.adapter_files import WEIGHTS, AdapterFiles, read_adapter
from reflectory.models.provider_errors import redact

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_ABSENT = {404, 405, 501}
_ALREADY = re.compile(r"already\s*(been\s*loaded|exists|loaded)", re.IGNORECASE)
_LOADING_S = 300.0
"""A large adapter is read from a slow disk and copied to the device."""

_CHECK_LOADING = (
    "the server reads the folder from its own disk, so it must see this path; vLLM needs "
    "--enable-lora and --max-lora-rank, SGLang --enable-lora"
)
_CHECK_STARTING = (
    "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, SGLang with "
    "--enable-lora, llama.cpp with --lora-scaled; or give any server a model of the name "
)


@dataclass(frozen=True)
class ServedAdapter:
    """How a request to a server names an adapter.

    Attributes:
        digest: Hash of the adapter's content; empty where there is no adapter.
        model: Takes the place of the model's name; empty leaves it alone.
        body: Further fields of the request.
    """

    digest: str
    model: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)

    def applied_to(self, chat_model: BaseChatModel) -> BaseChatModel:
        """Return a copy of a ``ChatOpenAI`` whose requests name the adapter."""
        changes: dict[str, Any] = {"model_name": self.model} if self.model else {}
        if self.body:
            given = getattr(chat_model, "extra_body", None) or {}
            changes["extra_body"] = {**given, **self.body}
        return chat_model.model_copy(update=changes)


def serve_adapter(chat_model: BaseChatModel, folder: str | Path) -> ServedAdapter:
    """Make the server behind a ``ChatOpenAI`` ready for an adapter.

    The key of the chat model is sent to the address of the chat model and
    nowhere else; redirects are not followed.

    Args:
        chat_model: Speaks to a server of the user's own.
        folder: Folder of the adapter, as safetensors.

    Raises:
        ModelError: It is no adapter, or the server cannot take it.
        BackendError: The server cannot be reached or failed.
    """
    adapter, server = read_adapter(folder, lora_only=True), _server_of(chat_model)
    if server is None:
        raise ModelError(
            f"OpenAI's own service cannot use the adapter {folder}",
            hint="name your own server in the environment variable OPENAI_BASE_URL, for example "
            "http://127.0.0.1:8000/v1",
        )
    for attempt in (_load_vllm, _load_sglang, _find_llama_cpp, _find_model):
        served = attempt(server, adapter)
        if served is not None:
            return served
    raise ModelError(
        f"the server {server.base} has no way to load the adapter {folder}",
        hint=_CHECK_STARTING + adapter.name,
    )


def serve_plainly(chat_model: BaseChatModel) -> ServedAdapter | None:
    """Return what a request without an adapter must contain, ``None`` for nothing.

    llama.cpp's server is told the scales that it has set for all its adapters.
    A server that does not answer now is left to the calls to find out about.
    """
    server = _server_of(chat_model)
    try:
        listed = _adapters_of_llama_cpp(server, timeout_s=5.0) if server else None
    except ReflectoryError:
        return None
    scales = [{"id": entry["id"], "scale": entry.get("scale", 0.0)} for entry in listed or ()]
    return ServedAdapter("", body={"lora": scales}) if scales else None


def _server_of(chat_model: BaseChatModel) -> _Server | None:
    """Return the server behind a ``ChatOpenAI``, ``None`` when it is OpenAI's own."""
    client = getattr(chat_model, "root_client", None)
    address = str(getattr(client, "base_url", "") or getattr(chat_model, "openai_api_base", ""))
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or f".{host}".endswith(".openai.com"):
        return None
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return _Server(base, str(getattr(client, "api_key", "") or ""))


@dataclass(frozen=True)
class _Answer:
    status: int
    text: str

    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError:
            return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class _Server:
    """An address, and the key that goes there."""

    base: str
    key: str = field(repr=False)

    @property
    def root(self) -> str:
        return self.base.removesuffix("/v1")

    def ask(
        self, url: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = _LOADING_S
    ) -> _Answer:
        """Send one request; any status is an answer but those of keys and of failures."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout_s) as r:
                return _Answer(r.status, r.read().decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            answer = _Answer(error.code, error.read().decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise BackendError(
                f"the server {self.base} cannot be reached: {reason}",
                hint="is the server running and reachable?",
            ) from None
        if answer.status in (401, 403):
            raise self.refuses(answer, "check the key in OPENAI_API_KEY")
        if answer.status < 400:
            raise self.refuses(answer, "redirects are not followed; give the address behind it")
        if answer.status == 429 or (answer.status >= 500 and answer.status not in _ABSENT):
            raise BackendError(self.said(answer), hint="try again when the server is ready")
        return answer

    def said(self, answer: _Answer) -> str:
        text = redact(" ".join(answer.text.split()), frozenset({self.key} if self.key else ()))
        return f"the server {self.base} answered {answer.status}: {text[:400]}"

    def refuses(self, answer: _Answer, hint: str) -> ReflectoryError:
        return ModelError(self.said(answer), hint=hint)


def _load_vllm(server: _Server, adapter: AdapterFiles) -> ServedAdapter | None:
    answer = _load(server, f"{server.base}/load_lora_adapter", adapter)
    if answer is None:
        return None
    if adapter.name not in _models(server):
        raise server.refuses(answer, "the adapter is not among the server's models after this")
    return ServedAdapter(adapter.digest, model=adapter.name)


def _load_sglang(server: _Server, adapter: AdapterFiles) -> ServedAdapter | None:
    answer = _load(server, f"{server.root}/load_lora_adapter", adapter)
    if answer is None:
        return None
    said = answer.json()
    if answer.status == 200 and not (isinstance(said, dict) and said.get("success")):
        raise server.refuses(answer, _CHECK_LOADING)
    return ServedAdapter(adapter.digest, body={"lora_path": adapter.name})


def _load(server: _Server, url: str, adapter: AdapterFiles) -> _Answer | None:
    """Return what the server said when it had the adapter; ``None`` without such a path."""
    answer = server.ask(url, {"lora_name": adapter.name, "lora_path": str(adapter.folder)})
    if answer.status == 200 or _ALREADY.search(answer.text):
        return answer
    # vLLM says 404 for a folder that it cannot see, too.
    if answer.status in _ABSENT and "no adapter found" not in answer.text.lower():
        return None
    raise server.refuses(answer, _CHECK_LOADING)


def _models(server: _Server) -> set[str]:
    listed = server.ask(f"{server.base}/models").json()
    entries = listed.get("data") if isinstance(listed, dict) else None
    return {str(entry.get("id")) for entry in entries or () if isinstance(entry, dict)}


def _find_model(server: _Server, adapter: AdapterFiles) -> ServedAdapter | None:
    for name in (adapter.name, f"{adapter.name}:latest"):  # Ollama adds a tag.
        if name in _models(server):
            return ServedAdapter(adapter.digest, model=name)
    return None


def _find_llama_cpp(server: _Server, adapter: AdapterFiles) -> ServedAdapter | None:
    entries = _adapters_of_llama_cpp(server)
    if entries is None:
        return None
    files = {entry["id"]: str(entry.get("path", "")) for entry in entries}
    found = [at for at, file in files.items() if _is_of(file, adapter)]
    if len(found) != 1:
        raise ModelError(
            f"llama.cpp's server {server.base} has {len(found)} files of the adapter "
            f"{adapter.folder} among its {len(files)} adapters: "
            f"{', '.join(files.values()) or 'none'}",
            hint="convert it with llama.cpp's convert_lora_to_gguf.py and start the server with "
            f"--lora-scaled {adapter.name}.gguf:0; the hash in the name says which content it is",
        )
    if any(entry.get("scale") for entry in entries):
        raise ModelError(
            f"llama.cpp's server {server.base} puts its adapters on the base model's requests too",
            hint="start it with --lora-scaled FILE:0 instead of --lora (--lora-init-without-apply "
            f"is not enough), or POST a scale of 0 for each to {server.root}/lora-adapters",
        )
    return ServedAdapter(adapter.digest, body={"lora": [{"id": found[0], "scale": 1.0}]})


def _adapters_of_llama_cpp(
    server: _Server, *, timeout_s: float = _LOADING_S
) -> list[dict[str, Any]] | None:
    answer = server.ask(f"{server.root}/lora-adapters", timeout_s=timeout_s)
    listed = answer.json()
    if answer.status != 200 or not isinstance(listed, list):
        return None
    return [entry for entry in listed if isinstance(entry, dict) and "id" in entry]


def _is_of(file: str, adapter: AdapterFiles) -> bool:
    """Return whether a GGUF file is this adapter: by the hash in its name, or by its place.

    A file in the adapter's folder counts when it is not older than the weights. The name
    of a folder alone says nothing: every round may call its folder ``adapter``.
    """
    path = Path(file)
    if adapter.digest in re.split(r"[\\/]", file)[-1]:
        return True
    if not path.is_absolute() or path.parent.resolve() != adapter.folder or not path.is_file():
        return False
    return path.stat().st_mtime >= (adapter.folder / WEIGHTS).stat().st_mtime
