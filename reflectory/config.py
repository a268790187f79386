"""One validated configuration, from Python or YAML.

Every problem is reported at once, with the field that has it. Values are plain
data: live objects (a model, a retriever, a user's grader) are handed to
:class:`~reflectory.loop.ReflectiveLoop` beside the configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reflectory.alignment import EpsilonRule, PatienceRule, StopRule, TargetRule
from reflectory.errors import ConfigError, UserError


def problems_of(error: ValidationError) -> list[str]:
    """Return one readable line per problem of a pydantic error."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in item["loc"]) or "configuration"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such field; see docs/configuration.md for those there are"
        given = (
            "" if item["type"] in {"missing", "extra_forbidden"} else f" (got {item['input']!r})"
        )
        lines.append(f"{field}: {message}{given}"[:400])
    return lines


class _Dumper(yaml.SafeDumper):
    """PyYAML's, but the line break U+0085 is escaped: it would be read back as a space."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if "\x85" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


class Settings(BaseModel):
    """Base of all parts of the configuration: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(problems_of(error), source=type(self).__name__) from error

    # Nested parts are validated by pydantic's core and not through this
    # constructor, so that the problems of all parts arrive in one error.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class Level(Settings):
    """One tier of difficulty l_j.

    Attributes:
        name: Unique among the levels of a loop; the row of the matrix.
        description: What a question of this level asks for; the teacher reads it.
        rubric: What a good answer to such a question has; the grader reads it.
        starters: Beginnings of a question of this level. A model that can be
            prefilled starts with one of them, which small models need.
    """

    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1)
    rubric: str = "The answer is correct, complete and supported by the documents."
    starters: tuple[str, ...] = ("What",)

    @field_validator("name", "description")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value.strip()


DEFAULT_LEVELS = (
    Level(
        name="basic",
        description="asks for one fact that a document states directly",
        rubric="The answer states the fact as a document gives it.",
        starters=("What", "Who", "When", "Where"),
    ),
    Level(
        name="intermediate",
        description="asks how two facts or events are connected",
        rubric="The answer names both facts and how they are connected.",
        starters=("How", "Which"),
    ),
    Level(
        name="advanced",
        description="asks for reasons, or compares what different documents say",
        rubric="The answer gives reasons and draws on more than one passage.",
        starters=("Why", "How do the documents"),
    ),
    Level(
        name="expert",
        description="asks what remains uncertain, what conflicts, or what follows",
        rubric="The answer weighs the evidence, names conflicts and says what follows.",
        starters=("What evidence", "Which claim"),
    ),
)


class RetrievalConfig(Settings):
    """How documents become the context C_t.

    Attributes:
        passage_tokens: Most tokens of a passage; sentences are kept whole.
        per_document: Most passages of one document in S_i (its quota).
        passages: Most passages of C_0 over all documents.
        per_question: Most passages that a question adds to its own context C[j,t].
        context_tokens: Budget of C_t in tokens, the additions included.
        useful_score: A question's new passage joins C_{t+1} when the answer to it
            was graded at least this high.
    """

    passage_tokens: int = Field(default=120, ge=16, le=2000)
    per_document: int = Field(default=2, ge=1)
    passages: int = Field(default=4, ge=1)
    per_question: int = Field(default=1, ge=0)
    context_tokens: int = Field(default=700, ge=32)
    useful_score: float = Field(default=0.5, ge=0.0, le=1.0)


