"""What a contender is: a question and live models in, attempts and their cost out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from reflectory.agents import PromptSet
from reflectory.config import EvaluationConfig, LoopConfig
from reflectory.contenders.meter import Meter
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.records import Attempt
from reflectory.graphs.state import LoopContext
from reflectory.types import Passage, Record, Trajectory


class AskedQuestion(Record):
    """A question as contenders see it: there is no field that a reference could stand in.

    Attributes:
        id: Of the question.
        text: What is asked.
        context: C_0, the passages that were retrieved for it, in order.
    """

    id: str
    text: str
    context: tuple[Passage, ...]

    @classmethod
    def of(cls, item: HeldOutItem) -> AskedQuestion:
        """Return the question of an item without its references."""
        return cls(id=item.id, text=item.question, context=item.context)


class Budget(Record):
    """What may be spent on one question.

    Attributes:
        calls: Most model calls; ``None`` when they are not limited.
        tokens: Most tokens, likewise.
    """

    calls: int | None = None
    tokens: int | None = None

    def left(self, meter: Meter) -> bool:
        """Return whether any limit is not yet reached; without limits there is always more.

        One sequence of attempts serves the tables of both limits, so that it goes on
        until both are used up.
        """
        limits = ((self.calls, meter.calls), (self.tokens, meter.tokens))
        set_ones = [(limit, used) for limit, used in limits if limit is not None]
        return not set_ones or any(used < limit for limit, used in set_ones)

    def shares(self, meter: Meter, drawn: int) -> float:
        """Return how many more pieces of the mean cost so far the larger remainder pays for.

        Args:
            meter: What was spent so far.
            drawn: How many pieces that paid for.
        """
        if not drawn:
            return 1.0
        limits = ((self.calls, meter.calls), (self.tokens, meter.tokens))
        rests = [
            (limit - used) * drawn / used for limit, used in limits if limit is not None and used
        ]
        return max(rests, default=float("inf"))


@dataclass(frozen=True)
class Task:
    """One question for one contender.

    Attributes:
        question: What is asked; the references are not in it.
        budget: What may be spent; ``None`` for the contender that sets the budget.
        settings: The evaluation's configuration.
        prompts: The loop's prompts and the contenders'.
        meter: What has been spent.
        live: Models, retriever and judge, counted by ``meter``.
        open_live: Makes others that are counted by another meter, or for another loop.
        record: Keeps the trajectory of a loop.
        fingerprints: What answers, by role, for trajectories.
    """

    question: AskedQuestion
    budget: Budget | None
    settings: EvaluationConfig
    prompts: PromptSet
    meter: Meter
    live: LoopContext
    open_live: Callable[[Meter, LoopConfig | None], LoopContext]
    record: Callable[[Trajectory], None]
    fingerprints: dict[str, str]

    def apart(self) -> Task:
        """Return the same task with a meter of its own, for work that is done side by side."""
        meter = Meter()
        return replace(self, meter=meter, live=self.open_live(meter, None))

    def attempt(self, text: str, note: str = "", grade: float | None = None) -> Attempt:
        """Return an attempt at what has been spent so far.

        Args:
            text: The answer; may be blank.
            note: How it came about.
            grade: The contender's own grade of it, in [0, 1], where it has one.
        """
        return Attempt(
            text=text, calls=self.meter.calls, tokens=self.meter.tokens, note=note, grade=grade
        )

    @property
    def more(self) -> bool:
        """Whether there is budget left; without a budget there always is."""
        return self.budget is None or self.budget.left(self.meter)


@runtime_checkable
class Contender(Protocol):
    """Answers questions; written by this project or by its users.

    Contract:
        - ``attempts`` yields, in the order of their cost, what it would answer if it
          stopped there. It may be called for many questions at once.
        - Every model call goes through ``task.live`` (or ``task.apart()``), so that it is
          counted and recorded; what else it asks is free and makes the comparison unfair.
        - The same task gives the same calls: what is random draws from a seed.
        - It ends by itself when ``task.more`` is false, at the latest.
        - Errors of :mod:`reflectory.errors` are recorded as its failure on this question. Any
          other one is a bug and ends the evaluation; what is finished is kept.
        - A ``fingerprint`` attribute, where there is one, tells versions apart: answers of
          another fingerprint are not taken over when an evaluation is resumed.
        - A ``sequential`` attribute that is true says that its calls wait on one another; its
          questions begin early, so that nothing waits for the last of them.
    """

    @property
    def name(self) -> str:
        """Unique in an evaluation."""
        ...

    @property
    def description(self) -> str:
        """One sentence for people."""
        ...

    def attempts(self, task: Task) -> AsyncIterator[Attempt]:
        """Yield the attempts at one question."""
        ...
