"""Every error that reflectory raises on purpose, in three kinds.

The kinds differ in what helps: a :class:`UserError` is mended by the person
who called, a :class:`BackendError` may go away when the call is made again,
and an :class:`OutputError` means that a model said something that could not
be read. Whoever catches an error can therefore decide by its class alone.
"""

from __future__ import annotations

from collections.abc import Sequence


class ReflectoryError(Exception):
    """Base of all errors of this package.

    Args:
        message: One sentence that names the culprit.
        hint: One sentence that names the remedy; empty when there is none.
    """

    exit_code = 1
    """Exit code of the command line for an error of this kind."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class UserError(ReflectoryError):
    """What was asked for cannot be done as it was asked; asking differently helps."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration has problems; all of them are listed, not only the first.

    Args:
        problems: One line per problem, each naming the field and the remedy.
        source: Where the configuration came from, for the message.
    """

    def __init__(self, problems: Sequence[str], *, source: str = "configuration") -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(f"{source}: {count} problem{'s' if count != 1 else ''}\n{lines}")


class DocumentError(UserError):
    """A document cannot be read, or no readable document was given."""


class ModelError(UserError):
    """A model, provider or adapter is unknown, missing or does not fit."""


class RunDirectoryError(UserError):
    """A run directory belongs to another configuration or a newer schema."""


class DatasetError(UserError):
    """A data set cannot be made or read, or is too small to train on."""


class BackendError(ReflectoryError):
    """A model server, download or device failed.

    Args:
        message: One sentence that names the culprit.
        hint: One sentence that names the remedy.
        retryable: Whether the same call may succeed when it is made again.
        retry_after: Seconds that the backend asked to wait, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.retry_after = retry_after


class RunStopped(BackendError):
    """A whole run cannot go on now, through no fault of any instruction; it can later.

    Raised by what stands in front of a model (a spent budget, a server that stays away). No
    instruction is recorded as failed for it: what is finished is kept, and the same command
    on the same run directory goes on where it stopped.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, retryable=False)


class BudgetSpent(RunStopped):
    """The next call might exceed a limit of the budget; with a larger one the run goes on."""

    exit_code = 3


class RateLimited(BackendError):
    """A server asks for fewer calls; nothing is wrong with it or with the call."""


class ServerUnavailable(RunStopped):
    """A server gave no answer for longer than a run is willing to wait."""


class AccessRefused(RunStopped):
    """A server refuses the key or does not know the model, so it would refuse every call."""

    exit_code = 2


class StorageError(BackendError):
    """The disk is full or a file cannot be written; what was written stays valid."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, retryable=False)


class IntegrityError(BackendError):
    """A downloaded or stored file is not what its checksum says."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, retryable=False)


class TrainingError(BackendError):
    """Training failed (loss not a number, out of memory); nothing was promoted."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, retryable=False)


class OutputError(ReflectoryError):
    """A model's output could not be read as what was asked for.

    Args:
        message: What was expected.
        raw: The output as it came; kept in the trajectory's failures.
        hint: One sentence that names the remedy.
    """

    def __init__(self, message: str, *, raw: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.raw = raw


class UnsupportedCapability(UserError):
    """A backend was asked for something that it does not declare it can do."""
