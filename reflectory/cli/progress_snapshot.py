"""How a run stands at one moment: what the view and the lines are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reflectory.alignment import AlignmentMatrix
from reflectory.types import Examination


@dataclass
class LoopNow:
    """One loop in the making.

    Attributes:
        id: Of its trajectory.
        began: On the clock of the activity.
        instruction: I; empty until its first node begins.
        iteration: t; ``None`` before R_0 is there.
        step: The last node that began outside of the branches.
        levels: Per level the node that it is at; ``done`` or ``failed`` behind the last.
        names: Of all its levels, easiest first.
        cells: The cells so far.
        nodes: How many nodes have begun.
    """

    id: str
    began: float
    instruction: str = ""
    iteration: int | None = None
    step: str = ""
    levels: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    cells: dict[tuple[int, str], Examination] = field(default_factory=dict)
    nodes: int = 0


@dataclass(frozen=True)
class Training:
    """How far a training is.

    Attributes:
        step: Optimiser steps that are done.
        steps: All of them.
        loss: Of the last step.
        first: Loss of the first step that was seen.
        seconds: Time of the training, earlier sessions included.
    """

    step: int
    steps: int
    loss: float
    first: float
    seconds: float


@dataclass(frozen=True)
class Snapshot:
    """Everything that is shown, as it stood at one moment.

    Attributes:
        unit: What is counted: ``loops`` or ``answers``; empty for nothing.
        done: How many are finished, failed ones and those of earlier sessions included.
        total: How many there will be; ``None`` when that is not known.
        failed: How many failed.
        kept: How many were there from an earlier session.
        seconds: Since the beginning.
        left_s: Estimate of the time left; ``None`` before anything is finished.
        running: Loops in the making, the oldest first.
        iterations: T.
        calls: Calls that models answered in this session.
        hits: Calls that the call cache answered.
        read: Tokens read per second; ``None`` when it is too early to say.
        written: Tokens written per second.
        budget: Used and limit by the budget's fields.
        title: Instruction of the matrix.
        matrix: That of the oldest loop in the making, else of the last finished one.
        training: ``None`` when nothing is trained.
        doing: Who is answering, in an evaluation.
        stopping: Whether somebody asked for an end.
    """

    unit: str = "loops"
    done: int = 0
    total: int | None = None
    failed: int = 0
    kept: int = 0
    seconds: float = 0.0
    left_s: float | None = None
    running: tuple[LoopNow, ...] = ()
    iterations: int | None = None
    calls: int = 0
    hits: int = 0
    read: float | None = None
    written: float | None = None
    budget: Mapping[str, tuple[float | None, float]] = field(default_factory=dict)
    title: str = ""
    matrix: AlignmentMatrix | None = None
    training: Training | None = None
    doing: str = ""
    stopping: bool = False
