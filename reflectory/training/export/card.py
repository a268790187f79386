"""The card of an exported student: what was merged, where it came from, how to run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from reflectory.training.export.manifest import MANIFEST_FILE, ExportManifest

_SHOWN = (
    ("rows", "rows it was trained on"),
    ("rows_sha256", "sha256 of the rows"),
    ("trajectories", "trajectories behind them"),
    ("steps", "optimiser steps"),
    ("trainable_parameters", "trained parameters"),
    ("weights_sha256", "sha256 of the adapter's weights"),
    ("parent", "adapter it was trained on from"),
    ("commit", "commit of the code"),
)
"""Facts of the adapter's lineage that the card shows, as far as they are there."""


def export_card(manifest: ExportManifest) -> str:
    """Return the card as Markdown with the front matter that the hub reads."""
    m = manifest
    facts: dict[str, object] = {
        "base model": f"`{m.base_name}`",
        "fingerprint of the base": f"`{m.base_fingerprint}`",
        "adapter": f"`{m.adapter_digest}`" if m.adapter_digest else "none: this is the base",
        "number format": m.number_format,
        "parameters": f"{m.parameters:,}",
        "licence of the base": m.licence,
    }
    parts = [
        _front_matter(m),
        f"# {m.name}",
        _summary(m),
        _table(("what", "value"), facts),
        "## Where the adapter came from",
        _lineage(m),
        "## Use",
        _use(m),
        "## Licence",
        f"The licence of the base model, {m.licence}, holds for this student too. What the "
        "documents behind the training rows ask for comes on top: see the card of the data set.",
        "## Files",
        _table(("file", "sha256"), {f"`{k}`": f"`{v}`" for k, v in m.files.items()}),
        f"The same facts are in `{MANIFEST_FILE}` for machines.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(m: ExportManifest) -> str:
    facts: dict[str, Any] = {"license": m.licence, "tags": ["reflectory"]}
    if m.format == "merged":
        facts["library_name"] = "transformers"
        facts["pipeline_tag"] = "text-generation"
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---"


def _summary(m: ExportManifest) -> str:
    if m.format == "adapter-gguf":
        return (
            "A LoRA adapter in the layout of llama.cpp, which adds it to a GGUF file of the base "
            "model named below. Another base is another student."
        )
    if not m.adapter_digest:
        return f"The base model, stored as {m.number_format}, without an adapter."
    return (
        "A student trained with reflectory: the adapter was added to the weights of the base in "
        f"float32, and the sum was stored as {m.number_format}."
    )


def _lineage(m: ExportManifest) -> str:
    if not m.adapter_digest:
        return "There is none."
    if m.lineage is None:
        return "The adapter has no record of its training beside it."
    shown = {label: m.lineage.get(field) for field, label in _SHOWN}
    rows = {label: f"`{value}`" for label, value in shown.items() if value not in (None, "")}
    return _table(("what", "value"), rows)


def _use(m: ExportManifest) -> str:
    if m.format == "merged":
        return (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")\n'
            'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n```\n\n'
            "With reflectory, give it as `local:path/to/this/folder`."
        )
    file = next((name for name in m.files if name.endswith(".gguf")), "the GGUF file")
    if m.format == "adapter-gguf":
        return f"```\nllama-server --model BASE.gguf --lora {file}\n```"
    if m.format == "ollama":
        return (
            "```\nollama create my-student -f Modelfile\nollama run my-student\n```\n\n"
            "With reflectory, give it as `ollama:my-student`."
        )
    return (
        f"```\nllama-server --model {file}\n```\n\n"
        "With reflectory, set OPENAI_BASE_URL to that server and give it as `openai:NAME`."
    )


def _table(head: tuple[str, str], rows: Mapping[str, object]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])
