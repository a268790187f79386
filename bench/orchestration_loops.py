"""The loop of ``bench/orchestration.py`` without this package's graph and runner.

Twice: written by hand in plain asyncio, and as a plain LangGraph graph with the same nodes
and edges. Both use the package's agents, so that every contender asks the model the same; what
differs is who calls whom.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypedDict

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from numpy.typing import NDArray
from orchestration_work import ITERATIONS, Agents

from reflectory.graphs.growth import Branch
from reflectory.types import Answer, Examination, Passage, ScoredPassage

Loop = Callable[[str], Awaitable[Any]]


def by_hand(agents: Agents) -> Loop:
    """Return the loop in plain asyncio."""
    teacher, student, levels = agents.teacher, agents.student, agents.config.levels

    async def examine(
        instruction: str, j: int, t: int, response: Answer, context: list[Passage], asked: list[str]
    ) -> Branch:
        question = await teacher.ask(
            instruction,
            levels[j],
            response.text,
            context,
            iteration=t,
            asked=asked,
            unsupported=response.unsupported,
        )
        extra = await agents.more(question.text, context)
        passages = [s.passage for s in extra]
        answer = await student.answer(question.text, context, passages)
        feedback = await teacher.grade_answer(
            question.text, answer.text, levels[j], context, passages, answer.unsupported
        )
        cell = Examination(
            level=levels[j].name, iteration=t, question=question, answer=answer, feedback=feedback
        )
        return Branch(await agents.aligned(cell, instruction), extra)

    async def run(instruction: str) -> tuple[Answer, NDArray[np.float64]]:
        context = await agents.first(instruction)
        response = await student.respond(instruction, context)
        matrix = np.full((len(levels), ITERATIONS), np.nan)
        asked: list[list[str]] = [[] for _ in levels]
        for t in range(ITERATIONS):
            examined = asyncio.gather(
                *(
                    examine(instruction, j, t, response, context, asked[j])
                    for j in range(len(levels))
                )
            )
            branches, _ = await asyncio.gather(
                examined,
                teacher.grade_response(instruction, response.text, context, response.unsupported),
            )
            cells = [branch.cell for branch in branches]
            for j, cell in enumerate(cells):
                matrix[j, t] = cell.alignment
                asked[j].append("" if cell.question is None else cell.question.text)
            context = agents.grown(context, branches)
            response = await student.reflect(instruction, context, response.text, cells)
            if t and np.linalg.norm(matrix[:, t] - matrix[:, t - 1]) < agents.config.epsilon:
                break
        await teacher.grade_response(instruction, response.text, context, response.unsupported)
        return response, matrix

    return run


class _Loop(TypedDict, total=False):
    instruction: str
    context: list[Passage]
    response: Answer
    branches: Annotated[list[tuple[int, int, Branch]], operator.add]
    grades: Annotated[list[float], operator.add]
    t: int


class _Branch(TypedDict, total=False):
    instruction: str
    context: list[Passage]
    response: Answer
    asked: list[str]
    level: int
    t: int
    cell: Examination
    extra: list[ScoredPassage]
    branches: list[tuple[int, int, Branch]]


class _Gives(TypedDict):
    branches: list[tuple[int, int, Branch]]


def _branch_graph(agents: Agents) -> Any:
    """Return the graph of one level: ask, answer, evaluate, align."""
    teacher, student, levels = agents.teacher, agents.student, agents.config.levels

    async def ask(state: _Branch) -> dict[str, Any]:
        level, response = levels[state["level"]], state["response"]
        question = await teacher.ask(
            state["instruction"],
            level,
            response.text,
            state["context"],
            iteration=state["t"],
            asked=state["asked"],
            unsupported=response.unsupported,
        )
        return {"cell": Examination(level=level.name, iteration=state["t"], question=question)}

    async def answer(state: _Branch) -> dict[str, Any]:
        question = state["cell"].question
        assert question is not None
        extra = await agents.more(question.text, state["context"])
        said = await student.answer(question.text, state["context"], [s.passage for s in extra])
        return {"cell": state["cell"].model_copy(update={"answer": said}), "extra": extra}

    async def evaluate(state: _Branch) -> dict[str, Any]:
        cell = state["cell"]
        assert cell.question is not None and cell.answer is not None
        feedback = await teacher.grade_answer(
            cell.question.text,
            cell.answer.text,
            levels[state["level"]],
            state["context"],
            [s.passage for s in state["extra"]],
            cell.answer.unsupported,
        )
        return {"cell": cell.model_copy(update={"feedback": feedback})}

    async def align(state: _Branch) -> dict[str, Any]:
        cell = await agents.aligned(state["cell"], state["instruction"])
        return {"branches": [(state["t"], state["level"], Branch(cell, state["extra"]))]}

    builder = StateGraph(_Branch, output_schema=_Gives)
    builder.add_sequence([ask, answer, evaluate, align])
    builder.add_edge(START, "ask")
    builder.add_edge("align", END)
    return builder.compile()


def in_langgraph(agents: Agents) -> Loop:
    """Return the loop as a plain LangGraph graph, without a checkpointer."""
    teacher, student, levels = agents.teacher, agents.student, agents.config.levels

    async def retrieve(state: _Loop) -> dict[str, Any]:
        return {"context": await agents.first(state["instruction"])}

    async def respond(state: _Loop) -> dict[str, Any]:
        return {"response": await student.respond(state["instruction"], state["context"]), "t": 0}

    async def grade_response(state: _Loop) -> dict[str, Any]:
        said = state["response"]
        feedback = await teacher.grade_response(
            state["instruction"], said.text, state["context"], said.unsupported
        )
        return {"grades": [feedback.score]}

    async def reflect(state: _Loop) -> dict[str, Any]:
        branches = [
            branch
            for t, _, branch in sorted(state["branches"], key=lambda found: found[:2])
            if t == state["t"]
        ]
        context = agents.grown(state["context"], branches)
        following = await student.reflect(
            state["instruction"], context, state["response"].text, [b.cell for b in branches]
        )
        return {"context": context, "response": following}

    async def check(state: _Loop) -> dict[str, Any]:
        return {"t": state["t"] + 1}

    async def fan_out(state: _Loop) -> list[Send] | str:
        if state["t"] >= ITERATIONS:
            return "conclude"
        shared = {name: state[name] for name in ("instruction", "context", "response", "t")}
        asked: dict[int, list[str]] = {j: [] for j in range(len(levels))}
        for _, j, branch in state.get("branches", []):
            assert branch.cell.question is not None
            asked[j].append(branch.cell.question.text)
        sends = [Send("examine", {**shared, "level": j, "asked": asked[j]}) for j in asked]
        return [*sends, Send("grade", shared)]

    builder = StateGraph(_Loop)
    for node in (retrieve, respond, reflect, check):
        builder.add_node(node.__name__, node)
    builder.add_node("examine", _branch_graph(agents))
    builder.add_node("grade", grade_response)
    builder.add_node("conclude", grade_response)
    builder.add_edge(START, "retrieve")
    builder.add_edge("retrieve", "respond")
    builder.add_conditional_edges("respond", fan_out, ["examine", "grade"])
    builder.add_edge("examine", "reflect")
    builder.add_edge("grade", "reflect")
    builder.add_edge("reflect", "check")
    builder.add_conditional_edges("check", fan_out, ["examine", "grade", "conclude"])
    builder.add_edge("conclude", END)
    graph = builder.compile()

    async def run(instruction: str) -> Any:
        return await graph.ainvoke({"instruction": instruction}, {"recursion_limit": 50})

    return run


async def at_once(loop: Loop, instructions: Iterable[str], concurrency: int) -> None:
    """Run a loop over instructions, so many at the same time."""
    source = iter(instructions)

    async def work() -> None:
        for instruction in source:
            await loop(instruction)

    await asyncio.gather(*(work() for _ in range(concurrency)))
