"""A grader made of a user's function: exact match, a unit test, a rule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable

from reflectory.agents.graders.protocol import GradingTask
from reflectory.errors import OutputError
from reflectory.types import Feedback

Verdict = float | bool | tuple[float, str] | Feedback
GradeFunction = Callable[[GradingTask], Verdict | Awaitable[Verdict]]


class FunctionGrader:
    """Grades with a function of the task.

    Args:
        function: Takes a :class:`GradingTask` and returns a score in [0, 1], a
            truth value, a pair of score and reason, or a whole ``Feedback``;
            it may be a coroutine function.
        name: Name in the records; by default that of the function.
    """

    def __init__(self, function: GradeFunction, *, name: str | None = None) -> None:
        self._function = function
        self._name = name or getattr(function, "__name__", type(function).__name__)

    @property
    def fingerprint(self) -> str:
        """Name of the function; its code is the user's to version."""
        return f"function:{self._name}"

    async def grade(self, task: GradingTask) -> Feedback:
        """Return the function's verdict as feedback.

        Raises:
            OutputError: The function returned something that is no score.
        """
        verdict = self._function(task)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if isinstance(verdict, Feedback):
            return verdict
        score: object = verdict
        reason: object = ""
        if isinstance(verdict, tuple) and len(verdict) == 2:
            score, reason = verdict
        try:
            number = float(score)  # type: ignore[arg-type]  # a user's function may return anything
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not 0.0 <= number <= 1.0:
            raise OutputError(
                f"the grader {self._name!r} returned {verdict!r}, which is no score",
                raw=repr(verdict),
                hint="return a number from 0 to 1",
            )
        return Feedback(
            score=number,
            reason=str(reason or f"{self._name} gave {number:.2f}."),
            grader=self.fingerprint,
        )
