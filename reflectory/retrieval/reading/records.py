"""What readers return."""

from __future__ import annotations

from reflectory.types import Document, Record


class SkippedFile(Record):
    """Something in a folder that was not read.

    Attributes:
        path: The file, relative to the folder that was given; with ``:LINE`` for a row.
        reason: Why, in one sentence.
    """

    path: str
    reason: str


Found = list[Document | SkippedFile]
"""What a reader makes of one file."""
