"""What a loop did in plain sentences, for the page and the terminal alike."""

from __future__ import annotations

from collections.abc import Sequence

from reflectory.report.cleaning import clean as clean
from reflectory.report.evaluation_words import counted as counted
from reflectory.report.evaluation_words import number as number
from reflectory.types import (
    ContextAddition,
    Draft,
    Examination,
    Failure,
    Flag,
    PathStep,
    Response,
    Trajectory,
)

FLAGS = {
    Flag.CONSTANT_JUDGE: (
        "The judge gave every answer the same score, so convergence means nothing."
    ),
    Flag.UNGRADED: "More than a fifth of what should have been graded could not be.",
    Flag.NO_CONTEXT: "Nothing was retrieved; the student answered from memory.",
}
"""What a flag says."""

ORIGINS = {
    "kept": "the response before it",
    "reflection": "a reflection",
    "drawn": "another reflection, drawn at random",
    "fresh": "an answer written without the examination",
    "condensed": "a short stretch that the documents hold",
}
"""Where a draft comes from."""

SIGNALS = {
    "information": "what the question adds to the answer's log-likelihood (nats, -6 to 12)",
    "channel": "how much likelier it makes the question than other names do (nats, -6 to 6)",
    "kind": "whether it is the kind of thing that was asked for",
    "type": "whether it has the form that was asked for, such as a date",
    "class": "how much the class of thing that was asked for speaks for it",
    "support": "share of its words that the documents hold",
    "proximity": "how near its words stand to the question's in the documents",
    "fit": "its log-likelihood per token under the documents",
    "echo": "share of its words that the question says",
    "repeated": "share of the question that it repeats, where it adds nothing",
    "weakest": "log-likelihood of its least likely token",
    "evidence": "what the documents add to its log-likelihood",
    "relevance": "what the question adds to its log-likelihood, per token",
    "nearest": "similarity to the closest sentence of the documents",
    "length": "its length",
}
"""What a signal of the graders that come with the project measures."""

_BRIEF = (
    "short answers that the documents hold count for more than their grade, above all those "
    "that the student says again and again"
)
_EDGES = {
    "co-occurrence": "occur together",
    "part": "part of it",
    "similarity": "similar",
    "dense": "found by meaning",
    "lexical": "found by words",
    "graph": "found in the graph",
}


def response_name(t: int) -> str:
    """Return R_t as it is written in texts."""
    return f"R_{t}"


def stop_words(trajectory: Trajectory) -> str:
    """Return why a loop ended."""
    stop = trajectory.stop
    if stop is None:
        return "The loop did not finish."
    after = f"after {counted(stop.iterations, 'iteration')}"
    if stop.rule == "max_iterations":
        said = f"{after}, the most it may make".capitalize()
    else:
        verdict = "converged" if stop.converged else "not converged"
        said = f"By the rule {stop.rule} {after} ({verdict})"
    return f"{said}: {stop.detail}" if stop.detail else f"{said}."


def grades_words(trajectory: Trajectory) -> str:
    """Return G[0..t] in a line."""
    return ", ".join(number(score) for score in trajectory.grades)


def returned_words(trajectory: Trajectory) -> str:
    """Return which response the loop returns, and of how many."""
    last = len(trajectory.responses) - 1
    name = response_name(trajectory.chosen)
    if last == 0:
        return f"{name}, the only response"
    if trajectory.chosen == last:
        return f"{name}, the last response"
    return f"{name}, the best by its grade; the last is {response_name(last)}"


def failure_words(failure: Failure) -> str:
    """Return what went wrong, in one sentence."""
    return f"{failure.kind} in the step {failure.step}: {failure.message}"


def origin_words(response: Response) -> str:
    """Return how R_t came about: written, taken unread, kept, or chosen among drafts."""
    t = response.iteration
    if t == 0:
        return "Written from the first context, before any question was asked."
    before = response_name(t - 1)
    failed = response.failure is not None and response.failure.step == "reflect"
    if not response.drafts:
        if failed:
            return f"{before} was kept: no reflection could be read."
        return "The reflection was taken as it was written; nothing was compared."
    chosen = chosen_draft(response)
    others = [d for d in response.drafts if d is not chosen]
    if chosen is None:
        return f"Chosen among {counted(len(others), 'draft')}."
    best = max((d.score for d in others if d.score is not None), default=None)
    if chosen.origin == "kept":
        return _kept_words(before, chosen, best, failed=failed)
    origin = ORIGINS.get(chosen.origin, chosen.origin)
    said = f"{before} was replaced by {origin}, graded {number(chosen.score)}"
    kept = next((d for d in response.drafts if d.origin == "kept"), None)
    if kept is not None:
        said += f" against {number(kept.score)} for {before} under the same context"
    if best is not None and chosen.score is not None and best > chosen.score:
        return f"{said}. A draft graded {number(best)} was passed over: {_BRIEF}."
    return f"{said}."


def _kept_words(before: str, chosen: Draft, best: float | None, *, failed: bool) -> str:
    if best is None:
        why = "no reflection could be read" if failed else "no other draft could be graded"
        return f"{before} was kept, graded {number(chosen.score)}: {why}."
    if chosen.score is None:
        return f"{before} was kept; the best other draft is graded {number(best)}."
    if best <= chosen.score:
        return (
            f"{before} was kept, graded {number(chosen.score)}: the best other draft has "
            f"{number(best)}."
        )
    return (
        f"{before} was kept, graded {number(chosen.score)}, although a draft has {number(best)}: "
        f"what follows has to be better by a margin, and {_BRIEF}."
    )


def draft_words(draft: Draft) -> str:
    """Return where a draft comes from, and what a short one counts besides its grade."""
    origin = ORIGINS.get(draft.origin, draft.origin)
    if draft.passage is not None:
        origin += f", from {draft.passage} alone"
    if draft.agreement is None:
        return origin
    told = f"{origin}; {draft.agreement:.0%} of what the student wrote by itself says it"
    if draft.channel is None:
        return told
    likelier = "likelier" if draft.channel >= 0.0 else "less likely"
    return f"{told}; the question is {abs(draft.channel):.1f} nats {likelier} behind it"


def chosen_draft(response: Response) -> Draft | None:
    """Return the draft that became the response; ``None`` where there is none."""
    return next((d for d in response.drafts if d.text == response.text), None)


def alignment_words(cell: Examination) -> str:
    """Return how A[j,t] was computed (Equation 31)."""
    if cell.alignment is None:
        return ""
    if cell.similarity is None or cell.feedback is None:
        return f"A = {number(cell.alignment)}"
    return (
        f"A = {number(cell.alignment)}: similarity to the instruction "
        f"{number(cell.similarity)} \N{MULTIPLICATION SIGN} grade {number(cell.feedback.score)}"
    )


def iteration_words(cells: Sequence[Examination], additions: int) -> str:
    """Return what an iteration holds, in a line."""
    said = [counted(len(cells), "question")]
    known = [cell.alignment for cell in cells if cell.alignment is not None]
    if known:
        said.append(f"mean A {number(sum(known) / len(known), 2)}")
    if failed := sum(cell.failure is not None for cell in cells):
        said.append(f"{failed} failed")
    if additions:
        said.append(f"{counted(additions, 'passage')} joined the context")
    return ", ".join(said)


def addition_words(added: ContextAddition) -> str:
    """Return why a passage joined the context."""
    if added.reason == "useful":
        return f"a good answer at level {added.level} rested on it"
    return f"the student did not know the answer to the question at level {added.level}"


def step_words(step: PathStep) -> str:
    """Return along which edge a step of a path went; empty for the first one."""
    return _EDGES.get(step.by, step.by)
