"""The facade: documents, a teacher and a student in; trajectories out."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from reflectory.alignment import StopRule
from reflectory.assembly import Assembly, Parts, Sources
from reflectory.background import BACKGROUND
from reflectory.config import BudgetConfig, LoopConfig, RemoteConfig
from reflectory.errors import UserError
from reflectory.models.device import DeviceName, DtypeName
from reflectory.models.protocol import content_hash
from reflectory.types import Trajectory

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from reflectory.agents.verification import Verifier
    from reflectory.driver import OnEvent, Review
    from reflectory.graphs.reflective_loop import LoopGraph
    from reflectory.graphs.state import LoopContext
    from reflectory.runnable import LoopRunnable
    from reflectory.runs.instructions import Instruction


class ReflectiveLoop:
    """Algorithm 1 over your documents, with the models you name.

    Nothing is loaded before the first run, and what is loaded then is shared by
    all runs. Every synchronous method has an asynchronous twin with an ``a``
    before its name; both run the same code. The synchronous ones also work in
    notebooks.

    Args:
        documents: A folder, files, a saved index, LangChain documents, any
            LangChain retriever, or an object that meets
            :class:`~reflectory.retrieval.retriever.Retriever`.
        teacher: ``local`` (the default model), ``local:PATH_OR_HUB_ID``,
            ``PROVIDER:MODEL``, a LangChain chat model, or an object that meets
            :class:`~reflectory.models.protocol.Model`.
        student: The same; it may be another model.
        config: T, epsilon, levels and budgets; the defaults when ``None``.
        embedder: ``local``, ``local:PATH_OR_HUB_ID`` or an object that meets
            :class:`~reflectory.models.protocol.Embedder`.
        grader: A function of a :class:`~reflectory.agents.graders.GradingTask`,
            a grader, or ``None`` for the one that the configuration names.
        verifier: Finds the evidence for what the student says, an object that meets
            :class:`~reflectory.agents.verification.Verifier`; words are compared when ``None``.
        stop_rules: Replace the rules that the configuration names.
        teacher_adapter: Folder of an adapter for the teacher.
        student_adapter: Folder of an adapter for the student.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``; the last one
            gives the same trajectories on every run.
        remote: How models on servers are called; the defaults when ``None``.

    Example:
        >>> loop = ReflectiveLoop(documents="notes/", config=LoopConfig(max_iterations=4))
        >>> trajectory = loop.run("Explain why the two missions disagree.")
        >>> trajectory.alignment.plot()
    """

    def __init__(
        self,
        documents: Any,
        *,
        teacher: Any = "local",
        student: Any = "local",
        config: LoopConfig | None = None,
        embedder: Any = "local",
        grader: Any = None,
        verifier: Verifier | None = None,
        stop_rules: Sequence[StopRule] | None = None,
        teacher_adapter: str | Path | None = None,
        student_adapter: str | Path | None = None,
        device: DeviceName = "auto",
        dtype: DtypeName = "auto",
        remote: RemoteConfig | None = None,
    ) -> None:
        self.config = config or LoopConfig()
        if not isinstance(self.config, LoopConfig):
            raise UserError(
                f"config must be a LoopConfig, got {type(config).__name__}",
                hint="from reflectory import LoopConfig",
            )
        self.sources = Sources(
            documents=documents,
            teacher=teacher,
            student=student,
            embedder=embedder,
            grader=grader,
            verifier=verifier,
            stop_rules=stop_rules,
            teacher_adapter=teacher_adapter,
            student_adapter=student_adapter,
            device=device,
            dtype=dtype,
            remote=remote,
        )
        self._assembly = Assembly(self.sources, self.config)

    async def aopen(self) -> Parts:
        """Load models, index and grader; done once, also when several ask at the same time."""
        return await self._assembly.parts()

    async def arun(
        self,
        instruction: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        on_event: OnEvent | None = None,
        on_review: Review | None = None,
    ) -> Trajectory:
        """Run one loop; see :meth:`run`.

        Args:
            instruction: I.
            metadata: Kept in the trajectory.
            on_event: Is told of every step.
            on_review: Asks a person, where the configuration says so.
        """
        from reflectory.driver import check_instruction, drive, steps_are_told
        from reflectory.graphs.outcome import trajectory_of

        text = check_instruction(instruction)
        parts = await self.aopen()
        trajectory_id = content_hash(text, self.config.seed)[:16]
        state = await drive(
            self.graph(self.memory(), branch_graphs=steps_are_told(on_event)),
            parts.context(),
            text,
            trajectory_id,
            on_event=on_event,
            on_review=on_review,
        )
        return trajectory_of(
            state, self.config, id=trajectory_id, models=parts.fingerprints(), metadata=metadata
        )

    def run(
        self,
        instruction: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        on_event: OnEvent | None = None,
        on_review: Review | None = None,
    ) -> Trajectory:
        """Run one loop and return its trajectory.

        Args:
            instruction: I; not empty.
            metadata: Kept in the trajectory, never shown to a model.
            on_event: Told of every finished node (:class:`~reflectory.driver.LoopEvent`).
            on_review: Answers when ``config.review`` asks for a person.

        Raises:
            UserError: Something that was named does not exist or does not fit.
            BackendError: A model or download failed.
            OutputError: There was no R_0 to start from.
        """
        return BACKGROUND.run(
            self.arun(instruction, metadata=metadata, on_event=on_event, on_review=on_review)
        )

    async def amap(
        self,
        instructions: str | Path | Iterable[Any],
        *,
        concurrency: int = 8,
        output: str | Path | None = None,
        cache: str | Path | None = None,
        budget: BudgetConfig | None = None,
        retry_failed: bool = False,
        on_event: OnEvent | None = None,
        on_review: Review | None = None,
        stop: threading.Event | None = None,
    ) -> AsyncGenerator[Trajectory]:
        """Run many loops; see :meth:`map`.

        Set ``stop``, from any thread, to finish what is in flight and begin nothing more.

        Args:
            instructions: Texts, dictionaries, or a file of them.
            concurrency: How many loops run at once.
            output: A run directory; with one the same call goes on where it stopped.
            cache: A folder with calls that several runs share.
            budget: How much the run may use.
            retry_failed: Run again what failed in the run directory.
            on_event: Is told of every step.
            on_review: Asks a person, where the configuration says so.
            stop: Set it, from any thread, to finish what is in flight and begin nothing more.
        """
        from reflectory.runner import Runner, run_config_of
        from reflectory.runs.instructions import read_instructions
        from reflectory.runs.stopping import Stoppable

        items: Iterator[Instruction] = read_instructions(instructions)
        if stop is not None:
            items = Stoppable(items, stop)
        settings = run_config_of(self.sources, self.config, cache=cache, budget=budget)
        runner = Runner(self, settings=settings, on_event=on_event, on_review=on_review)
        stream = runner.stream(
            items, concurrency=concurrency, output=output, retry_failed=retry_failed
        )
        async with aclosing(stream) as found:
            async for trajectory in found:
                yield trajectory

    def map(
        self,
        instructions: str | Path | Iterable[Any],
        *,
        concurrency: int = 8,
        output: str | Path | None = None,
        cache: str | Path | None = None,
        budget: BudgetConfig | None = None,
        retry_failed: bool = False,
        on_event: OnEvent | None = None,
        on_review: Review | None = None,
    ) -> Iterator[Trajectory]:
        """Run many loops at the same time and yield their trajectories as they finish.

        A loop that fails is a trajectory with status ``failed`` and an error;
        it ends no other. With ``output``, everything is kept in that run
        directory, and the same call again goes on where it stopped: finished
        trajectories are yielded first and cost nothing.

        Interrupted while it waits (Ctrl-C, a notebook's stop), it finishes and yields
        the loops in flight and raises ``KeyboardInterrupt`` then; interrupted again
        it stops at once. Either way the same call goes on from there.

        Args:
            instructions: Texts, a file (one per line, JSON Lines, Parquet), or
                ``dataset:NAME``; see :func:`~reflectory.runs.read_instructions`.
            concurrency: Loops at the same time.
            output: Run directory.
            cache: Folder of a call cache that several runs share, with or without a run
                directory; what is recorded there is not asked again.
            budget: Most calls, tokens, dollars and hours, over all sessions of the run
                directory; without one, over this call alone.
            retry_failed: Run again the instructions that failed in an earlier session.
            on_event: Told of every finished node.
            on_review: Answers when ``config.review`` asks for a person.

        Raises:
            UserError: Something that was named does not exist or does not fit,
                or the run directory belongs to another configuration.
            BudgetSpent: A limit is reached; what is finished is kept, and the same call
                with more goes on.
            StorageError: The disk is full; what is finished is kept.
        """
        stop = threading.Event()
        found = self.amap(
            instructions,
            concurrency=concurrency,
            output=output,
            cache=cache,
            budget=budget,
            retry_failed=retry_failed,
            on_event=on_event,
            on_review=on_review,
            stop=stop,
        )
        return BACKGROUND.iterate(found, stop=stop.set)

    async def astream(self, instruction: str, **options: Any) -> AsyncGenerator[Any]:
        """Stream a loop through LangGraph's own ``astream``.

        Args:
            instruction: I.
            **options: ``stream_mode``, ``subgraphs`` and the rest, as LangGraph takes them.
        """
        from reflectory.driver import check_instruction, thread_config

        parts = await self.aopen()
        live = parts.context()
        async for chunk in self.graph().astream(
            {"instruction": check_instruction(instruction)},
            thread_config("stream", live),
            context=live,
            **options,
        ):
            yield chunk

    def stream(self, instruction: str, **options: Any) -> Iterator[Any]:
        """Stream a loop as LangGraph does; see :meth:`astream`.

        Args:
            instruction: I.
            options: Those of LangGraph's ``stream``.
        """
        return BACKGROUND.iterate(self.astream(instruction, **options))

    def graph(
        self,
        checkpointer: BaseCheckpointSaver[str] | None = None,
        *,
        branch_graphs: bool = True,
        branch_checkpoints: bool = True,
    ) -> LoopGraph:
        """Return the compiled LangGraph graph, to run, draw or put into another graph.

        It is run with ``context=await loop.acontext()``.

        Args:
            checkpointer: Where the state is kept between steps.
            branch_graphs: Whether the steps within a branch are nodes, too, and not one node.
            branch_checkpoints: Whether such steps are kept as well.
        """
        from reflectory.graphs.reflective_loop import build_reflective_loop
        from reflectory.observability.nodes import ObservedSteps

        return build_reflective_loop(
            self.config,
            checkpointer=checkpointer,
            observer=None if branch_graphs else ObservedSteps,
            branch_checkpoints=branch_checkpoints,
        )

    def as_runnable(self) -> LoopRunnable:
        """Return the loop as a LangChain Runnable, for chains and graphs of your own.

        It takes an instruction, or a mapping with ``instruction``, and returns a
        trajectory; see :class:`~reflectory.runnable.LoopRunnable`.
        """
        from reflectory.runnable import LoopRunnable

        return LoopRunnable(self)

    def memory(self) -> BaseCheckpointSaver[str] | None:
        """Return a checkpointer in memory where a review needs one, else ``None``."""
        if not self.config.review:
            return None
        from reflectory.runs.checkpoints import memory_checkpointer

        return memory_checkpointer()

    async def acontext(self) -> LoopContext:
        """Return the live objects that :meth:`graph` is run with."""
        return (await self.aopen()).context()

    async def aclose(self) -> None:
        """Give back models and their memory; the next run loads them again."""
        await self._assembly.aclose()

    def close(self) -> None:
        """Give back models and their memory; the next run loads them again."""
        BACKGROUND.run(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
