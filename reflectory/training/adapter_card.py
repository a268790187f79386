"""The card of an adapter: what it is, what made it, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping

from reflectory.training.lineage import MANIFEST_FILE, AdapterManifest

_MOST_STEPS_SHOWN = 12


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
        "prompts that lost their beginning": m.rows_shortened,
        "rows left out as too long": m.rows_too_long,
        "tokens of one pass": f"{m.tokens}, of which {m.target_tokens} are learnt",
        "trainable parameters (Equation 8)": f"{m.trainable_parameters:,} of "
        f"{m.total_parameters:,} ({m.trainable_fraction:.3%})",
        "optimiser steps": m.steps,
        "device and number format": f"{m.device}, {m.dtype}; adapter in float32",
        "sha256 of the adapter's weights": f"`{m.weights_sha256}`",
    }
    parts = [
        "---\nlibrary_name: peft\ntags:\n- reflectory\n- lora\n---",
        "# LoRA adapter made by reflectory",
        "It was trained with the loss on the completions only, normalised by the number of "
        "learnt tokens of each step (Equation 6). The prompts are those that the student reads "
        "when it answers from documents.",
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


def _losses(losses: tuple[float, ...]) -> str:
    """Return the loss curve as a table of at most a dozen steps, first and last among them."""
    last = len(losses) - 1
    count = min(_MOST_STEPS_SHOWN, len(losses))
    steps = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})
    return _table(("step", "loss"), {str(step + 1): f"{losses[step]:.4f}" for step in steps})
