"""Rows that keep what a student could do before: its own answers to plain instructions.

A student that is trained on short answers from documents alone answers everything so, and
forgets how to count, list and write. Answers that it gave before training, to packaged
instructions without documents, are learnt beside the new rows (self-synthesised rehearsal,
after Huang et al. 2024, arXiv:2403.01244). Nobody judges them: they say what it was like,
not what is right. None of the instructions is in the set that forgetting is measured on.
"""

from __future__ import annotations

import asyncio
import json
import random
from importlib.resources import files
from typing import Any

from reflectory.errors import OutputError
from reflectory.models.protocol import Model, Request, SamplingParameters, Segment, derive_seed
from reflectory.training.rows import Message, Provenance, TrainingRow, assistant

_PREFIX = "rehearsal-"

ANSWER_TOKENS = 48
"""Answers that are longer are left out: cut, they would teach to stop in the middle."""


def rehearsal_instructions() -> tuple[tuple[str, str], ...]:
    """Return id and text of the packaged instructions, always the same."""
    text = files("reflectory.training").joinpath("data/rehearsal.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((row["id"], row["instruction"]) for row in rows)


def is_rehearsal(row: Any) -> bool:
    """Return whether a row was made here."""
    return str(row.provenance.trajectory).startswith(_PREFIX)


async def rehearsal_rows(model: Model, count: int, *, seed: int = 0) -> tuple[TrainingRow, ...]:
    """Let a student answer plain instructions, greedily, as rows to learn again.

    Args:
        model: The student as it was before any training here; of a later one the answers
            would hold what was forgotten already.
        count: Most rows; the packaged instructions are the limit.
        seed: Which instructions are taken.

    Returns:
        Fewer rows than asked for where answers were too long, empty or could not be read.
    """
    chosen = list(rehearsal_instructions())
    random.Random(seed).shuffle(chosen)

    async def one(name: str, instruction: str) -> TrainingRow | None:
        request = Request(
            segments=(Segment(text=instruction),),
            role="student.rehearse",
            sampling=SamplingParameters(max_tokens=ANSWER_TOKENS),
            seed=derive_seed(seed, "rehearse", name),
        )
        try:
            completion = await model.complete(request)
        except OutputError:
            return None
        if completion.finish != "stop" or not completion.text.strip():
            return None
        return TrainingRow(
            prompt=(Message(role="user", content=instruction),),
            completion=assistant(completion.text.strip()),
            provenance=Provenance(trajectory=name, question=instruction),
        )

    found = await asyncio.gather(*(one(*item) for item in sorted(chosen[:count])))
    return tuple(row for row in found if row is not None)
