"""A loop as a LangChain Runnable: an instruction in, its trajectory out.

What LangChain does for every Runnable (chains, ``batch``, ``with_retry``,
``astream_events``, callbacks, tracing) therefore works for a loop; the nodes of
the loop and the calls of its models appear as children of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig

from reflectory.errors import UserError
from reflectory.types import Trajectory

if TYPE_CHECKING:
    from reflectory.loop import ReflectiveLoop

LoopInput = str | dict[str, Any]
"""An instruction, or a mapping that holds it under ``instruction`` (see :class:`LoopRunnable`)."""

_KEYS = ("instruction", "metadata")


class LoopRunnable(Runnable[LoopInput, Trajectory]):
    """Runs one loop per input; made by :meth:`reflectory.ReflectiveLoop.as_runnable`.

    The input is a text, or a mapping with ``instruction`` and, if there is any,
    ``metadata`` (a mapping, kept in the trajectory and never shown to a model).
    Keyword arguments, also those of ``bind``, go to
    :meth:`~reflectory.ReflectiveLoop.arun`: ``on_event``, ``on_review``.

    ``batch`` and ``abatch`` run as many loops at the same time as ``max_concurrency``
    of their configuration says; :meth:`~reflectory.ReflectiveLoop.map` is for many, for
    it keeps what is finished and goes on after a failure.

    Args:
        loop: What to run; it stays open, closing it is for whoever made it.

    Raises:
        UserError: The input holds no instruction, or something that was named does not fit.
        BackendError: A model failed; ``with_retry`` may help where it is ``retryable``.
        OutputError: There was no R_0 to start from.
    """

    def __init__(self, loop: ReflectiveLoop) -> None:
        self.loop = loop
        self.name = "ReflectiveLoop"

    def invoke(
        self, input: LoopInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Trajectory:
        """Run one loop and return its trajectory; also inside a notebook."""

        def run(given: LoopInput, **options: Any) -> Trajectory:
            return self.loop.run(**_asked(given), **options)

        return self._call_with_config(run, input, config, run_type="chain", **kwargs)

    async def ainvoke(
        self, input: LoopInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Trajectory:
        """Run one loop and return its trajectory."""

        async def run(given: LoopInput, **options: Any) -> Trajectory:
            return await self.loop.arun(**_asked(given), **options)

        return await self._acall_with_config(run, input, config, run_type="chain", **kwargs)


def _asked(given: object) -> dict[str, Any]:
    """Return what a loop is asked, by the names of its parameters.

    The instruction itself is checked by the loop.
    """
    if isinstance(given, str):
        return {"instruction": given}
    if not isinstance(given, Mapping) or "instruction" not in given:
        raise UserError(
            f"a loop takes a text or a mapping with 'instruction', got {_shown(given)}",
            hint='put {"instruction": ...} or a function that returns it before the loop',
        )
    # A state has other keys, and they belong to others.
    return {key: given[key] for key in _KEYS if given.get(key) is not None or key == "instruction"}


def _shown(given: object) -> str:
    if isinstance(given, Mapping):
        return f"one with {', '.join(sorted(map(repr, given))) or 'nothing'}"
    return type(given).__name__
