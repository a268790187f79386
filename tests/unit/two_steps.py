"""A graph of two steps that can crash in the second, and how many checkpoints a file holds."""

import sqlite3
from operator import add
from typing import Annotated, TypedDict

from reflectory.types import Examination


class State(TypedDict):
    cells: Annotated[list, add]


def build(saver, crash):
    from langgraph.graph import END, START, StateGraph

    ran = []

    def first(state):
        ran.append("first")
        return {"cells": [Examination(level="basic", iteration=0)]}

    def second(state):
        ran.append("second")
        if crash:
            raise RuntimeError("power cut")
        assert isinstance(state["cells"][0], Examination)
        return {"cells": [Examination(level="basic", iteration=1)]}

    builder = StateGraph(State)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder.compile(checkpointer=saver), ran


def rows(path):
    with sqlite3.connect(path) as connection:
        count = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("checkpoints", "writes")
        ]
    connection.close()
    return count
