"""Everything that a command needs, from Python or YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator

from reflectory.config.base import Settings, problems_of
from reflectory.config.budget import BudgetConfig
from reflectory.config.checkpoints import checked_checkpoints
from reflectory.config.cluster import ClusterConfig
from reflectory.config.curation import CurationConfig
from reflectory.config.evaluation import EvaluationConfig
from reflectory.config.improvement import ImprovementConfig
from reflectory.config.loop import LoopConfig
from reflectory.config.practice import CandidateConfig, PracticeConfig
from reflectory.config.remote import RemoteConfig
from reflectory.config.training import TrainingConfig
from reflectory.errors import ConfigError, UserError


class _Dumper(yaml.SafeDumper):
    """PyYAML's, but the line break U+0085 is escaped: it would be read back as a space."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if "\x85" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


class RunConfig(Settings):
    """Everything that a command needs: what to read, who speaks, and how.

    Attributes:
        documents: Files and folders; or one saved index.
        instructions: A file (one per line, or JSON Lines with ``instruction``) or a list.
        teacher: ``local``, ``local:PATH_OR_HUB_ID`` or ``PROVIDER:MODEL``.
        student: The same; it may be another model.
        teacher_adapter: Folder of an adapter for the teacher.
        student_adapter: Folder of an adapter for the student.
        embedder: ``local`` or ``local:PATH_OR_HUB_ID``.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: ``auto``, ``bfloat16``, ``float16``, ``int8`` (processors) or ``float32``
            (exact reproducibility: every call is computed by itself).
        concurrency: Loops that run at the same time.
        checkpoints: Where it is kept where each loop stands: empty for a file in the run
            directory, ``postgresql://USER@HOST/DATABASE``, or ``env:NAME`` for the
            address in a variable.
        cache: Folder of a call cache that several runs share; empty for none. Each run has
            its own besides.
        budget: How much the run may use.
        cluster: Whether the loops are computed here or by workers on a Ray cluster.
        remote: How models on servers are called; it changes nothing of what they are asked.
        loop: The loop itself.
        practice: Instructions that the teacher writes from the documents.
        candidates: Answers among which the one to learn is chosen.
        curation: Which parts of trajectories become rows.
        training: How rows are learnt.
        improvement: The rounds that all of this makes.
        evaluation: Whether the loop helps, against contenders of the same budget.
    """

    documents: tuple[str, ...] = ()
    instructions: str | tuple[str, ...] = ()
    teacher: str = Field(default="local", min_length=1)
    student: str = Field(default="local", min_length=1)
    teacher_adapter: str | None = None
    student_adapter: str | None = None
    embedder: str = Field(default="local", min_length=1)
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32", "int8"] = "auto"
    concurrency: int = Field(default=8, ge=1, le=10_000)
    checkpoints: str = ""
    cache: str = ""
    budget: BudgetConfig = BudgetConfig()
    cluster: ClusterConfig = ClusterConfig()
    remote: RemoteConfig = RemoteConfig()
    loop: LoopConfig = LoopConfig()
    practice: PracticeConfig = PracticeConfig()
    candidates: CandidateConfig = CandidateConfig()
    curation: CurationConfig = CurationConfig()
    training: TrainingConfig = TrainingConfig()
    improvement: ImprovementConfig = ImprovementConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("documents", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        many = (value,) if isinstance(value, str | Path) else value
        if isinstance(many, list | tuple):
            return tuple(str(item) if isinstance(item, Path) else item for item in many)
        return many

    @field_validator("checkpoints")
    @classmethod
    def _no_password_in_it(cls, value: str) -> str:
        return checked_checkpoints(value)

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "configuration") -> Self:
        """Build a configuration from plain data.

        Args:
            data: Fields by name, as YAML gives them.
            source: Where they came from, for the message.

        Raises:
            ConfigError: With every problem that the data has.
        """
        if not isinstance(data, dict):
            raise ConfigError(
                [f"expected lines of `FIELD: VALUE`, got a {type(data).__name__}"], source=source
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(problems_of(error, cls), source=source) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a YAML file. Paths in it are taken relative to the file's folder.

        Raises:
            UserError: The file cannot be read or is not YAML.
            ConfigError: With every problem that the configuration has.
        """
        file = Path(path)
        try:
            data = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"cannot read the configuration {file}: {error.strerror or error}",
                hint="pass the path of a YAML file",
            ) from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:  # bad text, dates, nesting
            raise UserError(
                f"the configuration {file} is not YAML: {error}",
                hint="see docs/configuration.md for an example",
            ) from error
        return cls.from_dict({} if data is None else data, source=str(file)).anchored(file.parent)

    def anchored(self, folder: Path) -> Self:
        """Return a copy whose relative paths are those of ``folder``."""

        def anchor(path: str) -> str:
            # A data set has a name, and no place.
            named = path.startswith("dataset:")
            return path if named or Path(path).is_absolute() else str(folder / path)

        def anchor_model(name: str) -> str:
            kind, colon, place = name.partition(":")
            # A hub id looks like a relative path; it is one if the folder is there.
            is_folder = kind == "local" and bool(place) and (folder / place).is_dir()
            return f"{kind}{colon}{anchor(place)}" if is_folder else name

        changes: dict[str, Any] = {"documents": tuple(anchor(d) for d in self.documents)}
        for name in ("teacher", "student", "embedder"):
            changes[name] = anchor_model(getattr(self, name))
        if isinstance(self.instructions, str) and self.instructions:
            changes["instructions"] = anchor(self.instructions)
        if self.cache:
            changes["cache"] = anchor(self.cache)
        for name in ("teacher_adapter", "student_adapter"):
            if getattr(self, name) is not None:
                changes[name] = anchor(getattr(self, name))
        if self.budget.prices is not None:
            prices = anchor(self.budget.prices)
            changes["budget"] = self.budget.model_copy(update={"prices": prices})
        improvement: dict[str, Any] = {
            name: tuple(anchor(path) for path in getattr(self.improvement, name))
            for name in ("held_out", "held_out_documents", "manual_rows")
        }
        base = self.improvement.base
        if base is not None and (folder / base).is_dir():  # or else it is a hub id
            improvement["base"] = anchor(base)
        changes["improvement"] = self.improvement.model_copy(update=improvement)
        evaluation = {
            name: tuple(anchor(path) for path in getattr(self.evaluation, name))
            for name in ("sets", "documents")
        }
        changes["evaluation"] = self.evaluation.model_copy(update=evaluation)
        return self.model_copy(update=changes)

    def to_yaml(self) -> str:
        """Return the configuration as YAML that :meth:`load` reads back."""
        data = self.model_dump(mode="json")
        return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
