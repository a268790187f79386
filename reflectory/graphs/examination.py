"""One branch of an iteration: ask -> answer -> evaluate -> align, at one level.

It is a graph of its own, or one node, so that a fast level does not wait for a slow one
between the stages: the loop's next barrier is the reflection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from reflectory.alignment import CellStatus, alignment_score, cosine_similarity
from reflectory.config import LoopConfig
from reflectory.errors import OutputError
from reflectory.graphs.state import BranchOutput, BranchState, LoopContext, cell_key
from reflectory.retrieval.context import extend
from reflectory.types import Examination, Failure, Feedback, Question, ScoredPassage

T = TypeVar("T")
ContextOf = Callable[[Runtime[LoopContext]], LoopContext]


class Step(Protocol):
    """A step of a branch, which LangGraph takes as a node."""

    __name__: str

    async def __call__(self, state: BranchState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Return what the step adds to the state."""


class StepObserver(Protocol):
    """Is told of the steps of a branch that LangGraph sees as one node."""

    def step(
        self, name: str, state: Mapping[str, Any]
    ) -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
        """Return a context for a step, which gives what takes the step's update.

        Args:
            name: Of the step.
            state: What the step is given.
        """


BranchNode = Callable[[Any, Runtime[LoopContext]], Awaitable[dict[str, Any]]]
"""A whole branch as one node; its state is a BranchState."""

_GIVEN_BACK: tuple[Literal["examinations", "extras", "passages"], ...] = (
    "examinations",
    "extras",
    "passages",
)
"""What a branch writes into the loop's state."""


def failure_of(step: str, error: OutputError) -> Failure:
    """Return the record of an output that could not be read.

    Args:
        step: The node at which it happened.
        error: It holds what the model said.
    """
    return Failure(step=step, kind=type(error).__name__, message=error.message, raw=error.raw)


