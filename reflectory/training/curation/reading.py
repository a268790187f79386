"""What steps look at in a row: question, prompt, completions, and how good it is."""

from __future__ import annotations

import math
from typing import Any

from reflectory.training.curation.steps import AnyRow
from reflectory.training.rows import PreferenceRow


def completions_of(row: AnyRow) -> tuple[str, ...]:
    """Return the completion; of a pair the chosen and the rejected one."""
    replies = (row.chosen, row.rejected) if isinstance(row, PreferenceRow) else (row.completion,)
    return tuple(reply[0].content for reply in replies)


def prompt_of(row: AnyRow) -> str:
    """Return the text of the prompt, system message included."""
    return "\n\n".join(message.content for message in row.prompt)


def question_of(row: AnyRow) -> str:
    """Return what was asked, without the documents.

    A row that does not say so (a person's, or one of an older version) asked its whole user
    message, or, where passages stand in it, the last paragraph.
    """
    if row.provenance.question:
        return row.provenance.question
    asked = row.prompt[-1].content
    return asked.rpartition("\n\n")[2] if row.provenance.passages else asked


def made_by_a_person(row: AnyRow) -> bool:
    """Return whether a person wrote it; nobody measured such a row, and a person vouches for it."""
    return row.provenance.source == "manual"


def rank_of(row: AnyRow) -> tuple[Any, ...]:
    """Return a key by which the best row comes first, whatever the order they came in.

    A person's row comes before all others, then the better grade, then the better grounded.
    The rest breaks ties.
    """
    provenance = row.provenance

    def lowest(value: float | None) -> float:
        return 1.0 if value is None or math.isnan(value) else -value

    return (
        not made_by_a_person(row),
        lowest(provenance.score),
        lowest(provenance.groundedness),
        provenance.trajectory,
        provenance.what,
        provenance.level or "",
        provenance.iteration,
        question_of(row),
        *completions_of(row),
        provenance.passages,
    )