class SamplingConfig(Settings):
    """How the agents draw their tokens.

    Attributes:
        question_tokens: Most tokens of a question.
        answer_tokens: Most tokens of an answer to a question.
        response_tokens: Most tokens of R_t.
        grade_tokens: Most tokens of a grade in words.
        teacher_temperature: Randomness of questions; 0 asks the likeliest.
        student_temperature: Randomness of answers and responses.
        repetition_penalty: For all of them; small models repeat themselves.
    """

    question_tokens: int = Field(default=40, ge=4)
    answer_tokens: int = Field(default=48, ge=1)
    response_tokens: int = Field(default=96, ge=1)
    grade_tokens: int = Field(default=160, ge=1)
    teacher_temperature: float = Field(default=0.7, ge=0.0, le=5.0)
    student_temperature: float = Field(default=0.0, ge=0.0, le=5.0)
    repetition_penalty: float = Field(default=1.1, gt=0.0, le=5.0)


Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class LoopConfig(Settings):
    """One reflective loop (Algorithm 1).

    Attributes:
        max_iterations: T, the most iterations.
        epsilon: Threshold of Equation 32; the loop stops below it.
        patience: Also stop when the mean of A has not risen for so many iterations.
        target: Also stop when every level has reached this value of A.
        levels: l_1 to l_k, easiest first.
        returns: Which response is returned: the ``last`` (as in the survey) or
            the ``best`` by G. Decided in docs/decisions.md.
        grader: ``auto`` takes the likelihood grader where the teacher can score
            texts and the spoken one elsewhere.
        question_attempts: Tries at a question before the cell counts as failed.
        grade_attempts: Tries at a grade in words before it counts as failed.
        citations: ``find`` attributes each answer to the passages whose words it
            repeats; ``ask`` also has the student name them, which strong models can
            and small ones answer worse for (docs/experiments.md).
        review: Stop for a person after a ``question`` or a ``grade``.
        retrieval: How documents become context.
        sampling: How tokens are drawn.
        prompts: Replacements of single prompts by name (see ``agents/prompts``).
        seed: Seed of every random draw.
    """

    max_iterations: int = Field(default=3, ge=1, le=1000)
    epsilon: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    patience: int | None = Field(default=None, ge=1)
    target: Unit | None = None
    levels: tuple[Level, ...] = DEFAULT_LEVELS
    returns: Literal["last", "best"] = "last"
    grader: Literal["auto", "likelihood", "spoken"] = "auto"
    question_attempts: int = Field(default=3, ge=1, le=20)
    grade_attempts: int = Field(default=3, ge=1, le=20)
    citations: Literal["find", "ask"] = "find"
    review: tuple[Literal["question", "grade"], ...] = ()
    retrieval: RetrievalConfig = RetrievalConfig()
    sampling: SamplingConfig = SamplingConfig()
    prompts: dict[str, str] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)

    @field_validator("levels")
    @classmethod
    def _unique_levels(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if not levels:  # not min_length: that counts only the levels that are valid
            raise ValueError("at least one level is needed")
        names = [level.name for level in levels]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"level names must differ, repeated: {', '.join(repeated)}")
        return levels

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels, easiest first."""
        return tuple(level.name for level in self.levels)

    def stop_rules(self) -> tuple[StopRule, ...]:
        """Return the rules that may stop the loop, epsilon first."""
        rules: list[StopRule] = [EpsilonRule(self.epsilon)]
        if self.patience is not None:
            rules.append(PatienceRule(self.patience))
        if self.target is not None:
            rules.append(TargetRule(self.target))
        return tuple(rules)


class CurationConfig(Settings):
    """Which parts of a trajectory become rows (a stated rule on G).

    Attributes:
        minimum_grade: A response is accepted when its G is at least this.
        minimum_gain: ... and when it exceeds G[0] by at least this, unless it is R_0.
        minimum_score: An answer to a question is accepted when its score is at least this.
        minimum_margin: A preference pair needs this distance between its two grades.
        questions: Whether answers to questions become rows at all.
    """

    minimum_grade: Unit = 0.5
    minimum_gain: Unit = 0.0
    minimum_score: Unit = 0.5
    minimum_margin: Unit = 0.1
    questions: bool = True


class TrainingConfig(Settings):
    """One round of LoRA.

    Attributes:
        rank: Rank r of the adapter matrices.
        alpha: Scale; the update is multiplied by alpha / rank.
        dropout: Dropout on the adapter's input.
        target_modules: Which layers get an adapter; ``all-linear`` for every one.
        learning_rate: Peak learning rate, decayed linearly.
        epochs: Passes over the rows, unless ``max_steps`` is given.
        max_steps: Optimiser steps.
        batch_size: Rows per optimiser step.
        max_length: Most tokens of a row; longer prompts lose their beginning, never
            the completion.
        seed: Seed of initialisation and order.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    learning_rate: float = Field(default=2e-4, gt=0.0, allow_inf_nan=False)
    epochs: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=4, ge=1)
    max_length: int = Field(default=1024, ge=16)
    seed: int = Field(default=0, ge=0)


class RunConfig(Settings):
    """Everything that a command needs: what to read, who speaks, and how.

    Attributes:
        documents: Files and folders; or one saved index.
        instructions: A file (one per line, or JSON Lines with ``instruction``) or a list.
        teacher: ``local``, ``local:PATH_OR_HUB_ID`` or ``PROVIDER:MODEL``.
        student: The same; it may be another model.
        teacher_adapter: Folder of a LoRA adapter for the teacher.
        student_adapter: Folder of a LoRA adapter for the student.
        embedder: ``local`` or ``local:PATH_OR_HUB_ID``.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: ``auto``, ``bfloat16``, ``float16``, ``int8`` (processors) or ``float32``
            (exact reproducibility: every call is computed by itself).
        concurrency: Loops that run at the same time.
        loop: The loop itself.
        curation: Which parts of trajectories become rows.
        training: The LoRA round.
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
    loop: LoopConfig = LoopConfig()
    curation: CurationConfig = CurationConfig()
    training: TrainingConfig = TrainingConfig()

    @field_validator("documents", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        many = (value,) if isinstance(value, str | Path) else value
        if isinstance(many, list | tuple):
            return tuple(str(item) if isinstance(item, Path) else item for item in many)
        return many

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "configuration") -> Self:
        """Build a configuration from plain data.

        Raises:
            ConfigError: With every problem that the data has.
        """
        if not isinstance(data, dict):
            raise ConfigError([f"expected fields, got {type(data).__name__}"], source=source)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(problems_of(error), source=source) from error

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
            return path if Path(path).is_absolute() else str(folder / path)

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
        for name in ("teacher_adapter", "student_adapter"):
            if getattr(self, name) is not None:
                changes[name] = anchor(getattr(self, name))
        return self.model_copy(update=changes)

    def to_yaml(self) -> str:
        """Return the configuration as YAML that :meth:`load` reads back."""
        data = self.model_dump(mode="json")
        return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
