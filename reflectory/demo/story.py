"""The whole story on the packaged example: loops, rows, one LoRA round, and whether it helped.

Every stage leaves its files in the run directory, so the same call again goes
on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from reflectory.agents import PromptSet, Student, answer_segments
from reflectory.config import CurationConfig, LoopConfig, RunConfig, TrainingConfig
from reflectory.demo.checked import CheckedAnswer, checked_answers
from reflectory.demo.watcher import DemoWatcher
from reflectory.evaluation.held_out import (
    HeldOutAnswer,
    HeldOutQuestion,
    answer_held_out,
    read_held_out,
)
from reflectory.evaluation.metrics import Aggregate
from reflectory.evaluation.metrics import aggregate as mean_scores
from reflectory.models.torch_thread import in_torch_thread
from reflectory.runs.files import write_json

if TYPE_CHECKING:
    from reflectory.loop import ReflectiveLoop
    from reflectory.training.counts import CurationCounts
    from reflectory.training.trainer import TrainingReport
    from reflectory.types import Trajectory

PRACTICE_INSTRUCTIONS = 6

DEMO_LOOP = LoopConfig(
    max_iterations=3,
    epsilon=0.05,
    retrieval={"passages": 3, "context_tokens": 420, "passage_tokens": 100},
    sampling={"question_tokens": 32, "answer_tokens": 32, "response_tokens": 64},
)
DEMO_TRAINING = TrainingConfig(max_steps=24, batch_size=2, learning_rate=2e-4, max_length=640)


@dataclass(frozen=True)
class HeldOutResult:
    """The held-out answers of one student.

    Attributes:
        answers: One per question.
        scores: Their means.
    """

    answers: tuple[HeldOutAnswer, ...]
    scores: Aggregate


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        folder: The run directory.
        trajectories: One per practice instruction.
        counts: What curation accepted and refused.
        rows: Rows of the data set.
        training: The LoRA round.
        before: Held-out answers of the student as it was.
        after: Held-out answers of the student with its adapter.
        checked: The held-out questions with both answers.
        matrix_png: The picture of the first matrix.
        dataset: Folder of the data set.
        adapter: Folder of the adapter.
    """

    folder: Path
    trajectories: tuple[Trajectory, ...]
    counts: CurationCounts
    rows: int
    training: TrainingReport
    before: HeldOutResult
    after: HeldOutResult
    checked: tuple[CheckedAnswer, ...]
    matrix_png: Path
    dataset: Path
    adapter: Path

    @property
    def acceptance(self) -> float:
        """Share of trajectories that gave at least one row, in [0, 1]."""
        tally = self.counts.trajectories
        return tally.accepted / tally.seen if tally.seen else 0.0


def data_folder() -> Path:
    """Return the folder of the packaged example."""
    return Path(str(files("reflectory.demo").joinpath("data")))


def demo_config(*, seed: int = 0, device: str = "auto", dtype: str = "auto") -> RunConfig:
    """Return the configuration of the demo."""
    return RunConfig(
        documents=(str(data_folder() / "documents"),),
        instructions=str(data_folder() / "practice.jsonl"),
        device=device,
        dtype=dtype,
        loop=DEMO_LOOP.model_copy(update={"seed": seed}),
        curation=CurationConfig(),
        training=DEMO_TRAINING.model_copy(update={"seed": seed}),
    )


async def run_demo(
    folder: Path, settings: RunConfig, watcher: DemoWatcher | None = None
) -> DemoResult:
    """Run every stage and return what it made.

    Args:
        folder: Run directory; the same again resumes.
        settings: From :func:`demo_config`.
        watcher: Told what is happening.

    Raises:
        ReflectoryError: A stage failed; what was finished is kept.
    """
    from reflectory.loop import ReflectiveLoop
    from reflectory.models.defaults import ensure_language_model
    from reflectory.report.heatmap import save_alignment
    from reflectory.runner import Runner
    from reflectory.runs.instructions import read_instructions
    from reflectory.training.curation import curate
    from reflectory.training.dataset import write_dataset
    from reflectory.training.trainer import train_adapter

    watch = watcher or DemoWatcher()
    items = list(read_instructions(Path(str(settings.instructions))))[:PRACTICE_INSTRUCTIONS]
    loop = ReflectiveLoop(
        list(settings.documents),
        config=settings.loop,
        device=settings.device,
        dtype=settings.dtype,
    )
    round_folder = folder / "rounds" / "000"
    dataset, adapter = round_folder / "dataset", round_folder / "adapter"
    prompts = PromptSet.for_loop(settings.loop)
    try:
        watch.stage("Loading the models, reading the documents")
        await loop.aopen()
        watch.stage(f"Running {len(items)} reflective loops")
        on_event = watch.loops(len(items), settings.loop)
        runner = Runner(loop, settings=settings, on_event=on_event)
        trajectories = []
        async for trajectory in runner.stream(items, concurrency=len(items), output=folder):
            watch.loop_done(trajectory)
            trajectories.append(trajectory)
        trajectories.sort(key=lambda t: t.id)

        watch.stage("Turning what was learnt into rows")
        curated = curate(
            trajectories, settings.curation, lambda *given: answer_segments(prompts, *given)
        )
        write_dataset(
            dataset,
            curated.rows,
            rule=settings.curation,
            counts=curated.counts,
            seeds=[settings.loop.seed],
        )
        watch.stage("Answering the held-out questions as the student is")
        before = await _held_out(loop, settings)
    finally:
        await loop.aclose()

    watch.stage(f"Training a LoRA adapter on {len(curated.rows)} rows")
    show = watch.training()
    training = await in_torch_thread(
        lambda: train_adapter(
            curated.rows,
            ensure_language_model().path,
            adapter,
            settings.training,
            progress=show,
            device=settings.device,
            dtype=settings.dtype,
        )
    )
    watch.stage("Answering the held-out questions with what it learnt")
    trained = ReflectiveLoop(
        list(settings.documents),
        config=settings.loop,
        student_adapter=adapter,
        grader=_no_grades,
        device=settings.device,
        dtype=settings.dtype,
    )
    try:
        after = await _held_out(trained, settings)
    finally:
        await trained.aclose()
    checked = checked_answers(_questions(), before.answers, after.answers)
    write_json(
        round_folder / "evaluation.json",
        {
            "before": before.scores.to_dict(),
            "after": after.scores.to_dict(),
            "answers": [answer.model_dump(mode="json") for answer in checked],
        },
    )
    picture = save_alignment(trajectories[0].alignment, folder / "alignment.png")
    return DemoResult(
        folder=folder,
        trajectories=tuple(trajectories),
        counts=curated.counts,
        rows=len(curated.rows),
        training=training,
        before=before,
        after=after,
        checked=checked,
        matrix_png=picture,
        dataset=dataset,
        adapter=adapter,
    )


def _questions() -> list[HeldOutQuestion]:
    return read_held_out(data_folder() / "held_out.jsonl")


async def _held_out(loop: ReflectiveLoop, settings: RunConfig) -> HeldOutResult:
    parts = await loop.aopen()
    await parts.retriever.prepare()
    student = Student(parts.student, parts.prompts, settings.loop.sampling, seed=settings.loop.seed)
    answers: Sequence[HeldOutAnswer] = await answer_held_out(
        _questions(),
        student,
        parts.student,
        parts.retriever,
        settings.loop.retrieval,
    )
    return HeldOutResult(tuple(answers), mean_scores(a.scores for a in answers))


def _no_grades(task: object) -> float:
    """Stand in for a grader where nothing is graded, so that none is calibrated."""
    raise RuntimeError("the held-out check does not grade")
