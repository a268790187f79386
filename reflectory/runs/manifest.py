"""The manifest: what a run was made with, so that it can be made again.

It is the only file of a run directory with times in it. Library versions are
read from the installed packages' metadata; no library is imported for it.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import reflectory
from reflectory.config import RunConfig
from reflectory.errors import IntegrityError, RunDirectoryError
from reflectory.runs.call_records import CacheStats
from reflectory.runs.files import storage_errors, write_json

SCHEMA_VERSION = 1
LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "langgraph",
    "langgraph-checkpoint",
    "langchain-core",
    "sentence-transformers",
    "faiss-cpu",
    "numpy",
    "numba",
    "pydantic",
)
"""Distributions whose version can change a result."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRecord(_Part):
    """Which weights took part.

    Attributes:
        name: What the user called it (``local``, a hub id, ``PROVIDER:MODEL``).
        source: Where it came from: ``hub``, ``package``, ``folder`` or ``server``.
        sha256: Of the weights' file; empty when they cannot be seen.
        fingerprint: Identity of weights, adapter and number format.
    """

    name: str
    source: str
    sha256: str = ""
    fingerprint: str


class Session(_Part):
    """One stretch of work by one process; a run that was resumed has several.

    Attributes:
        started: When the directory was opened (UTC, ISO 8601), as all times here.
        updated: When the manifest was last written.
        reflectory: Version of this package.
        commit: Commit of the working copy of the current folder, with ``-dirty``
            when there were changes; ``None`` outside of one.
        libraries: Versions of the libraries that can change a result.
        python: Version and implementation.
        platform: Operating system and processor.
        device: What the models ran on.
        hits: Calls answered without asking a model.
        budget: Limits of the session, by their field.
        engines: What local engines computed, by the parts they play: ``prefilled``
            and ``decoded`` tokens, ``remembered`` likelihoods, ``near_ties``, ``passes``,
            ``busy_seconds``.
    """

    started: str
    updated: str
    reflectory: str
    commit: str | None
    libraries: dict[str, str]
    python: str
    platform: str
    device: str = ""
    hits: int = 0
    budget: dict[str, float] = Field(default_factory=dict)
    engines: dict[str, dict[str, float]] = Field(default_factory=dict)


class Totals(_Part):
    """Sums over all sessions.

    Attributes:
        calls: Calls that models answered.
        hits: Calls answered without asking a model.
        tokens: Per role: calls, prompt_tokens, reused_tokens, completion_tokens, seconds
            (added up over calls, which overlap) and tokens_per_second of one call.
        seconds: Time of all calls added up; calls overlap.
        done: Finished loops.
        failed: Loops that failed as a whole.
        stops: Finished loops by the rule that stopped them.
        spent: What counts against a budget: ``calls``, ``tokens``, ``cost`` (US dollars, ``None``
            where a price is unknown) and ``hours``. Empty in manifests of older versions.
    """

    calls: int = 0
    hits: int = 0
    tokens: dict[str, dict[str, float]] = Field(default_factory=dict)
    seconds: float = 0.0
    done: int = 0
    failed: int = 0
    stops: dict[str, int] = Field(default_factory=dict)
    spent: dict[str, float | None] = Field(default_factory=dict)