class ExaminationNodes:
    """The nodes of a branch.

    Args:
        context_of: Gives the live objects for a runtime.
    """

    def __init__(self, context_of: ContextOf) -> None:
        self._context_of = context_of

    async def ask(self, state: BranchState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Q[j,t] = teacher's question from (I, l_j, R_t), and what is retrieved for it."""
        live = self._context_of(runtime)
        level = live.config.levels[state["level"]]
        cell = Examination(level=level.name, iteration=state["t"])
        try:
            question = await live.teacher.ask(
                state["instruction"],
                level,
                state["response"].text,
                state["context"],
                iteration=state["t"],
                asked=state["asked"],
                unsupported=state["response"].answer.unsupported,
            )
        except OutputError as error:
            return self._failed(state, cell, "ask", error)
        return {"cell": cell.model_copy(update={"question": question})}

    async def review_question(
        self, state: BranchState, runtime: Runtime[LoopContext]
    ) -> dict[str, Any]:
        """Let a person change Q[j,t]: resume with the new text, or ``None`` to keep it."""
        cell = state["cell"]
        question = _required(cell.question)
        text = interrupt(
            {
                "review": "question",
                "level": cell.level,
                "iteration": cell.iteration,
                "text": question.text,
            }
        )
        if text is None or text == question.text:
            return {}
        edited = Question(text=str(text), attempts=question.attempts, edited=True)
        return {"cell": cell.model_copy(update={"question": edited})}

    async def answer(self, state: BranchState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """R[j,t] = student's answer from (Q[j,t], C[j,t]), C[j,t] = C_t and what Q[j,t] finds."""
        live = self._context_of(runtime)
        cell = state["cell"]
        question = _required(cell.question).text
        budget = live.config.retrieval
        extra: list[ScoredPassage] = []
        if budget.per_question:
            # Of the best so many only: what is further down has little to do with it.
            found = await live.retriever.retrieve(
                question, per_document=budget.per_document, limit=budget.passages
            )
            known = {p.id for p in state["context"]}
            new = {s.passage.id: s for s in found if s.passage.id not in known}
            grown = extend(
                state["context"],
                [s.passage for s in new.values()][: budget.per_question],
                token_budget=budget.context_tokens,
                count_tokens=live.count_tokens,
            )
            extra = [new[p.id] for p in grown[len(state["context"]) :]]
        try:
            answer = await live.student.answer(
                question, state["context"], [s.passage for s in extra]
            )
        except OutputError as error:
            return self._failed(state, cell, "answer", error)
        return {"cell": cell.model_copy(update={"answer": answer}), "extra": extra}

    async def evaluate(self, state: BranchState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """F[j,t] = teacher's feedback on (R[j,t], Q[j,t]), seeing C[j,t] and the rubric."""
        live = self._context_of(runtime)
        cell = state["cell"]
        answer = _required(cell.answer)
        try:
            feedback = await live.teacher.grade_answer(
                _required(cell.question).text,
                answer.text,
                live.config.levels[state["level"]],
                state["context"],
                [s.passage for s in state["extra"]],
                answer.unsupported,
            )
        except OutputError as error:
            return self._failed(state, cell, "evaluate", error)
        return {"cell": cell.model_copy(update={"feedback": feedback})}

    async def review_grade(
        self, state: BranchState, runtime: Runtime[LoopContext]
    ) -> dict[str, Any]:
        """Let a person change F[j,t]: resume with ``{"score": .., "reason": ..}`` or ``None``."""
        cell = state["cell"]
        feedback = _required(cell.feedback)
        change = interrupt(
            {
                "review": "grade",
                "level": cell.level,
                "iteration": cell.iteration,
                "question": _required(cell.question).text,
                "answer": _required(cell.answer).text,
                "score": feedback.score,
                "reason": feedback.reason,
            }
        )
        if change is None:
            return {}
        edited = Feedback.model_validate({**feedback.model_dump(), **change, "edited": True})
        return {"cell": cell.model_copy(update={"feedback": edited})}

    async def align(self, state: BranchState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """A[j,t] from (R[j,t], I, l_j), the quality being the score in F[j,t]."""
        live = self._context_of(runtime)
        cell = state["cell"]
        vectors = await live.embedder.embed([_required(cell.answer).text, state["instruction"]])
        similarity = cosine_similarity(vectors[0], vectors[1])
        done = cell.model_copy(
            update={
                "status": CellStatus.DONE,
                "similarity": similarity,
                # Equation 31
                "alignment": alignment_score(similarity, _required(cell.feedback).score),
            }
        )
        return self._finished(state, done)

    def _failed(
        self, state: BranchState, cell: Examination, step: str, error: OutputError
    ) -> dict[str, Any]:
        failed = cell.model_copy(
            update={"status": CellStatus.FAILED, "failure": failure_of(step, error)}
        )
        return self._finished(state, failed)

    @staticmethod
    def _finished(state: BranchState, cell: Examination) -> dict[str, Any]:
        key, extra = cell_key(state["t"], state["level"]), state.get("extra", [])
        return {
            "cell": cell,
            "examinations": {key: cell},
            "extras": {key: extra},
            "passages": {s.passage.id: s.passage for s in extra},
        }


def build_examination(
    config: LoopConfig,
    context_of: ContextOf,
    *,
    observer: Callable[[], StepObserver] | None = None,
    checkpoints: bool = True,
) -> CompiledStateGraph[BranchState, LoopContext, BranchState, BranchOutput] | BranchNode:
    """Return one branch, as a graph of its own or as one node.

    As a graph, each step is streamed, drawn, told to callbacks and kept in checkpoints. As one
    node it takes less of LangGraph's time, for a straight line needs no supersteps; what it
    computes is the same, and an observer is told of the same steps.

    Args:
        config: Decides whether a person reviews questions or grades.
        context_of: Gives the live objects for a runtime.
        observer: Makes who is told of the steps of one node; ``None`` for a graph. Where a
            person reviews it always is a graph, for it waits between two of its steps.
        checkpoints: Whether the steps of a graph are kept where the loop's are; where a
            person reviews they always are.
    """
    nodes = ExaminationNodes(context_of)
    steps: list[Step] = [nodes.ask, nodes.answer, nodes.evaluate, nodes.align]
    if observer is not None and not config.review:
        return _one_node(steps, observer)
    if "grade" in config.review:
        steps.insert(3, nodes.review_grade)
    if "question" in config.review:
        steps.insert(1, nodes.review_question)
    builder = StateGraph(BranchState, context_schema=LoopContext, output_schema=BranchOutput)
    names = [step.__name__ for step in steps]
    for name, step in zip(names, steps, strict=True):
        builder.add_node(name, step)
    builder.add_edge(START, names[0])
    for name, following in pairwise(names):
        builder.add_conditional_edges(name, _GoOn(following), [following, END])
    builder.add_edge(names[-1], END)
    graph = builder.compile(checkpointer=None if checkpoints or config.review else False)
    # Under astream_events LangGraph streams a subgraph, and what it streams, all its channels by
    # default, is what the loop's state is given: every branch would write the instruction.
    graph.stream_channels = graph.output_channels
    return graph


def _one_node(steps: Sequence[Step], observer: Callable[[], StepObserver]) -> BranchNode:
    # Were the state's type named here, LangGraph would give the loop a branch's channels.
    async def examine(state: Any, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Examine at one level: ask, answer, evaluate, align."""
        told, known = observer(), cast(BranchState, dict(state))
        for step in steps:
            with told.step(step.__name__, known) as note:
                update = await step(known, runtime)
                note(update)
            known.update(cast(BranchState, update))
            if known["cell"].status is CellStatus.FAILED:
                break
        return {name: known[name] for name in _GIVEN_BACK}

    return examine


class _GoOn(Runnable[BranchState, str]):
    """The way to the next node, or out of the branch when the cell failed.

    A runnable, for LangGraph hands a plain function to a thread and tells every
    callback of it, each time.
    """

    def __init__(self, following: str) -> None:
        self.name = f"to_{following}"
        self._following = following

    def invoke(
        self, input: BranchState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> str:
        """Return the name of the node."""
        return END if input["cell"].status is CellStatus.FAILED else self._following

    async def ainvoke(
        self, input: BranchState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> str:
        """Return the name of the node."""
        return self.invoke(input)


def _required(value: T | None) -> T:
    """Return a part of a cell that the node before this one has filled."""
    if value is None:
        raise RuntimeError("a node of the examination ran before the one that feeds it")
    return value
