"""Embedders: sentence-transformers on this machine, or a LangChain object.

sentence_transformers (6 to 9 s) is imported when the first text is embedded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import ModelError
from reflectory.models.device import DeviceName, choose_device
from reflectory.models.progress import Progress
from reflectory.models.protocol import Embedder, content_hash
from reflectory.models.provider_errors import identity_of, secrets_of, translated
from reflectory.models.quiet import no_progress_bars
from reflectory.models.store import check_allowed, sha256_of
from reflectory.models.token_vectors import TokenVectors, encode_tokens, no_tokens
from reflectory.models.torch_thread import in_torch_thread, run_in_torch_thread

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

BATCH_TEXTS = 32
"""Most texts that go through the model together."""

_DECIDES = (
    "*.safetensors",
    "*/*.safetensors",
    "modules.json",
    "*/config.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "vocab.txt",
)
"""Files that decide a vector, and nothing that a library notes about itself."""


class SentenceTransformerEmbedder:
    """A sentence-transformers model on this machine.

    The vector of a text must not depend on its neighbours. Padding a short text
    to the length of a long one changes its vector, in float32 by 1.6e-7 per
    number at most, in bfloat16 by 2e-3 (measured with MiniLM on texts of 5 to
    100 words). So only texts with equally many tokens share a batch: without
    padding, the rows of a batch are computed alike in both formats (differences
    of 1.2e-7 remain in float32, where a bigger product is cut up for several
    threads), and it saves the time that padding takes. The same list of texts
    gives the same bits.

    Args:
        path_or_id: Folder of the model, or its id on the hub.
        device: Where it runs.
        dtype: Number format of its weights; bfloat16 is twice as fast where the
            processor has it, and the vectors then differ in the third digit.
        fingerprint: Identity of the weights; made from the files when not given.

    Raises:
        ModelError: There is no such model.
        UserError: The device is not there.
        BackendError: The hub could not be reached.
    """

    def __init__(
        self,
        path_or_id: str | Path,
        *,
        device: DeviceName = "auto",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        fingerprint: str | None = None,
    ) -> None:
        check_allowed(str(path_or_id))
        self._folder, name = _find(path_or_id)
        self._device = choose_device(device)
        self._dtype = dtype
        self._fingerprint = fingerprint or f"{name}@{_hash_files(self._folder)}/{dtype}"
        self._model: Any = None

    @property
    def fingerprint(self) -> str:
        """Name, hash of the deciding files, and number format."""
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """Length of the vectors; loads the model when it is asked first."""
        model = run_in_torch_thread(self._loaded)
        # The method was renamed in version 5.
        ask = getattr(model, "get_embedding_dimension", None)
        return int((ask or model.get_sentence_embedding_dimension)())

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (len(texts), dimension); zeros for a blank text.

        Raises:
            ModelError: The model cannot be loaded.
        """
        given = list(texts)
        return await in_torch_thread(lambda: self._embed(given))

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        dimension = self.dimension
        vectors = np.zeros((len(texts), dimension), dtype=np.float32)
        model = self._loaded()
        for rows in _batches_of_equal_length(texts, model):
            found = model.encode(
                [texts[row] for row in rows],
                batch_size=BATCH_TEXTS,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
            vectors[rows] = unit(np.asarray(found, dtype=np.float32))
        return vectors

    async def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Return the vectors of each text's tokens, from the last layer.

        Raises:
            ModelError: The model cannot be loaded.
        """
        given = list(texts)
        return await in_torch_thread(lambda: self._embed_tokens(given))

    def _embed_tokens(self, texts: list[str]) -> list[TokenVectors]:
        found = [no_tokens(self.dimension)] * len(texts)
        model = self._loaded()
        for rows in _batches_of_equal_length(texts, model):
            encoded = encode_tokens(model, [texts[row] for row in rows], BATCH_TEXTS)
            for row, vectors in zip(rows, encoded, strict=True):
                found[row] = vectors
        return found

    def _loaded(self) -> Any:
        """Return the model; called in the torch thread only, so it is loaded once."""
        if self._model is None:
            import torch
            from sentence_transformers import SentenceTransformer

            try:
                with no_progress_bars():
                    self._model = SentenceTransformer(
                        str(self._folder),
                        device=str(self._device),
                        local_files_only=True,
                        model_kwargs={"dtype": getattr(torch, self._dtype)},
                    )
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise ModelError(
                    f"the embedder in {self._folder} cannot be loaded: {error}",
                    hint="it must be a sentence-transformers model with safetensors weights",
                ) from error
        return self._model


class LangChainEmbedder:
    """Any LangChain ``Embeddings`` object.

    Whether the vector of a text depends on other texts is up to the object;
    most servers compute each by itself.

    Args:
        embeddings: The object.
        name: Part of the fingerprint; by default the class and its model name.
    """

    def __init__(self, embeddings: Embeddings, *, name: str | None = None) -> None:
        self._embeddings = embeddings
        self._fingerprint = f"langchain:{name}" if name else identity_of(embeddings)
        self._secrets = secrets_of(embeddings)
        self._dimension: int | None = None

    @property
    def fingerprint(self) -> str:
        """Class, model and settings, without keys."""
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """Length of the vectors; embeds one word when nothing was embedded before."""
        return self._dimension or self._ask_dimension()

    def _ask_dimension(self) -> int:
        with translated(self._fingerprint, self._secrets):
            dimension = len(self._embeddings.embed_query("dimension"))
        self._dimension = dimension
        return dimension

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (len(texts), dimension); zeros for a blank text.

        Raises:
            BackendError: The server failed, or gave another number of vectors.
            ModelError: It refused the key or does not know the model.
        """
        rows = [row for row, text in enumerate(texts) if text.strip()]
        found: list[list[float]] = []
        if rows:
            with translated(self._fingerprint, self._secrets):
                found = await self._embeddings.aembed_documents([texts[row] for row in rows])
        if len(found) != len(rows):
            raise ModelError(
                f"{self._fingerprint} gave {len(found)} vectors for {len(rows)} texts",
                hint="this Embeddings object breaks LangChain's contract",
            )
        if found:
            self._dimension = len(found[0])
        dimension = self._dimension
        if dimension is None:
            dimension = await asyncio.to_thread(self._ask_dimension)
        vectors = np.zeros((len(texts), dimension), dtype=np.float32)
        if rows:
            vectors[rows] = unit(np.asarray(found, dtype=np.float32))
        return vectors


def resolve_embedder(
    spec: object, device: DeviceName = "auto", *, progress: Progress | None = None
) -> Embedder:
    """Return an embedder from a name or an object.

    Args:
        spec: ``local`` (the default model), ``local:PATH_OR_HUB_ID``, a LangChain
            ``Embeddings`` object, or anything that meets the protocol.
        device: Where a local one runs.
        progress: Is told how far the download of the default model is.

    Raises:
        ModelError: It is nothing of the above, or there is no such model.
        UserError: The device is not there.
        BackendError: A download failed.
    """
    if isinstance(spec, str):
        kind, _, rest = spec.partition(":")
        if spec == "local":
            from reflectory.models.defaults import ensure_embedding_model

            return SentenceTransformerEmbedder(ensure_embedding_model(progress).path, device=device)
        if kind == "local" and rest:
            return SentenceTransformerEmbedder(rest, device=device)
    elif isinstance(spec, Embedder):
        return spec
    elif _is_langchain(spec):
        return LangChainEmbedder(spec)
    shown = repr(spec) if isinstance(spec, str) else f"an object of {type(spec).__name__}"
    raise ModelError(
        f"{shown} is no embedder",
        hint="use `local`, `local:PATH_OR_HUB_ID`, a LangChain Embeddings object, or an object "
        "with fingerprint, dimension and embed()",
    )


def _is_langchain(spec: object) -> TypeGuard[Embeddings]:
    from langchain_core.embeddings import Embeddings

    return isinstance(spec, Embeddings)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows with length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _batches_of_equal_length(texts: Sequence[str], model: Any) -> Iterator[list[int]]:
    """Yield the rows of non-blank texts, in groups of equally many tokens."""
    rows = [row for row, text in enumerate(texts) if text.strip()]
    groups: dict[int, list[int]] = {}
    for row, length in zip(rows, _lengths([texts[r] for r in rows], model), strict=True):
        groups.setdefault(length, []).append(row)
    for length in sorted(groups):
        group = groups[length]
        yield from (group[i : i + BATCH_TEXTS] for i in range(0, len(group), BATCH_TEXTS))


def _lengths(texts: list[str], model: Any) -> list[int]:
    """Return how many tokens of each text the model reads."""
    if not texts or not callable(model.tokenizer):
        return [0] * len(texts)  # Such models look words up one by one and pad nothing.
    limit = model.max_seq_length
    ids = model.tokenizer(texts, truncation=limit is not None, max_length=limit)["input_ids"]
    return [len(row) for row in ids]


def _find(path_or_id: str | Path) -> tuple[Path, str]:
    """Return the folder of a model and the name to call it by."""
    from reflectory.models.hub import is_hub_id, snapshot

    folder = Path(path_or_id).expanduser()
    if (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return folder, folder.resolve().name
    if folder.exists() or not is_hub_id(str(path_or_id)):
        raise ModelError(
            f"there is no embedder in {path_or_id}",
            hint="give the folder of a sentence-transformers model, or a hub id OWNER/NAME",
        )
    return snapshot(str(path_or_id)), str(path_or_id).rpartition("/")[2]


def _hash_files(folder: Path) -> str:
    """Return a hash of what decides a vector."""
    files = sorted({file for pattern in _DECIDES for file in folder.glob(pattern)})
    hashes = {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
    settings = folder / "config_sentence_transformers.json"
    if settings.is_file():
        # The prompts in it decide; the library versions in it do not.
        content = json.loads(settings.read_text(encoding="utf-8"))
        chosen = {key: content.get(key) for key in ("prompts", "default_prompt_name")}
        hashes[settings.name] = content_hash(chosen)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]
