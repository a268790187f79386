"""From runs to the rows of a data set, in any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from reflectory.agents.teacher import RESPONSE_RUBRIC
from reflectory.config import CurationConfig, problems_of
from reflectory.errors import DatasetError
from reflectory.training.counts import CurationCounts
from reflectory.training.curation import CurationTools, curate, refine
from reflectory.training.dataset import Derivation, RowSet
from reflectory.training.dataset_files import read_rows
from reflectory.training.formats import candidates_of, feedback_rows, kto_rows, prompt_rows
from reflectory.training.rows import FORMATS, Format, Prompter, Row
from reflectory.types import Trajectory
from reflectory.types.practice import CandidateSet

_OTHER_NAMES: dict[str, Format] = {"grpo": "prompts"}


@dataclass(frozen=True)
class MadeRows:
    """Rows of one format, and how they came about.

    Attributes:
        rows: The rows; there may be none.
        counts: What curation saw and refused; ``None`` for formats that it does not make.
        derivation: The rule of those, with what was seen and refused.
    """

    rows: RowSet
    counts: CurationCounts | None = None
    derivation: Derivation | None = None


def format_named(name: str) -> Format:
    """Return a format by its name, or by the trainer that reads it (``grpo``).

    Raises:
        DatasetError: There is no such format.
    """
    for format in FORMATS:
        if format == _OTHER_NAMES.get(name, name):
            return format
    raise DatasetError(
        f"unknown data set format {name!r}",
        hint=f"choose one of {', '.join((*FORMATS, *_OTHER_NAMES))}",
    )


async def make_rows(
    format: Format,
    trajectories: Sequence[Trajectory],
    rule: CurationConfig,
    prompter: Prompter,
    *,
    candidates: Sequence[CandidateSet] = (),
    rubrics: Mapping[str, str] | None = None,
    undesirable_below: float | None = None,
    tools: CurationTools | None = None,
) -> MadeRows:
    """Make the rows of a format of what loops recorded.

    Args:
        format: What is wanted.
        trajectories: What loops recorded.
        rule: The thresholds; for ``sft`` and ``dpo`` also the steps of curation.
        prompter: Makes the student's prompt.
        candidates: Further answers to the same questions, one of each chosen.
        rubrics: What a good answer has, by level, for ``prompts``.
        undesirable_below: For ``kto``; ``minimum_score`` less ``minimum_margin`` unless given.
        tools: What the steps of curation work with.

    Raises:
        UserError: A step of curation lacks a tool that it needs.
        DatasetError: The thresholds of ``kto`` overlap.
    """
    if format == "kto":
        below = undesirable_below
        if below is None:
            below = max(0.0, rule.minimum_score - rule.minimum_margin)
        judged = kto_rows(
            candidates or candidates_of(trajectories),
            prompter,
            minimum_score=rule.minimum_score,
            undesirable_below=below,
            models={t.id: t.models for t in trajectories},
        )
        return MadeRows(RowSet.of(format, judged.rows), derivation=judged.derivation)
    if format == "feedback":
        told = feedback_rows(
            trajectories, prompter, candidates=candidates, minimum_margin=rule.minimum_margin
        )
        return MadeRows(RowSet.of(format, told.rows), derivation=told.derivation)
    if format == "prompts":
        asked = prompt_rows(
            trajectories, prompter, rubrics=rubrics or {}, response_rubric=RESPONSE_RUBRIC
        )
        return MadeRows(RowSet.of(format, asked.rows), derivation=asked.derivation)
    curated = await refine(curate(trajectories, rule, prompter, candidates=candidates), rule, tools)
    rows: Sequence[Row] = curated.preferences if format == "dpo" else curated.rows
    return MadeRows(RowSet.of(format, rows), counts=curated.counts)


def read_candidates(path: str | Path) -> list[CandidateSet]:
    """Read sets of candidates from JSON Lines.

    Raises:
        DatasetError: The file cannot be read, or a line is no set; the line is named.
    """
    found = []
    for place, values in read_rows(Path(path), "jsonl"):
        try:
            found.append(CandidateSet.model_validate(values))
        except ValidationError as error:
            raise DatasetError(
                f"{place}, is no set of candidates: {'; '.join(problems_of(error))}",
                hint="mend or remove the line",
            ) from error
    return found


def licence_of(trajectories: Sequence[Trajectory]) -> str:
    """Return the licence of the passages when all state the same one, else ``unknown``."""
    stated = {p.licence.strip() for t in trajectories for p in t.passages.values()}
    return stated.pop() or "unknown" if len(stated) == 1 else "unknown"
