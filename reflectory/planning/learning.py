"""What training on the rows of a run would take at most: rows, steps, tokens and 6 N D."""

from __future__ import annotations

from reflectory.config import RunConfig
from reflectory.planning.forecast import Forecast
from reflectory.training.plan import ModelFacts, RowFacts
from reflectory.training.planning import plan_training
from reflectory.types import Record


class LearningNeed(Record):
    """What a training on the rows of a run takes.

    Attributes:
        rows: Rows before curation: each final response and each answer is one.
        steps: Optimiser steps.
        tokens: Tokens that pass through the network, D.
        flops: 6 N D operations, the usual estimate; an adapter takes about two thirds of it.
            ``None`` where N is not known.
    """

    rows: int
    steps: int
    tokens: int
    flops: float | None


def plan_learning(
    settings: RunConfig, forecast: Forecast, *, instructions: int, parameters: int | None
) -> LearningNeed:
    """Predict a supervised training on everything that a run might teach; nothing is loaded.

    Curation chooses among the rows and so only makes it less. For a data set that is there,
    ``reflectory train --plan`` says more: memory and time, too.

    Args:
        settings: The configuration; its ``training`` says how rows are learnt.
        forecast: Of the run.
        instructions: Its number of loops.
        parameters: N of the student, ``None`` when unknown.
    """
    answers = forecast.roles["student.answer"]
    responses = forecast.roles["student.respond"]
    rows = instructions + round(answers.calls)
    longest = settings.training.max_length
    # A row is the prompt that the answer was given to, and the answer.
    mean = (answers.tokens + responses.tokens) / max(1.0, answers.calls + responses.calls)
    tokens = min(mean, longest) * rows
    written = (answers.completion_tokens + responses.completion_tokens) / max(
        1.0, answers.calls + responses.calls
    )
    facts = ModelFacts(
        parameters=parameters or 0,
        trained=0,
        layers=0,
        width=0,
        vocabulary=0,
        embeddings=0,
        weight_bytes=2.0,
    )
    given = RowFacts(
        count=rows,
        tokens=round(tokens),
        targets=round(written * rows),
        longest=longest,
        most_targets=longest,
    )
    training = settings.training.model_copy(update={"micro_batch": 1})
    plan = plan_training(given, None, facts, training, "cpu")
    return LearningNeed(
        rows=rows,
        steps=plan.steps,
        tokens=plan.tokens,
        flops=None if parameters is None else plan.flops_6nd,
    )
