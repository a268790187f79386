"""Everything of a training that is checked and read before the first step.

torch, transformers and peft are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from reflectory.config import TrainingConfig
from reflectory.errors import DatasetError, ModelError, UserError
from reflectory.models.device import DeviceName, DtypeName, choose_device, choose_dtype
from reflectory.training.dataset import rows_sha256
from reflectory.training.holding_back import hold_back
from reflectory.training.lineage import WEIGHTS_FILE, file_sha256, library_versions
from reflectory.training.plan import RowFacts, TrainingPlan
from reflectory.training.planning import plan_training
from reflectory.training.processes import Processes
from reflectory.training.rows import PreferenceRow, TrainingRow
from reflectory.training.sharing import SharedRows, group_rows, shared_rows
from reflectory.training.tokens import (
    TokenisedPairs,
    TokenisedRows,
    tokenise_pairs,
    tokenise_rows,
)

if TYPE_CHECKING:
    import torch

    from reflectory.training.distillation import DistributionTeacher

MINIMUM_ROWS = 2

_NOT_DECIDING = (
    "checkpoint_steps",
    "checkpoint_seconds",
    "micro_batch",
    "activation_checkpointing",
)


_LEAST_SAVED = 0.1
"""Share of the tokens that reading rows together has to save."""

_MOST_TOGETHER = 2
"""Tokens of rows that are read together, in times of the longest row allowed."""

_VIRTUAL = ("prefix", "prompt", "p-tuning")
"""Methods under which the completions of a pair cannot share their prompt."""


@dataclass(frozen=True)
class Inputs:
    """What was asked for, checked as far as it can be without reading a model.

    Attributes:
        rows: For supervised training; empty where the objective has none.
        preferences: For preference training; likewise.
        config: Hyperparameters.
        folder: Of the base model.
        name: Of the base model.
        fingerprint: Of the base model.
        parent: Folder of the adapter to start from.
        teacher: Folder of another model whose distributions are learnt.
        teacher_fingerprint: Of the one whose distributions are learnt, perhaps the base.
        device: Where to train.
        dtype: Number format of the base.
        group: The processes that train together.
    """

    rows: tuple[TrainingRow, ...]
    preferences: tuple[PreferenceRow, ...]
    config: TrainingConfig
    folder: Path
    name: str
    fingerprint: str
    parent: Path | None
    teacher: Path | None
    teacher_fingerprint: str | None
    device: torch.device
    dtype: torch.dtype
    group: Processes

    @classmethod
    def of(
        cls,
        rows: Sequence[TrainingRow],
        preferences: Sequence[PreferenceRow],
        base: str | Path,
        config: TrainingConfig,
        *,
        parent: str | Path | None,
        teacher: str | Path | None,
        base_name: str | None,
        base_fingerprint: str | None,
        device: DeviceName,
        dtype: DtypeName,
        group: Processes,
    ) -> Self:
        """Check and resolve the arguments of ``train_adapter``.

        Raises:
            DatasetError: There are fewer than two rows or pairs of a kind that is needed.
            ModelError: There is no such base, parent or teacher.
            UserError: Device or format do not fit.
        """
        import torch

        from reflectory.models.engine.loading import fingerprint_of, resolve_model

        supervised, compared = "sft" in config.objectives, "dpo" in config.objectives
        rows = tuple(rows) if supervised else ()
        preferences = tuple(preferences) if compared else ()
        if supervised:
            _check_count(len(rows), "rows")
        if compared:
            _check_count(len(preferences), "preference pairs")
        folder, own_name = resolve_model(base)
        place = choose_device(device)
        # Integers cannot be trained; an adapter fits the base in every format.
        number_format = choose_dtype("auto" if dtype == "int8" else dtype, place)
        if number_format == torch.float16 and place.type != "cuda":
            raise UserError(
                f"training in float16 does not work on {place.type}",
                hint="use dtype float32 or bfloat16",
            )
        if place.type == "cuda" and group.count > 1:
            place = torch.device("cuda", group.local_index)
        name = base_name or own_name
        fingerprint = base_fingerprint or fingerprint_of(folder, name, number_format)
        taught = supervised and config.kl_weight > 0
        other, other_name = (folder, name)
        if taught and teacher is not None:
            other, other_name = resolve_model(teacher)
        same = other.resolve() == folder.resolve()
        return cls(
            rows=rows,
            preferences=preferences,
            config=config,
            folder=folder,
            name=name,
            fingerprint=fingerprint,
            parent=None if parent is None else _parent(parent),
            teacher=None if same else other,
            teacher_fingerprint=None
            if not taught
            else (fingerprint if same else fingerprint_of(other, other_name, number_format)),
            device=place,
            dtype=number_format,
            group=group,
        )

    @property
    def parent_sha256(self) -> str | None:
        """Of the parent's weights."""
        return None if self.parent is None else file_sha256(self.parent / WEIGHTS_FILE)

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what is learnt, as JSON types.

        How much memory a step may take is no part of it: who ran out of memory goes on from
        the last checkpoint with smaller micro-batches.
        """
        settings = self.config.model_dump(mode="json")
        return {
            "rows": rows_sha256(self.rows),
            "preferences": rows_sha256(self.preferences),
            "config": {n: v for n, v in settings.items() if n not in _NOT_DECIDING},
            "base": self.fingerprint,
            "parent": self.parent_sha256,
            "teacher": self.teacher_fingerprint,
            "device": self.device.type,
            "dtype": str(self.dtype),
            "processes": self.group.count,
            "versions": library_versions(),
        }


@dataclass(frozen=True)
class Material:
    """What training reads, as tokens, and what it will take.

    Attributes:
        tokenizer: Of the base.
        rows: To learn by Equation 6.
        packs: The same rows where what they begin with is read once; empty where it is not.
        rows_held: Measured by it.
        pairs: To learn by Equation 12.
        pairs_held: Measured by it.
        plan: Steps, operations and memory.
    """

    tokenizer: Any
    rows: TokenisedRows
    packs: tuple[SharedRows, ...]
    rows_held: TokenisedRows
    pairs: TokenisedPairs
    pairs_held: TokenisedPairs
    plan: TrainingPlan

    def of(self, objective: str) -> tuple[Any, Any]:
        """Return what an objective learns, and what it measures."""
        if objective == "sft":
            return self.packs or self.rows.rows, self.rows_held.rows
        return self.pairs.rows, self.pairs_held.rows


def read_material(inputs: Inputs) -> Material:
    """Tokenise rows and pairs, hold some back, and plan; no weights are read.

    Raises:
        DatasetError: Fewer than two rows or pairs fit.
        ModelError: Tokenizer or architecture cannot be read.
        UserError: The batch does not divide, or the teacher has another tokenizer.
    """
    import torch

    from reflectory.models.engine.loading import load_tokenizer
    from reflectory.models.engine.memory import free_bytes
    from reflectory.training.model_facts import facts_of_folder, probe_speed

    config = inputs.config
    tokenizer = load_tokenizer(inputs.folder)
    teacher = None
    if inputs.teacher is not None:
        from reflectory.training.distillation import check_tokenizers

        check_tokenizers(tokenizer, load_tokenizer(inputs.teacher), inputs.teacher.name)
        teacher = facts_of_folder(inputs.teacher, inputs.dtype)
    share, seed = config.validation_share, config.seed
    rows, rows_held = hold_back(inputs.rows, share, seed, keep=MINIMUM_ROWS)
    pairs, pairs_held = hold_back(inputs.preferences, share, seed, keep=MINIMUM_ROWS)
    length = config.max_length
    some_rows = tokenise_rows(tokenizer, rows, length)
    some_pairs = tokenise_pairs(tokenizer, pairs, length)
    if "sft" in config.objectives:
        _check_count(len(some_rows.rows), f"rows of at most {length} tokens")
    if "dpo" in config.objectives:
        _check_count(len(some_pairs.rows), f"preference pairs of at most {length} tokens")
    facts = facts_of_folder(inputs.folder, inputs.dtype, config)
    packs = _packs(inputs, some_rows)
    longest = max(some_rows.longest, some_pairs.longest)
    # Every GPU has a memory of its own; processes on one machine's processor share it.
    sharing = inputs.group.local_count if inputs.device.type == "cpu" else 1
    plan = plan_training(
        RowFacts.of_shared(packs, config.batch_size) if packs else RowFacts.of(some_rows),
        RowFacts.of_pairs(some_pairs, shared=config.method not in _VIRTUAL),
        facts,
        config,
        inputs.device.type,
        available=free_bytes(inputs.device) // sharing,
        processes=inputs.group.count,
        speed=probe_speed(inputs.device, inputs.dtype, facts.width, longest),
        teacher=teacher,
        number_bytes=4 if inputs.dtype == torch.float32 else 2,
    )
    return Material(
        tokenizer=tokenizer,
        rows=some_rows,
        packs=packs,
        rows_held=tokenise_rows(tokenizer, rows_held, length),
        pairs=some_pairs,
        pairs_held=tokenise_pairs(tokenizer, pairs_held, length),
        plan=plan,
    )


def _packs(inputs: Inputs, rows: TokenisedRows) -> tuple[SharedRows, ...]:
    """Return rows that are read together, where that saves enough and nothing is in the way.

    Several processes and a teacher's distributions take rows one by one; tokens without
    words stand before a row, where no other row could share them.
    """
    config = inputs.config
    plain = config.share_prompts == "off" or config.micro_batch is not None
    if plain or config.kl_weight or inputs.group.count > 1 or config.method in _VIRTUAL:
        return ()
    groups = group_rows(rows.rows, config.batch_size, _MOST_TOGETHER * config.max_length)
    packs = tuple(shared_rows([rows.rows[at] for at in group]) for group in groups)
    tokens = sum(len(pack.input_ids) for pack in packs)
    return packs if tokens <= (1.0 - _LEAST_SAVED) * rows.tokens else ()


def prepare(inputs: Inputs) -> tuple[Any, DistributionTeacher | None]:
    """Load the base, put a fresh adapter or the parent on it, and load the teacher.

    Raises:
        ModelError: Something cannot be loaded, or does not fit the base.
        UserError: The method does not run here, or the parent was made by another one.
    """
    from reflectory.training.methods import add_adapter, load_base, load_parent

    config = inputs.config
    model = load_base(inputs.folder, inputs.device, inputs.dtype, config)
    if inputs.parent is None:
        model = add_adapter(model, config)
    else:
        model = load_parent(model, inputs.parent, config=config, fingerprint=inputs.fingerprint)
    if inputs.teacher_fingerprint is None:
        return model, None
    from reflectory.training.distillation import DistributionTeacher, load_teacher

    other = inputs.teacher
    network = None if other is None else load_teacher(other, inputs.device, inputs.dtype)
    teacher = DistributionTeacher(
        network, temperature=config.kl_temperature, weight=config.kl_weight
    )
    return model, teacher


def _parent(folder: str | Path) -> Path:
    place = Path(folder).expanduser()
    if not (place / WEIGHTS_FILE).is_file():
        raise ModelError(
            f"there is no adapter to start from in {folder}: {WEIGHTS_FILE} is missing",
            hint="pass a folder that `reflectory train` or PEFT's save_pretrained wrote",
        )
    return place


def _check_count(count: int, what: str) -> None:
    if count < MINIMUM_ROWS:
        raise DatasetError(
            f"{count} {what}: too few to train on, {MINIMUM_ROWS} are needed",
            hint="lower the thresholds of curation, raise training.max_length, "
            "or make more trajectories",
        )
