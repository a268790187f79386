"""What somebody writes against the installed package; checked with mypy --strict, and run."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from langchain_core.runnables import Runnable

from reflectory import (
    AlignmentMatrix,
    Document,
    Level,
    LoopConfig,
    ReflectiveLoop,
    RunConfig,
    SelfImprovement,
    Trajectory,
)
from reflectory.agents.graders import GradingTask
from reflectory.driver import LoopEvent
from reflectory.runnable import LoopInput
from reflectory.runs import RunView
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld


def grade(task: GradingTask) -> tuple[float, str]:
    """Grade by length, for the sake of the types."""
    return min(len(task.answer) / 100, 1.0), "its length"


def response_of(trajectory: Trajectory) -> str:
    """Return what the loop says."""
    return trajectory.response


def own_levels() -> LoopConfig:
    """Return a configuration with a level of its own."""
    level = Level(name="dates", description="asks when something happened", starters=("When",))
    return LoopConfig(levels=(level,), max_iterations=2)


def make(world: SyntheticWorld) -> ReflectiveLoop:
    """Return a loop over documents of its own, with a grader of its own."""
    documents: Sequence[Document] = world.documents()
    return ReflectiveLoop(
        documents,
        teacher=world.teacher(),
        student=world.student(),
        grader=grade,
        embedder=ConstantEmbedder(),
        config=world.config(max_iterations=2),
    )


def main(output: Path) -> None:
    """Run loops through every door."""
    steps: list[str] = []

    def note(event: LoopEvent) -> None:
        steps.append(event.step)

    loop = make(SyntheticWorld(levels=1))
    single: Trajectory = loop.run("What is known?", on_event=note)
    awaited: Trajectory = asyncio.run(loop.arun("What is known?"))
    grades: list[float | None] = single.grades
    matrix: AlignmentMatrix = single.alignment
    names: list[str] = [t.response for t in loop.map(["What is known?"], output=output)]
    kept: list[Trajectory] = list(RunView.read(output).trajectories)
    chain: Runnable[LoopInput, str] = loop.as_runnable() | response_of
    assert chain.invoke("What is known?") == awaited.response == names[0] == kept[0].response
    assert len(grades) == matrix.values.shape[1] + 1
    assert "conclude" in steps
    assert own_levels().level_names == ("dates",)
    config = RunConfig.from_dict({"documents": "notes/", "improvement": {"rounds": 2}})
    rounds = SelfImprovement(output.with_name("rounds"), config)
    assert config.improvement.rounds == 2 and rounds is not None


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / "run")
