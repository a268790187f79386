"""The nodes of Algorithm 1 outside the branches, each State -> partial State."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import Send

from reflectory.alignment import first_to_fire
from reflectory.errors import OutputError
from reflectory.graphs.examination import ContextOf, failure_of
from reflectory.graphs.growth import Branch, grow
from reflectory.graphs.state import (
    GradeState,
    LoopContext,
    LoopState,
    cell_key,
    passages_in,
)
from reflectory.retrieval.context import aggregate
from reflectory.types import Passage, Response, StopReason, matrix_of


class LoopNodes:
    """The nodes of the loop.

    Args:
        context_of: Gives the live objects for a runtime.
        levels: k, the number of branches of an iteration.
    """

    def __init__(self, context_of: ContextOf, levels: int) -> None:
        self._context_of = context_of
        self._levels = levels

    async def preprocess(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Step 2: d_proc = PREPROCESS(d) for every document, once for all loops."""
        return {"documents": await self._context_of(runtime).retriever.prepare()}

    async def retrieve(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Step 2: S_i = RETRIEVE(d_proc, I) for every document, within its quota."""
        live = self._context_of(runtime)
        budget = live.config.retrieval
        found = await live.retriever.retrieve(
            state["instruction"],
            per_document=budget.per_document,
            # Twice what C_0 holds, so that repeats and oversized passages can be replaced.
            limit=2 * budget.passages,
        )
        return {"retrieved": found}

    async def aggregate(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Step 3: C_0 = AGGREGATE(all S_i)."""
        live = self._context_of(runtime)
        budget = live.config.retrieval
        context = aggregate(
            state["retrieved"],
            limit=budget.passages,
            token_budget=budget.context_tokens,
            count_tokens=live.count_tokens,
        )
        return {"context": [p.id for p in context], "passages": {p.id: p for p in context}}

    async def respond(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Step 3: R_0 = GENERATE(C_0, I). Without an R_0 there is no loop, so a failure ends it."""
        live = self._context_of(runtime)
        answer = await live.student.respond(state["instruction"], passages_in(state))
        return {"responses": {0: Response(iteration=0, answer=answer)}, "t": 0}

    async def fan_out(self, state: LoopState) -> list[Send] | str:
        """Step 4: one branch per level and, beside them, the grade of R_t; or the end.

        A coroutine, for LangGraph hands a plain function to a thread.
        """
        if "stop" in state:
            return "conclude"
        t = state["t"]
        context, response = passages_in(state), state["responses"][t]
        sends = [
            Send(
                "examine",
                {
                    "instruction": state["instruction"],
                    "level": j,
                    "t": t,
                    "context": context,
                    "response": response,
                    "asked": _asked_before(state, j),
                },
            )
            for j in range(self._levels)
        ]
        if response.grade is not None:  # the teacher chose it by its grade
            return list(sends)
        grade = GradeState(instruction=state["instruction"], context=context, response=response)
        return [*sends, Send("grade", grade)]

    async def grade(self, state: GradeState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """G[t], the teacher's score of R_t itself; only the next column's rules need no G."""
        graded = await self._graded(
            state["instruction"], state["response"], state["context"], runtime
        )
        return {"responses": {graded.iteration: graded}}

    async def reflect(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """R_{t+1} from R_t and every (Q, R, F) of the iteration; C_{t+1} from C_t."""
        live = self._context_of(runtime)
        t, response = state["t"], state["responses"][state["t"]]
        keys = [cell_key(t, j) for j in range(self._levels)]
        cells = [state["examinations"][key] for key in keys]
        budget = live.config.retrieval
        context, added = grow(
            passages_in(state),
            [Branch(cell, state["extras"][key]) for key, cell in zip(keys, cells, strict=True)],
            useful_score=budget.useful_score,
            token_budget=budget.context_tokens,
            count_tokens=live.count_tokens,
        )
        following = await live.reviser.revise(
            state["instruction"],
            context,
            response,
            cells,
            grown=bool(added),
            earlier=[state["responses"][i] for i in range(t)],
        )
        return {
            "responses": {t + 1: following},
            "context": [p.id for p in context],
            "additions": [*state.get("additions", []), *added],
        }

    async def check(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Step 4, end: is the loop converged (Equation 32), or has it reached T?"""
        live = self._context_of(runtime)
        t = state["t"] + 1
        matrix = matrix_of(live.config.level_names, tuple(state["examinations"].values()))
        decision = first_to_fire(live.stop_rules, matrix)
        if decision.stop:
            stop = StopReason(
                rule=decision.rule,
                converged=decision.converged,
                iterations=t,
                detail=decision.reason,
            )
            return {"t": t, "stop": stop}
        if t >= live.config.max_iterations:
            return {
                "t": t,
                "stop": StopReason(rule="max_iterations", converged=False, iterations=t),
            }
        return {"t": t}

    async def conclude(self, state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, Any]:
        """Step 5: the last response has no column of its own, so it is graded here."""
        last = state["responses"][state["t"]]
        if last.grade is None:
            last = await self._graded(state["instruction"], last, passages_in(state), runtime)
        return {"responses": {last.iteration: last}}

    async def _graded(
        self,
        instruction: str,
        response: Response,
        context: list[Passage],
        runtime: Runtime[LoopContext],
    ) -> Response:
        try:
            grade = await self._context_of(runtime).teacher.grade_response(
                instruction, response.text, context, response.answer.unsupported
            )
        except OutputError as error:
            return response.model_copy(update={"failure": failure_of("grade", error)})
        # What could not be graded when it was chosen is graded now.
        of_grade = response.failure is not None and response.failure.step == "grade"
        return response.model_copy(
            update={"grade": grade, "failure": None if of_grade else response.failure}
        )


def _asked_before(state: LoopState, j: int) -> list[str]:
    cells = state.get("examinations", {})
    keys = [cell_key(t, j) for t in range(state["t"])]
    return [q.text for key in keys if key in cells and (q := cells[key].question) is not None]
