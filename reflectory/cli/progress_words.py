"""What is said of a run while it goes on, in short pieces of ASCII; used by view and lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from reflectory.cli.progress_snapshot import LoopNow, Snapshot
from reflectory.cli.progress_time import about, clock
from reflectory.report.terminal import plain

_DOING = {
    "preprocess": "reading documents",
    "retrieve": "retrieving",
    "aggregate": "retrieving",
    "respond": "first response",
    "examine": "asking",
    "ask": "asking",
    "answer": "answering",
    "evaluate": "grading",
    "align": "aligning",
    "reflect": "reflecting",
    "check": "reflecting",
    "conclude": "last grade",
}


def head_words(now: Snapshot) -> Iterator[str]:
    """Yield how far it is: ``37/100``, ``2 failed``, ``12:40 elapsed``, ``about 21 min left``."""
    training = now.training
    if training is not None:
        yield f"{training.step}/{training.steps} steps"
        yield f"loss {training.loss:.3f} (first {training.first:.3f})"
    elif now.unit:
        yield f"{now.done:,}" if now.total is None else f"{now.done:,}/{now.total:,}"
        if now.failed:
            yield f"{now.failed:,} failed"
        if now.kept:
            yield f"{now.kept:,} kept from before"
        if now.doing:
            yield plain(" ".join(now.doing.split()))
        if now.running:
            yield f"{len(now.running):,} running"
        elif not (now.done or now.calls or now.hits):
            yield "loading"
    yield f"{clock(now.seconds)} elapsed"
    left = left_s(now)
    if left is not None:
        yield f"about {about(left)} left"


def left_s(now: Snapshot) -> float | None:
    """Return the seconds left by the estimate; ``None`` when there is none or it is over."""
    training = now.training
    if training is not None:
        rest = training.steps - training.step
        return training.seconds / training.step * rest if training.step and rest else None
    return now.left_s or None


def model_words(now: Snapshot) -> Iterator[str]:
    """Yield what the models do: ``1,204 calls``, ``311 from the cache``, and tokens/s."""
    if now.calls or now.hits:
        yield f"{now.calls:,} {'call' if now.calls == 1 else 'calls'}"
    if now.hits:
        yield f"{now.hits:,} from the cache"
    if now.written is not None and now.read is not None:
        yield f"{now.written:,.0f} tokens/s written, {now.read:,.0f} read"


def budget_words(budget: Mapping[str, tuple[float | None, float]]) -> Iterator[str]:
    """Yield what is used of each limit and what is left: ``calls 12 of 100``, ``88 left``."""
    for name, (used, limit) in budget.items():
        if used is None:
            yield f"{name} unknown of {_amount(name, limit)}"
            continue
        yield f"{name} {_amount(name, used)} of {_amount(name, limit)},"
        yield f"{_amount(name, max(0.0, limit - used))} left"


def steps_of(loop: LoopNow, *, named: bool) -> str:
    """Return where a loop is, with the names of its levels or with their numbers.

    Args:
        loop: The loop.
        named: Whether there is room for names.
    """
    if not loop.levels:
        return _DOING.get(loop.step, loop.step or "beginning")
    if named:
        said = [f"{level} {_DOING.get(step, step)}" for level, step in loop.levels.items()]
        return ", ".join(said)
    at = Counter(_DOING.get(step, step) for step in loop.levels.values())
    return ", ".join(f"{count} {step}" for step, count in at.items())


def _amount(name: str, amount: float) -> str:
    if name == "cost":
        return f"${amount:,.2f}" if amount >= 1 else f"${amount:,.4f}"
    return f"{amount:,.2f}".rstrip("0").rstrip(".") if name == "hours" else f"{amount:,.0f}"


def progress_line(now: Snapshot) -> str:
    """Return all of it in one line, for where nothing can be drawn; empty when nothing is known."""
    if not (now.unit or now.training):
        return ""
    words = [word for word in head_words(now) if not word.endswith(" elapsed")]
    if now.unit and now.training is None:
        words[0] = f"{words[0]} {now.unit}"
    if now.training is None:
        words += model_words(now)
    left = [
        "unknown" if used is None else _amount(name, max(0.0, limit - used)) + _noun(name)
        for name, (used, limit) in now.budget.items()
    ]
    said = ", ".join(words)
    return f"{said} ({', '.join(left)} left)" if left else said


def _noun(name: str) -> str:
    return "" if name == "cost" else f" {name}"
