"""What a run's page says in plain sentences."""

from __future__ import annotations

from reflectory.report.evaluation_words import counted, duration, number
from reflectory.report.run.facts import RunFacts
from reflectory.report.run.loops import LoopFacts
from reflectory.report.run.rounds import RoundFacts

FLAGS = {
    "constant_judge": "the judge gave every answer the same score, so convergence means nothing",
    "ungraded": "more than a fifth of what should have been graded could not be",
    "no_context": "nothing was retrieved, and the student answered from memory",
}
"""What a flag means."""

DECISIONS = {
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "failed": "failed",
    "abandoned": "abandoned",
}


def headline(facts: RunFacts) -> list[str]:
    """Return what came of the run, in a few sentences."""
    done = facts.loops - facts.failed
    said = [f"{counted(done, 'loop')} {'is' if done == 1 else 'are'} done"]
    if facts.failed:
        said[0] += f", {facts.failed:,} failed"
    said[0] += "."
    for name, found in facts.parts:
        if sentence := gain(found):
            whole = f"{name}: {sentence}" if name else sentence
            said.append(whole[0].upper() + whole[1:])
    said += [f"Round {r.number}: {decision(r)}" for r in facts.rounds if r.record is not None]
    return said


def gain(found: LoopFacts) -> str:
    """Return how the grade changed from R_0 to what is returned; empty where it is unknown."""
    if found.first is None or found.returned is None:
        return ""
    before, after = found.first.mean, found.returned.mean
    verb = "rose" if after > before else "fell" if after < before else "stayed"
    change = f"from {number(before, 2)} to {number(after, 2)}"
    if verb == "stayed":
        change = f"at {number(before, 2)}"
    return (
        f"the mean grade {verb} {change} between the first response and the one that is "
        f"returned: {found.risen:,} rose, {found.fallen:,} fell, "
        f"{found.first.count - found.risen - found.fallen:,} stayed."
    )


def decision(found: RoundFacts) -> str:
    """Return what became of a round and why."""
    if found.record is None:
        return "not decided."
    reason = found.record.reason.rstrip(".")
    return f"{DECISIONS[found.record.decision]}. {reason}." if reason else found.record.decision


def warnings_of(facts: RunFacts) -> list[str]:
    """Return what a reader should know before believing a figure."""
    said = []
    if facts.manifest.finished is None:
        said.append(
            "The run is not finished: this is what was there when the page was made. "
            "The same command goes on with it."
        )
    if facts.loops and facts.failed:
        said.append(
            f"{counted(facts.failed, 'loop')} of {facts.loops:,} failed as a whole; see below."
        )
    for flag, count in facts.flags.items():
        said.append(f"{counted(count, 'loop')} marked {flag}: {FLAGS.get(flag, flag)}.")
    for name, found in facts.parts:
        if found.other_levels:
            where = f" of {name}" if name else ""
            said.append(
                f"{counted(found.other_levels, 'loop')}{where} with other levels than the first "
                "are in no mean of the matrices."
            )
    for made in facts.rounds:
        said += [f"Round {made.number}: {warning}." for warning in _ended(made)]
    if facts.spending.problem:
        said.append(facts.spending.problem)
    return said


def _ended(made: RoundFacts) -> list[str]:
    warnings = made.record.warnings if made.record is not None else ()
    return [warning.rstrip(".") for warning in (*warnings, *made.problems)]


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def hours(value: float | None) -> str:
    """Return a number of hours as people say it."""
    return "-" if value is None else duration(value * 3600)


def cost(value: float | None) -> str:
    """Return US dollars, or ``unknown``."""
    return "unknown" if value is None else f"${value:,.4f}" if value < 10 else f"${value:,.2f}"


def shade(value: float) -> int:
    """Return the step of the colour scale that a value of A has, from 0 to 10."""
    return min(max(int(value * 10 + 0.5), 0), 10)
