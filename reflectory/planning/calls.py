"""How many calls a loop of Algorithm 1 makes: from k, T, drafts, grades and retries.

The count of ``most`` is a bound: no loop without a person in it makes more. A call cache
only makes it fewer.
"""

from __future__ import annotations

from typing import Literal

from reflectory.agents.drafting import MOST_APART
from reflectory.agents.graders.measuring import READ_APART
from reflectory.config import LoopConfig
from reflectory.types import Record

GraderKind = Literal["likelihood", "spoken", "function"]
"""Likelihoods take four calls, and more for names; a verdict in words one, a function none."""

_LIKELIHOOD_CALLS = 4
"""Prompts that the likelihood grader scores: question and documents, either alone, neither."""
_NAME_CALLS = 2
"""Prompts that it scores besides, where an answer may be a name."""
_APART_CALLS = 2 * READ_APART
"""Most of those again that read one passage alone; R_t is not read so."""


class LoopCalls(Record):
    """Calls of one loop by role.

    Attributes:
        iterations: Iterations that the loop makes, from 1 to T.
        respond: R_0, and answers written anew for the responses after it.
        ask: Questions, one for every try.
        answer: Answers to them.
        grade: Grades, each of one call or several.
        relate: What says which passages fresh answers are written from.
        reflect: Drafts of the responses after R_0.
    """

    iterations: int
    respond: int
    ask: int
    answer: int
    grade: int
    reflect: int
    relate: int = 0

    @property
    def by_role(self) -> dict[str, int]:
        """The calls by the role that requests name."""
        return {
            "student.respond": self.respond,
            "teacher.ask": self.ask,
            "student.answer": self.answer,
            "teacher.grade": self.grade,
            "student.reflect": self.reflect,
            "teacher.relevance": self.relate,
        }

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_role.values())


def grader_kind(config: LoopConfig, *, teacher_scores: bool, own: bool = False) -> GraderKind:
    """Return what kind of grader a loop gets.

    Args:
        config: Its ``grader`` decides first.
        teacher_scores: Whether the teacher shows likelihoods.
        own: Whether a grader was handed over; it is taken to ask no model.
    """
    if own:
        return "function"
    if config.grader == "auto":
        return "likelihood" if teacher_scores else "spoken"
    return config.grader


def count_calls(
    config: LoopConfig,
    grader: GraderKind,
    *,
    scores: bool | None = None,
    case: Literal["least", "usual", "most"],
) -> LoopCalls:
    """Return the calls of one loop.

    Args:
        config: Levels, iterations, drafts and retries.
        grader: How answers are graded.
        scores: Whether the teacher shows likelihoods, which ``auto`` in ``revision`` looks
            at; by default what the grader implies.
        case: ``least`` stops as early as a rule can, every first try is good, and drafts say
            nothing new; ``usual`` goes on to T with every first try good; ``most`` goes on to
            T with every retry, and with grades that fail.
    """
    levels, revision = len(config.levels), config.revision
    iterations = _earliest_stop(config) if case == "least" else config.max_iterations
    most = case == "most"
    cheap = grader == "likelihood" if scores is None else scores
    better = revision.accept == "better"
    drafts, fresh = revision.drafts_of(cheap), revision.fresh_of(cheap)
    tries = config.grade_attempts if most and grader == "spoken" else 1
    # A verdict in words and a user's function can fail, likelihoods cannot.
    fails = most and grader != "likelihood"
    likelihoods = _LIKELIHOOD_CALLS + (_NAME_CALLS if most else 0)
    # G[t]; where the best is taken, of R_0 and again of whatever was chosen without a grade.
    responses = 1 + (iterations if fails or not better else 0)
    per_choice = 0
    if better and grader == "likelihood":
        per_choice = 0 if case == "least" else likelihoods  # all options together
    elif better:
        condensing = revision.condenses(cheap)
        again = fails or (most and config.retrieval.per_question > 0)
        options = drafts + fresh + again + (revision.condensed if condensing and most else 0)
        per_choice = 0 if case == "least" else options * tries
    relate = 0
    if fresh and cheap and revision.reads_apart(cheap) and case != "least":
        # C_t may grow at its end, and what was asked about is remembered.
        relate = MOST_APART if most else min(MOST_APART, config.retrieval.passages)
    per_grade = {"likelihood": likelihoods, "spoken": tries, "function": 0}[grader]
    grades = responses * per_grade + iterations * (per_choice if per_grade else 0)
    by_cell = per_grade + (_APART_CALLS if most and grader == "likelihood" else 0)
    grades += levels * iterations * by_cell  # F[j,t]
    return LoopCalls(
        iterations=iterations,
        respond=1 + fresh * iterations,
        ask=levels * iterations * (config.question_attempts if most else 1),
        answer=levels * iterations,
        grade=grades,
        reflect=drafts * iterations,
        relate=relate,
    )


def _earliest_stop(config: LoopConfig) -> int:
    """Return the iteration after which a rule can stop a loop first."""
    # Equation 32 compares two columns; a target needs one, patience one more than its length.
    first = 1 if config.target is not None else 2
    return min(first, config.max_iterations)
