"""The data card: what a data set holds and how it came about, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reflectory.training.counts import KINDS, OF_CANDIDATES
from reflectory.training.dataset_columns import COLUMNS

_LOADERS = {
    "jsonl": ("load_dataset", 'load_dataset("json", data_files="{file}", split="train")'),
    "parquet": ("load_dataset", 'load_dataset("parquet", data_files="{file}", split="train")'),
    "datasets": ("load_from_disk", 'load_from_disk(".")["train"]'),
}


def data_card(manifest: dict[str, Any], *, rows_file: str) -> str:
    """Return the card as Markdown with the front matter that the hub reads.

    Args:
        manifest: The content of ``dataset.json``.
        rows_file: Name of the file with the rows.
    """
    columns = ", ".join(f"`{name}`" for name in COLUMNS[manifest["format"]])
    function, call = _LOADERS[manifest["file_format"]]
    licence = manifest["sources_licence"]
    parts = [
        _front_matter(licence, rows_file),
        "# Training rows made by reflectory",
        f"{manifest['rows']} rows from {manifest['trajectories']} trajectories, in the format "
        f"`{manifest['format']}` of TRL: columns {columns} and `provenance`.",
        _table("What the rows come from", ("from", "rows"), manifest["kinds"]),
        _table("Who wrote the completions", ("source", "rows"), manifest["sources"]),
        "## Rule",
        manifest["derivation"]["explanation"]
        if manifest["derivation"]
        else _rule(manifest["rule"]),
        *(_counts(manifest["counts"]) if manifest["counts"] else []),
        *(_derivation(manifest["derivation"]["tally"]) if manifest["derivation"] else []),
        "## Models",
        _models(manifest["models"]),
        "## Seeds",
        ", ".join(str(seed) for seed in manifest["seeds"]) or "Not stated.",
        "## Licence",
        f"Licence of the source documents: {licence}. The prompts quote these documents, so "
        "it covers the rows too; what the models' licences ask for comes on top.",
        "## Use",
        f"```python\nfrom datasets import {function}\n\nrows = {call.format(file=rows_file)}\n```",
        '`provenance` is JSON text: `json.loads(row["provenance"])`.',
        "\n".join(f"sha256 of `{file}`: `{s}`" for file, s in manifest["files"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(licence: str, rows_file: str) -> str:
    import yaml

    fields = {
        "license": licence,
        "tags": ["reflectory", "trl"],
        "configs": [{"config_name": "default", "data_files": rows_file}],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _table(title: str, head: tuple[str, str], rows: dict[str, Any]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    return f"## {title}\n\n" + "\n".join(lines)


def _rule(rule: dict[str, Any] | None) -> str:
    if rule is None:
        return "Not stated: the rows were not chosen by reflectory's curation."
    return (
        f"A trajectory's best response by grade G is a row when G is at least "
        f"{rule['minimum_grade']} and it is the first response or gains at least "
        f"{rule['minimum_gain']} on it. "
        + (
            f"An answer to a question is a row when its score is at least {rule['minimum_score']}. "
            if rule["questions"]
            else "Answers to questions are no rows. "
        )
        + "Grades and scores are the teacher's (Equation 1). Where several answers to a "
        "question were gathered, the one chosen among them takes the place of what the loop "
        f"wrote. A preference pair needs a margin of at least {rule['minimum_margin']}. "
        "Blank completions, echoes of the question and repetitions are refused."
    )


def _counts(counts: dict[str, Any]) -> list[str]:
    rows = {kind: counts[kind] for kind in KINDS if kind in counts}
    rows = {kind: t for kind, t in rows.items() if t["seen"] or kind not in OF_CANDIDATES}
    parts = ["## What was looked at", _tallies("candidates", rows)]
    if steps := counts.get("steps"):
        parts += [
            "## Steps after the selection",
            "In this order; each step sees what the one before it left.",
        ]
    for number, step in enumerate(steps or [], start=1):
        parts += [f"### {number}. {step['name']}", step["explanation"]]
        parts.append(_tallies("of", {"rows": step["rows"], "preference pairs": step["pairs"]}))
        if step["changed"]:
            parts.append(f"Changed: {step['changed']}.")
    return parts


def _tallies(head: str, tallies: Mapping[str, dict[str, Any]]) -> str:
    lines = [f"| {head} | seen | accepted | refused, by reason |", "|---|---|---|---|"]
    for kind, tally in tallies.items():
        reasons = ", ".join(f"{reason} {n}" for reason, n in tally["refused"].items())
        lines.append(f"| {kind} | {tally['seen']} | {tally['accepted']} | {reasons or '-'} |")
    return "\n".join(lines)


def _derivation(tally: dict[str, Any]) -> list[str]:
    reasons = ", ".join(f"{reason} {n}" for reason, n in tally["refused"].items())
    return [
        "## What was looked at",
        f"{tally['accepted']} of {tally['seen']} became rows; refused: {reasons or '-'}.",
    ]


def _models(models: dict[str, list[str]]) -> str:
    if not models:
        return "Not stated."
    return "\n".join(
        f"- {role}: {', '.join(f'`{name}`' for name in names)}" for role, names in models.items()
    )
