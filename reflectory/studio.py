"""The factory that LangGraph Studio opens (see ``langgraph.json``).

Studio passes plain data, so the live objects are made here from a
configuration and bound to the graph. ``REFLECTORY_CONFIG`` names a YAML file;
without it the packaged example is opened with the default models.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from reflectory.assembly import Sources, assemble
from reflectory.config import RunConfig

if TYPE_CHECKING:
    from reflectory.assembly import Parts
    from reflectory.graphs.reflective_loop import LoopGraph

CONFIG_VARIABLE = "REFLECTORY_CONFIG"
_opened: dict[str, Parts] = {}


async def make_graph() -> LoopGraph:
    """Return the reflective loop of the configuration that the environment names.

    Models are loaded at the first call and kept, for Studio calls this often.

    Raises:
        UserError: The configuration cannot be read or names what is not there.
    """
    from reflectory.graphs.reflective_loop import build_reflective_loop

    settings = _settings(os.environ.get(CONFIG_VARIABLE))
    key = settings.to_yaml()
    if key not in _opened:
        _opened[key] = await assemble(_sources(settings), settings.loop)
    return build_reflective_loop(settings.loop, bound=_opened[key].context())


@cache
def _settings(path: str | None) -> RunConfig:
    if path is not None:
        return RunConfig.load(path)
    example = Path(str(files("reflectory.demo").joinpath("data/documents")))
    return RunConfig(documents=(str(example),))


def _sources(settings: RunConfig) -> Sources:
    return Sources(
        documents=list(settings.documents),
        teacher=settings.teacher,
        student=settings.student,
        embedder=settings.embedder,
        teacher_adapter=settings.teacher_adapter,
        student_adapter=settings.student_adapter,
        device=settings.device,
        dtype=settings.dtype,
        remote=settings.remote,
    )
