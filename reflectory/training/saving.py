"""A trained adapter as a folder: weights, what PEFT reads, manifest and card."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import reflectory
from reflectory.runs.manifest import working_copy_commit
from reflectory.training.adapter_card import adapter_card
from reflectory.training.dataset import rows_sha256
from reflectory.training.lineage import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    AdapterManifest,
    StageRecord,
    file_sha256,
    library_versions,
)

if TYPE_CHECKING:
    from reflectory.training.preparing import Inputs, Material
    from reflectory.training.stages import StageOutcome


def write_adapter(
    folder: Path,
    inputs: Inputs,
    material: Material,
    model: Any,
    outcomes: Sequence[StageOutcome],
) -> AdapterManifest:
    """Write everything that belongs to an adapter, and return its manifest.

    Args:
        folder: An empty folder.
        inputs: What was asked for.
        material: What was read.
        model: The base with the trained adapter on it.
        outcomes: What each objective did.

    Raises:
        TrainingError: A weight is not a number.
        StorageError: The disk is full or the folder cannot be written.
    """
    from reflectory.training.methods import parameter_counts, save_adapter

    save_adapter(model, folder, base_name=inputs.name)
    trained, total = parameter_counts(model)
    rows, pairs = material.rows, material.pairs
    origins = [*(r.provenance for r in inputs.rows), *(p.provenance for p in inputs.preferences)]
    kinds = Counter("manual" if o.source == "manual" else o.what for o in origins)
    manifest = AdapterManifest(
        base_name=inputs.name,
        base_fingerprint=inputs.fingerprint,
        weights_sha256=file_sha256(folder / WEIGHTS_FILE),
        rows_sha256=rows_sha256(inputs.rows),
        rows=len(rows.rows),
        rows_shortened=rows.shortened + pairs.shortened,
        rows_too_long=rows.too_long + pairs.too_long,
        trajectories=len({origin.trajectory for origin in origins if origin.trajectory}),
        kinds=dict(sorted(kinds.items())),
        config=inputs.config,
        steps=sum(len(outcome.losses) for outcome in outcomes),
        losses=tuple(loss for outcome in outcomes for loss in outcome.losses),
        target_tokens=rows.target_tokens + pairs.target_tokens,
        tokens=rows.tokens + pairs.tokens,
        trainable_parameters=trained,
        total_parameters=total,
        device=inputs.device.type,
        dtype=str(inputs.dtype).removeprefix("torch."),
        versions=library_versions(),
        preferences=len(pairs.rows),
        preferences_sha256=rows_sha256(inputs.preferences) if inputs.preferences else "",
        held_back=len(material.rows_held.rows) + len(material.pairs_held.rows),
        stages=tuple(
            StageRecord(
                objective=outcome.objective,
                steps=len(outcome.losses),
                gradient_norms=outcome.gradient_norms,
                checks=outcome.checks,
                best_step=outcome.best_step,
            )
            for outcome in outcomes
        ),
        parent_sha256=inputs.parent_sha256,
        teacher=inputs.teacher_fingerprint,
        commit=_commit(),
        processes=inputs.group.count,
    )
    text = manifest.model_dump_json(indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(adapter_card(manifest), encoding="utf-8")
    return manifest


@functools.cache
def _commit() -> str | None:
    """Return the commit of the code; ``None`` where it is installed as a package."""
    folder = Path(reflectory.__file__).parent
    return None if "site-packages" in folder.parts else working_copy_commit(folder)