class Manifest(_Part):
    """What a run was made with and what came of it.

    Attributes:
        schema_version: Version of this layout.
        config: The configuration in full, as JSON values.
        identity: What else decides the results: hash of the documents, fingerprints.
        models: The models by the part they play (teacher, student, embedder ...).
        seeds: Every seed of the configuration, by its field.
        sessions: The stretches of work, oldest first.
        started: When the run was begun.
        updated: When this was written.
        finished: When all instructions were done; ``None`` until then.
        totals: Sums over all sessions.
    """

    schema_version: int = SCHEMA_VERSION
    config: dict[str, Any]
    identity: dict[str, Any] = Field(default_factory=dict)
    models: dict[str, ModelRecord] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    sessions: tuple[Session, ...] = ()
    started: str
    updated: str
    finished: str | None = None
    totals: Totals = Totals()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a manifest.

        Raises:
            RunDirectoryError: It is of a newer schema.
            IntegrityError: The file is damaged.
            StorageError: The file cannot be read.
        """
        with storage_errors(path, "read"):
            text = path.read_bytes()
        hint = "restore the file from a copy, or choose another folder for this run"
        try:
            data = json.loads(text)
        except ValueError as error:
            raise IntegrityError(f"{path} is damaged: {error}", hint=hint) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise RunDirectoryError(
                f"{path} has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory, or choose another folder for this run",
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise IntegrityError(f"{path} is no manifest: {error}", hint=hint) from error

    def save(self, path: Path) -> None:
        """Replace the manifest file as a whole.

        Raises:
            StorageError: The disk is full or the file cannot be written.
        """
        write_json(path, self.model_dump(mode="json"))

    def updated_with(
        self,
        calls: CacheStats,
        *,
        done: int,
        failed: int,
        stops: Mapping[str, int],
        hits: int = 0,
        engines: Mapping[str, Mapping[str, float]] | None = None,
        spent: Mapping[str, float | None] | None = None,
        finished: bool = False,
    ) -> Self:
        """Return the manifest with new totals.

        Args:
            calls: What the call cache holds.
            done: Finished loops.
            failed: Loops that failed as a whole.
            stops: Finished loops by the rule that stopped them.
            hits: Calls of the last session that were answered from the cache.
            engines: What local engines computed in the last session.
            spent: What counts against a budget; as it was when ``None``.
            finished: Whether all instructions are done.
        """
        now = _now()
        last = {"updated": now, "hits": hits}
        if engines is not None:
            last["engines"] = {part: dict(counts) for part, counts in engines.items()}
        session = self.sessions[-1].model_copy(update=last)
        sessions = (*self.sessions[:-1], session)
        totals = Totals(
            calls=calls.total.calls,
            hits=sum(s.hits for s in sessions),
            tokens={
                role: {
                    "calls": sums.calls,
                    "prompt_tokens": sums.prompt_tokens,
                    "reused_tokens": sums.reused_tokens,
                    "completion_tokens": sums.completion_tokens,
                    "seconds": round(sums.seconds, 3),
                    "tokens_per_second": round(
                        sums.completion_tokens / sums.seconds if sums.seconds else 0.0, 1
                    ),
                }
                for role, sums in calls.roles.items()
            },
            seconds=round(calls.total.seconds, 3),
            done=done,
            failed=failed,
            stops=dict(stops),
            spent=self.totals.spent if spent is None else dict(spent),
        )
        changes = {"sessions": sessions, "totals": totals, "updated": now}
        return self.model_copy(update={**changes, "finished": now if finished else None})


def build_manifest(
    config: RunConfig,
    identity: Mapping[str, Any],
    *,
    models: Mapping[str, ModelRecord] | None = None,
    device: str = "",
    previous: Manifest | None = None,
) -> Manifest:
    """Return the manifest of a session that begins now.

    Args:
        config: The configuration of the run.
        identity: What else decides the results, as JSON values.
        models: The models by the part they play.
        device: What the models run on, in words.
        previous: The manifest so far, when the run is resumed.
    """
    now = _now()
    session = Session(
        started=now,
        updated=now,
        reflectory=reflectory.__version__,
        commit=working_copy_commit(Path.cwd()),
        libraries=library_versions(LIBRARIES),
        python=f"{platform.python_version()} {platform.python_implementation()}",
        platform=f"{platform.platform()} {platform.machine()}",
        device=device,
        budget=config.budget.limits,
    )
    before = previous.sessions if previous is not None else ()
    return Manifest(
        config=config.model_dump(mode="json"),
        identity=json.loads(json.dumps(identity)),
        models=dict(models or {}),
        seeds={"loop.seed": config.loop.seed, "training.seed": config.training.seed},
        sessions=(*before, session),
        started=previous.started if previous is not None else now,
        updated=now,
        totals=previous.totals if previous is not None else Totals(),
    )


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed, by name."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that this environment does without
    return versions


def working_copy_commit(folder: Path) -> str | None:
    """Return the git commit that is checked out in ``folder``, with ``-dirty`` on changes.

    ``None`` when the folder is in no working copy, there is no commit yet, or git
    is not installed: a run does not depend on it.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
