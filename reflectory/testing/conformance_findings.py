"""What a conformance check has found until now.

See :mod:`reflectory.testing.conformance`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from reflectory.errors import ReflectoryError

T = TypeVar("T")
Call = Coroutine[Any, Any, T]


class ConformanceError(ReflectoryError):
    """An implementation breaks the contract of its protocol.

    Args:
        subject: What was checked.
        violations: One sentence per point of the contract that does not hold.
    """

    def __init__(self, subject: str, violations: Sequence[str]) -> None:
        self.subject = subject
        self.violations = tuple(violations)
        count = len(self.violations)
        lines = "\n".join(f"  - {violation}" for violation in self.violations)
        super().__init__(
            f"{subject}: {count} violation{'s' if count != 1 else ''} of the contract\n{lines}",
            hint="the docstring of the protocol states the contract",
        )


class Findings:
    """Collects violations, so that one run shows all of them.

    Args:
        subject: What is checked; its class is named.
        timeout_s: How long one call may take before it counts as hanging.
    """

    def __init__(self, subject: object, *, timeout_s: float) -> None:
        self.subject = type(subject).__name__
        self.violations: list[str] = []
        self._timeout_s = timeout_s

    def expect(self, holds: bool, otherwise: str) -> bool:
        """Note a violation unless the point holds; return whether it does."""
        if not holds and otherwise not in self.violations:
            self.violations.append(otherwise)
        return holds

    def value(self, what: str, function: Callable[[], T]) -> T | None:
        """Return what a property or a plain function gives; ``None`` when it raises."""
        try:
            return function()
        except Exception as error:  # noqa: BLE001 - whatever foreign code raises is the finding
            self.expect(False, f"{what} raised {type(error).__name__}: {error}")
            return None

    def protocol(self, subject: object, protocol: Any) -> None:
        """End the check here unless the subject has the members of its protocol.

        Args:
            subject: What is checked.
            protocol: The protocol, which can be checked at run time.

        Raises:
            ConformanceError: With what was found until now.
        """
        if not self.value("a member", lambda: isinstance(subject, protocol)):
            self.expect(False, "members of the protocol are missing")
            self.conclude()

    def fingerprint(self, subject: Any) -> str | None:
        """Return the fingerprint, after checking that it is a text that stays."""
        first = self.value("fingerprint", lambda: subject.fingerprint)
        again = self.value("fingerprint", lambda: subject.fingerprint)
        self.expect(isinstance(first, str) and bool(first.strip()), "fingerprint is no text")
        self.expect(first == again, "fingerprint changes from one reading to the next")
        return first

    async def call(self, what: str, call: Call[T], *allowed: type[Exception]) -> Any:
        """Return what a call gives.

        Args:
            what: The call, for people.
            call: The coroutine.
            *allowed: Errors that the contract allows; they are returned.

        Returns:
            The result, an allowed error, or ``None`` after a violation was noted.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                given = await call
            # No call of a protocol gives None, and nothing could be looked at.
            self.expect(given is not None, f"{what} gives None")
            return given
        except allowed as error:
            return error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # Somebody ends the check itself.
            self.expect(False, f"{what} was cancelled though nobody asked for it")
        except TimeoutError:
            self.expect(False, f"{what} gave nothing within {self._timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever foreign code raises is the finding
            self.expect(False, f"{what} raised {type(error).__name__}: {error}")
        return None

    async def together(self, what: str, calls: Sequence[Call[T]]) -> list[Any]:
        """Make calls at the same time and return what each gives, as :meth:`call` does."""
        return list(await asyncio.gather(*(self.call(what, call) for call in calls)))

    async def without(self, what: str, calls: Sequence[Call[T]]) -> list[Any]:
        """Make calls at the same time, cancel the first, and return what the others give.

        Args:
            what: The calls, for people.
            calls: Two coroutines or more.
        """
        first, *others = [asyncio.create_task(call) for call in calls]
        for _ in range(3):
            await asyncio.sleep(0)  # Let them begin.
        was_running = first.cancel()
        _, going_on = await asyncio.wait([first], timeout=self._timeout_s)
        self.expect(not going_on, f"{what}: a call that was cancelled goes on")
        if was_running and not going_on:
            self.expect(first.cancelled(), f"{what}: a call that was cancelled did not end as such")
            if not first.cancelled():
                first.exception()  # Looked at, so that asyncio does not complain.
        return await self.together(
            f"{what} beside one that was cancelled", [_result_of(task) for task in others]
        )

    def conclude(self) -> None:
        """Raise what was found.

        Raises:
            ConformanceError: There was a violation.
        """
        if self.violations:
            raise ConformanceError(self.subject, self.violations)


async def _result_of(task: asyncio.Task[T]) -> T:
    return await task
