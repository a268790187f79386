"""From a row of the call cache back to a call; a row that somebody changed is none."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reflectory.models.protocol import Completion, Scores
from reflectory.runs.call_records import RecordedCall

CALL_COLUMNS = (
    "CAST(key AS TEXT), CAST(kind AS TEXT), CAST(role AS TEXT), CAST(model AS TEXT),"
    " CAST(request AS TEXT), CAST(response AS TEXT), CAST(seconds AS REAL), CAST(created AS REAL)"
)
"""What a call is read from. SQLite keeps any value in any column, so the types are asked for."""
_END_OF_TIME = 253_402_300_799  # 31 December 9999, the last day that a date can be


class _Segment(BaseModel):
    model_config = ConfigDict(extra="allow")

    text: str
    speaker: Literal["system", "user"] = "user"


class _Asked(BaseModel):
    """What is shown of a request; versions may add to it."""

    model_config = ConfigDict(extra="allow")

    segments: list[_Segment]
    continuations: list[str] = []
    sampling: dict[str, Any] = {}
    seed: int | None = None


class _Call(BaseModel):
    kind: Literal["complete", "score"]
    request: _Asked
    seconds: Annotated[float, Field(allow_inf_nan=False)]
    created: Annotated[float, Field(ge=0, le=_END_OF_TIME)]


def check_call(call: RecordedCall) -> None:
    """Check that a call has the parts that are shown and counted.

    Args:
        call: As it was read.

    Raises:
        ValueError: It has not, or they are of other types.
    """
    _Call.model_validate(vars(call))
    answer: type[Completion | Scores] = Completion if call.kind == "complete" else Scores
    answer.model_validate(call.response)


def check_stored_segments(request: dict[str, Any]) -> None:
    """Check that a stored request names its prompt segments by number.

    Raises:
        ValueError: It does not.
    """
    segments = request.get("segments")
    if not isinstance(segments, list):
        raise ValueError("a request without segments")
    for part in segments:
        number = part.get("text") if isinstance(part, dict) else None
        if type(number) is not int or not 0 <= number < 2**63:
            raise ValueError("a segment without a number")
