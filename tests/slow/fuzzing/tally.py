"""Runs cases, counts how far they get, and collects what must not come out of them."""

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from reflectory.errors import ConfigError, IntegrityError, ReflectoryError, UserError

SLOW_S = 60.0
"""A case that takes longer than this hangs, whatever else the machine does."""


class Unhandled(AssertionError):
    """Something went wrong that is no exception: a case says so by raising this."""


@dataclass
class Tally:
    """What came of the cases of one kind.

    Attributes:
        cases: How many were run.
        past: How many got past the first parser.
        outcomes: How many ended how.
        faults: What came out that must not: the numbers of the cases by what and where.
    """

    cases: int = 0
    past: int = 0
    outcomes: Counter = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)


class Case:
    """One case: its dice, and how far it got.

    Attributes:
        dice: Random numbers that depend on kind and number alone.
        past: Whether the first parser accepted the input; set by who runs the case.
        outcome: How it ended.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dice = random.Random(name)
        self.past = False
        self.outcome = "fine"

    def refused(self, error: ReflectoryError) -> None:
        """Note an error that was raised on purpose, and check that it helps a person."""
        self.outcome = type(error).__name__
        if not error.message.strip():
            raise Unhandled("an error without a message") from error
        if isinstance(error, ConfigError):
            if not error.problems or not all(map(str.strip, error.problems)):
                raise Unhandled("a configuration is refused without a problem") from error
        elif isinstance(error, UserError | IntegrityError) and not error.hint.strip():
            raise Unhandled(f"an error without a hint: {error.message[:200]}") from error


def run_cases(kind: str, numbers: range, run: Callable[[Case], None], tally: Tally) -> None:
    """Run the cases of a kind with these numbers.

    Args:
        kind: Its name; with the number it decides the case.
        numbers: Which ones.
        run: Runs one case. Errors of reflectory may come out of it, and nothing else.
        tally: Counts.
    """
    for number in numbers:
        case = Case(f"{kind}:{number}")
        began = time.perf_counter()
        try:
            try:
                run(case)
            except ReflectoryError as error:
                case.refused(error)
            if time.perf_counter() - began > SLOW_S:
                raise Unhandled("it hangs")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault and reported
            case.outcome = "FAULT"
            tally.faults.setdefault(_where(error), []).append(case.name)
        tally.cases += 1
        tally.past += case.past
        tally.outcomes[case.outcome] += 1


def _where(error: Exception) -> str:
    """Return what was raised and the last line of this project that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/reflectory/" in f.filename] or frames
    last = ours[-1]
    place = f"{last.filename.rpartition('/reflectory/')[2]}:{last.lineno} in {last.name}"
    text = str(error).encode("utf-8", "backslashreplace").decode()
    return f"{type(error).__name__} at {place}: {text[:160]}"
