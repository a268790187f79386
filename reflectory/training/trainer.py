"""One LoRA round: rows in, an adapter folder with its lineage out.

torch, transformers, peft and trl are imported when :func:`train_adapter` is called.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.config import TrainingConfig
from reflectory.errors import DatasetError, TrainingError, UserError
from reflectory.models.device import DeviceName, DtypeName, choose_device, choose_dtype
from reflectory.training.adapter_card import adapter_card
from reflectory.training.dataset import rows_sha256
from reflectory.training.lineage import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    AdapterManifest,
    file_sha256,
    library_versions,
)
from reflectory.training.methods import (
    add_adapter,
    own_randomness,
    parameter_counts,
    save_adapter,
    without_deprecations,
)
from reflectory.training.rows import TrainingRow
from reflectory.training.staging import staged_folder
from reflectory.training.tokens import TokenisedRows, tokenise_rows
from reflectory.types import Record

if TYPE_CHECKING:
    import torch

MINIMUM_ROWS = 2


class TrainingReport(Record):
    """What a round did.

    Attributes:
        manifest: What is kept beside the adapter.
        seconds: Wall-clock time of the optimiser steps.
        tokens_per_second: Tokens of all forward passes per second of it.
    """

    manifest: AdapterManifest
    seconds: float
    tokens_per_second: float

    @property
    def losses(self) -> tuple[float, ...]:
        """Loss of every optimiser step, before its update."""
        return self.manifest.losses

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.manifest.steps

    @property
    def trainable_fraction(self) -> float:
        """Share of parameters that was trained (Equation 8)."""
        return self.manifest.trainable_fraction


def train_adapter(
    rows: Sequence[TrainingRow],
    base: str | Path,
    output: str | Path,
    config: TrainingConfig,
    *,
    base_name: str | None = None,
    base_fingerprint: str | None = None,
    progress: Callable[[int, int, float, float], None] | None = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
) -> TrainingReport:
    """Train one LoRA adapter on ``rows`` and write it to ``output``.

    The loss is Equation 6 on the completions only. ``output`` appears when
    everything is written and is untouched by a failure.

    Args:
        rows: At least two.
        base: Folder (or hub id) of the base model; it is read and never changed.
        output: Folder of the adapter; an earlier adapter there is replaced.
        config: Hyperparameters.
        base_name: Name of the base for people and for PEFT; the folder's name
            when it is not given.
        base_fingerprint: Its fingerprint as the local engine has it; made from
            the files when it is not given.
        progress: Called after every optimiser step with step (from 1), number
            of steps, loss and seconds.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: Number format of the base weights; ``auto`` takes bfloat16 where
            the hardware computes with it. The adapter is float32 in any case.

    Raises:
        DatasetError: Fewer than two rows, or fewer than two that fit.
        ModelError: The base cannot be loaded or has no layers to adapt.
        TrainingError: The loss is not a number, or memory ran out.
        StorageError: The adapter cannot be written.
        UserError: Device or format do not fit, or ``output`` holds something else.
    """
    from reflectory.models.engine.loading import (
        fingerprint_of,
        load_model,
        load_tokenizer,
        resolve_model,
    )

    _check_rows(len(rows), "rows")
    folder, own_name = resolve_model(base)
    place = choose_device(device)
    # Integers cannot be trained; an adapter fits the base in every format.
    number_format = choose_dtype("auto" if dtype == "int8" else dtype, place)
    _check_format(place, number_format)
    name = base_name or own_name
    fingerprint = base_fingerprint or fingerprint_of(folder, name, number_format)
    with (
        staged_folder(output, marker=MANIFEST_FILE) as staging,
        own_randomness(config.seed),
        without_deprecations(),
    ):
        model, tokenizer = load_model(folder, place, number_format), load_tokenizer(folder)
        tokenised = tokenise_rows(tokenizer, rows, config.max_length)
        _check_rows(len(tokenised.rows), f"rows of at most {config.max_length} tokens")
        model = add_adapter(model, config)
        trainable, total = parameter_counts(model)
        outcome = _optimise(model, tokenizer, tokenised, config, place, number_format, progress)
        save_adapter(model, staging, base_name=name)
        manifest = AdapterManifest(
            base_name=name,
            base_fingerprint=fingerprint,
            weights_sha256=file_sha256(staging / WEIGHTS_FILE),
            rows_sha256=rows_sha256(rows),
            rows=len(tokenised.rows),
            rows_shortened=tokenised.shortened,
            rows_too_long=tokenised.too_long,
            trajectories=len({row.provenance.trajectory for row in rows}),
            kinds=dict(sorted(Counter(row.provenance.what for row in rows).items())),
            config=config,
            steps=len(outcome.losses),
            losses=outcome.losses,
            target_tokens=tokenised.target_tokens,
            tokens=tokenised.tokens,
            trainable_parameters=trainable,
            total_parameters=total,
            device=place.type,
            dtype=str(number_format).removeprefix("torch."),
            versions=library_versions(),
        )
        text = manifest.model_dump_json(indent=2) + "\n"
        (staging / MANIFEST_FILE).write_text(text, encoding="utf-8")
        (staging / "README.md").write_text(adapter_card(manifest), encoding="utf-8")
    return TrainingReport(
        manifest=manifest,
        seconds=outcome.seconds,
        tokens_per_second=outcome.tokens_seen / max(outcome.seconds, 1e-9),
    )


def _check_rows(count: int, what: str) -> None:
    if count < MINIMUM_ROWS:
        raise DatasetError(
            f"{count} {what}: too few to train on, {MINIMUM_ROWS} are needed",
            hint="lower the thresholds of curation, raise training.max_length, "
            "or make more trajectories",
        )


def _check_format(device: torch.device, dtype: torch.dtype) -> None:
    import torch

    if dtype == torch.float16 and device.type != "cuda":
        raise UserError(
            f"training in float16 does not work on {device.type}",
            hint="use dtype float32 or bfloat16",
        )


@dataclass(frozen=True)
class _Outcome:
    losses: tuple[float, ...]
    tokens_seen: int
    seconds: float


def _optimise(
    model: Any,
    tokenizer: Any,
    rows: TokenisedRows,
    config: TrainingConfig,
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[int, int, float, float], None] | None,
) -> _Outcome:
    """Run the optimiser steps on the adapter of ``model``, which changes in place."""
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from reflectory.training.sft import (
        CompletionTrainer,
        StepCallback,
        needs_checkpointing,
        sft_arguments,
    )

    # A processor is busy with one row, and one row has no padding; the gradient
    # is the same. A GPU wants the whole batch.
    micro_batch = config.batch_size if device.type == "cuda" else 1
    checkpointing = device.type == "cuda" or needs_checkpointing(model, rows.longest, dtype)
    data = Dataset.from_dict(
        {
            "input_ids": [list(row.input_ids) for row in rows.rows],
            "labels": [list(row.labels) for row in rows.rows],
        }
    )
    with tempfile.TemporaryDirectory(prefix="reflectory-") as scratch:
        callback = StepCallback(progress)
        trainer = CompletionTrainer(
            model=model,
            args=sft_arguments(
                config,
                folder=scratch,
                device=device,
                dtype=dtype,
                micro_batch=micro_batch,
                checkpointing=checkpointing,
            ),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[callback],
        )
        trainer.remove_callback(PrinterCallback)
        callback.trainer = trainer
        try:
            trainer.train()
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(error) from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            raise _out_of_memory(error) from error
    return _Outcome(tuple(trainer.step_losses), trainer.tokens_seen, callback.seconds)


def _out_of_memory(error: Exception) -> TrainingError:
    return TrainingError(
        f"training ran out of memory: {str(error).splitlines()[0]}",
        hint="lower training.batch_size or training.max_length",
    )
