"""One round of training: rows in, an adapter folder with its lineage out.

torch, transformers, peft and trl are imported when :func:`train_adapter` is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.config import TrainingConfig
from reflectory.models.device import DeviceName, DtypeName
from reflectory.training.lineage import MANIFEST_FILE, AdapterManifest
from reflectory.training.plan import TrainingPlan
from reflectory.training.preparing import Inputs, Material, prepare, read_material
from reflectory.training.processes import Processes, from_main, processes
from reflectory.training.resume import Schedule, WorkFolder, key_of
from reflectory.training.rows import PreferenceRow, TrainingRow
from reflectory.training.saving import write_adapter
from reflectory.training.staging import check_place, staged_folder
from reflectory.types import Record

if TYPE_CHECKING:
    from reflectory.training.stages import StageOutcome, Stop

Progress = Callable[[int, int, float, float], None]


class TrainingReport(Record):
    """What a round did.

    Attributes:
        manifest: What is kept beside the adapter.
        seconds: Wall-clock time of the optimiser steps.
        tokens_per_second: Tokens of all forward passes per second of it.
        plan: What was expected before it started.
        flops_per_second: The plan's operations over the time that they took.
        peak_memory: Most bytes in use: of the GPU, else of this whole process.
        resumed_from: Optimiser steps that came from a checkpoint.
    """

    manifest: AdapterManifest
    seconds: float
    tokens_per_second: float
    plan: TrainingPlan
    flops_per_second: float
    peak_memory: int
    resumed_from: int = 0

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
    preferences: Sequence[PreferenceRow] = (),
    parent: str | Path | None = None,
    teacher: str | Path | None = None,
    base_name: str | None = None,
    base_fingerprint: str | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
) -> TrainingReport:
    """Train one adapter on ``rows`` and ``preferences`` and write it to ``output``.

    The objective is Equation 6 on the completions only, Equation 12 on pairs, or one after
    the other. ``output`` appears when everything is written and is untouched by a failure.
    Long trainings write checkpoints into a hidden folder beside it, and the same call goes
    on from the last one; in float32 the outcome is the same to the byte. Under
    `accelerate launch` or `torchrun` every process makes this call, and the main one writes.

    Args:
        rows: At least two, unless only pairs are trained on.
        base: Folder (or hub id) of the base model; it is read and never changed.
        output: Folder of the adapter; an earlier adapter there is replaced.
        config: Hyperparameters.
        preferences: At least two, where the objective is or contains DPO.
        parent: Folder of an adapter that training starts from; of the same base and method.
        teacher: Folder (or hub id) of the model whose distributions are learnt besides
            where ``kl_weight`` is not 0; the base itself when it is not given.
        base_name: Name of the base for people and for PEFT; the folder's name
            when it is not given.
        base_fingerprint: Its fingerprint as the local engine has it; made from
            the files when it is not given.
        progress: Called after every optimiser step with step (from 1), number
            of steps, loss and seconds; each objective counts from 1.
        cancel: When it is set, training ends after the running step, with a checkpoint.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: Number format of the base weights; ``auto`` takes bfloat16 where
            the hardware computes with it. The adapter is float32 in any case.

    Raises:
        DatasetError: Fewer than two rows (or pairs), or fewer than two that fit.
        ModelError: The base or the parent cannot be loaded, the parent is of another base,
            or the base has no layers to adapt.
        TrainingError: The loss is not a number, memory ran out, or ``cancel`` was set.
        StorageError: The adapter cannot be written.
        UserError: Device, format, memory or tokenizers do not fit, or ``output`` holds
            something else.
        KeyboardInterrupt: Ctrl-C; a step that is running is finished first.
    """
    group = processes()
    inputs = Inputs.of(
        rows,
        preferences,
        base,
        config,
        parent=parent,
        teacher=teacher,
        base_name=base_name,
        base_fingerprint=base_fingerprint,
        device=device,
        dtype=dtype,
        group=group,
    )
    material = read_material(inputs)
    material.plan.refuse_if_too_large()
    from reflectory.training.methods import own_randomness, without_deprecations
    from reflectory.training.model_facts import peak_memory
    from reflectory.training.stages import stoppable

    check_place(output, marker=MANIFEST_FILE)
    work = _work_folder(Path(output), inputs, group)
    if work is not None:
        work.open()
    with own_randomness(config.seed), without_deprecations():
        with stoppable(cancel) as stop:
            model, outcomes = _train(inputs, material, work, progress, stop)
        manifest = None
        if group.main:
            with staged_folder(output, marker=MANIFEST_FILE) as staging:
                manifest = write_adapter(staging, inputs, material, model, outcomes)
        manifest = from_main(manifest, group)
    if work is not None:
        work.remove()
    if stop.pressed:
        raise KeyboardInterrupt
    return _report(manifest, material.plan, outcomes, peak_memory(inputs.device))


def plan_adapter(
    rows: Sequence[TrainingRow],
    base: str | Path,
    config: TrainingConfig,
    *,
    preferences: Sequence[PreferenceRow] = (),
    teacher: str | Path | None = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
) -> TrainingPlan:
    """Return what :func:`train_adapter` would take, without loading any weights.

    The arguments and errors are those of :func:`train_adapter`; a plan that exceeds the
    memory is returned and not refused.

    Args:
        rows: To learn by Equation 6.
        base: Folder or name of the model.
        config: Method, objective and sizes.
        preferences: Pairs to learn by Equation 12.
        teacher: A model whose distributions are learnt besides.
        device: Where the training would run.
        dtype: What it would compute in.
    """
    inputs = Inputs.of(
        rows,
        preferences,
        base,
        config,
        parent=None,
        teacher=teacher,
        base_name=None,
        base_fingerprint=None,
        device=device,
        dtype=dtype,
        group=processes(),
    )
    return read_material(inputs).plan


def _work_folder(output: Path, inputs: Inputs, group: Processes) -> WorkFolder | None:
    if not Schedule(inputs.config, group).writes:
        return None
    return WorkFolder(output, key_of(inputs.identity()), group)


def _train(
    inputs: Inputs,
    material: Material,
    work: WorkFolder | None,
    progress: Progress | None,
    stop: Stop,
) -> tuple[Any, list[StageOutcome]]:
    """Run all objectives, one after the other, on one adapter."""
    from reflectory.training.stages import Workshop, run_stage

    model, teacher = prepare(inputs)
    shop = Workshop(
        model=model,
        tokenizer=material.tokenizer,
        config=inputs.config,
        device=inputs.device,
        dtype=inputs.dtype,
        group=inputs.group,
        work=work,
        progress=progress if inputs.group.main else None,
        stop=stop,
        teacher=teacher,
    )
    outcomes = []
    for plan in material.plan.stages:
        learnt, held = material.of(plan.objective)
        outcomes.append(run_stage(plan, learnt, held, shop))
    return model, outcomes


def _report(
    manifest: AdapterManifest, plan: TrainingPlan, outcomes: Sequence[StageOutcome], peak: int
) -> TrainingReport:
    seconds = sum(outcome.seconds for outcome in outcomes)
    tokens = sum(outcome.tokens_seen for outcome in outcomes)
    return TrainingReport(
        manifest=manifest,
        seconds=seconds,
        tokens_per_second=tokens / max(seconds, 1e-9),
        plan=plan,
        flops_per_second=plan.flops / max(seconds, 1e-9),
        peak_memory=peak,
        resumed_from=sum(outcome.resumed_from for outcome in outcomes),
    )
