"""The card of an adapter: what it is, what made it, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping

from reflectory.training.lineage import MANIFEST_FILE, AdapterManifest

_MOST_STEPS_SHOWN = 12

_OBJECTIVES = {
    "sft": "It was trained with the loss on the completions only, normalised by the number of "
    "learnt tokens of each step (Equation 6).",
    "dpo": "It was trained to prefer the better of two completions (Equation 12).",
}


def adapter_card(manifest: AdapterManifest) -> str:
    """Return the card as Markdown with the front matter that the hub reads."""
    m = manifest
    settings = m.config.model_dump(mode="json")
    kinds = ", ".join(f"{count} {name}" for name, count in m.kinds.items())
    facts = {
        "base model": f"`{m.base_name}`",
        "fingerprint of the base": f"`{m.base_fingerprint}`",
        "rows": f"{m.rows} ({kinds}) from {m.trajectories} trajectories",
        "sha256 of the rows": f"`{m.rows_sha256}`",
        "preference pairs": m.preferences,
        "sha256 of the pairs": f"`{m.preferences_sha256}`" if m.preferences_sha256 else "none",
        "rows and pairs held back to stop early": m.held_back,
        "prompts that lost their beginning": m.rows_shortened,
        "rows left out as too long": m.rows_too_long,
        "tokens of one pass": f"{m.tokens}, of which {m.target_tokens} are learnt",
        "trainable parameters (Equation 8)": f"{m.trainable_parameters:,} of "
        f"{m.total_parameters:,} ({m.trainable_fraction:.3%})",
        "optimiser steps": _stages(m),
        "started from the adapter with the sha256": f"`{m.parent_sha256}`"
        if m.parent_sha256
        else "none: a fresh adapter",
        "teacher whose distributions were learnt": f"`{m.teacher}`" if m.teacher else "none",
        "commit of the code": m.commit or "an installed package",
        "device and number format": f"{m.device}, {m.dtype}; adapter in float32",
        "sha256 of the adapter's weights": f"`{m.weights_sha256}`",
    }
    parts = [
        f"---\nlibrary_name: peft\ntags:\n- reflectory\n- {m.config.method}\n---",
        "# Adapter made by reflectory",
        " ".join(_OBJECTIVES[name] for name in m.config.objectives)
        + " The prompts are those that the student reads when it answers from documents.",
        _table(("what", "value"), facts),
        "## Hyperparameters",
        _table(("name", "value"), settings),
        "## Loss",
        _losses(m.losses),
        "## Versions",
        _table(("library", "version"), m.versions),
        "## Use",
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{m.base_name}")\n'
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n```',
        "With reflectory, name this folder as `student_adapter`. Another base model than the "
        f"one with the fingerprint above is another student. The facts are in `{MANIFEST_FILE}` "
        "for machines.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, str], rows: Mapping[str, object]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])


def _stages(manifest: AdapterManifest) -> str:
    """Return the steps, by objective where it is known, and which step's weights were kept."""
    if not manifest.stages:
        return str(manifest.steps)
    return ", ".join(
        f"{stage.steps} {stage.objective}"
        + (f" (weights of step {stage.best_step})" if stage.best_step != stage.steps else "")
        for stage in manifest.stages
    )


def _losses(losses: tuple[float, ...]) -> str:
    """Return the loss curve as a table of at most a dozen steps, first and last among them."""
    last = len(losses) - 1
    count = min(_MOST_STEPS_SHOWN, len(losses))
    steps = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})
    return _table(("step", "loss"), {str(step + 1): f"{losses[step]:.4f}" for step in steps})
