"""The first half of a round: questions, loops, and the answers to choose from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from reflectory.config import RunConfig
from reflectory.errors import DatasetError, UserError
from reflectory.graphs.round_state import StageOutcome
from reflectory.improvement.crew import passages_of
from reflectory.improvement.folder import read_records, write_records
from reflectory.improvement.workshop import Workshop, key_of, timed
from reflectory.runner import Runner
from reflectory.runs.directory import RunView
from reflectory.runs.instructions import Instruction, read_instructions
from reflectory.types import CandidateSet, PracticeQuestion, Trajectory

PRACTICE = "practice.jsonl"
LOOPS = "loops"
CANDIDATES = "candidates.jsonl"


def given_instructions(settings: RunConfig) -> list[Instruction]:
    """Return the instructions that the user gave, if any."""
    given = settings.instructions
    if not given:
        return []
    return list(read_instructions(Path(given) if isinstance(given, str) else list(given)))


def practice_of(shop: Workshop, number: int) -> list[PracticeQuestion]:
    """Return what a round practises on, besides the given instructions."""
    return read_records(shop.round(number).path / PRACTICE, PracticeQuestion)


async def practise(shop: Workshop, number: int) -> StageOutcome:
    """Let the teacher write the questions of the round."""
    folder = shop.round(number)
    settings = shop.settings
    config = settings.practice.model_copy(
        update={"seed": shop.round_seed(settings.practice.seed, "practice", number)}
    )
    # What was practised before is not practised again, also not after a roll-back.
    asked = [q.instruction for r in range(number) for q in _asked_in(shop, r)]
    given = given_instructions(settings)
    asked += [item.text for item in given]

    async def work() -> None:
        if not config.questions:
            if not given:
                raise UserError(
                    "there is nothing to practise on: no instructions are given and "
                    "practice.questions is 0",
                    hint="name instructions, or let the teacher write questions",
                )
            folder.count("practise", {"given": len(given), "written": 0})
            write_records(folder.path / PRACTICE, [])
            return
        from reflectory.agents.practice import write_practice

        adapter = shop.adapter(shop.student(number))
        parts = await shop.crew.parts(adapter)
        live = await shop.crew.context(adapter)
        made = await write_practice(
            await passages_of(parts.retriever),
            live.teacher.model,
            config,
            parts.prompts,
            avoid=frozenset(asked),
            retrieve=shop.crew.finder(parts.retriever, parts),
            levels=settings.loop.level_names,
        )
        if not made.questions and not given:
            raise DatasetError(
                "the teacher wrote no question that could be used",
                hint="raise practice.attempts, lower practice.minimum_lead, or give instructions",
            )
        counts = {"given": len(given), "written": len(made.questions), **made.counts}
        folder.count("practise", counts)
        write_records(folder.path / PRACTICE, _renamed(made.questions, number))

    identity = shop.run.manifest.identity
    key = key_of(
        config.model_dump(mode="json"),
        identity.get("teacher"),
        identity.get("retriever"),
        settings.loop.level_names,
        [item.text for item in given],
        asked,
    )
    return await shop.stage(
        folder,
        "practise",
        key,
        [PRACTICE],
        work,
        tell=lambda: shop.watcher.stage(number, "practise", "Writing questions to practise on"),
    )


def _asked_in(shop: Workshop, number: int) -> list[PracticeQuestion]:
    file = shop.run.path / "rounds" / f"{number:03d}" / PRACTICE
    return read_records(file, PracticeQuestion) if file.exists() else []


def _renamed(questions: Sequence[PracticeQuestion], number: int) -> list[PracticeQuestion]:
    """Return the questions with ids that no other round has."""
    return [q.model_copy(update={"id": f"r{number:03d}-{q.id}"}) for q in questions]


def _items(shop: Workshop, number: int) -> list[Instruction]:
    """Return what the loops of a round are run on; the proposed answers stay here."""
    written = [
        Instruction(q.id, q.instruction, {"kind": q.kind, "level": q.level})
        for q in practice_of(shop, number)
    ]
    return [*given_instructions(shop.settings), *written]


async def reflect(shop: Workshop, number: int) -> StageOutcome:
    """Run a reflective loop for each question, in a run directory of its own."""
    folder = shop.round(number)
    items = _items(shop, number)
    if not _all_done(folder.path / LOOPS, items):
        shop.watcher.stage(number, "reflect", f"Running {len(items)} reflective loops")
        await _run_loops(shop, number, items)
    found = [t for t in trajectories_of(shop, number) if t.id in {item.id for item in items}]
    failed = sum(t.status == "failed" for t in found)
    counts = {"loops": len(found), "failed": failed}
    folder.count("reflect", counts)
    place = (folder.path / LOOPS).relative_to(shop.run.path).as_posix()
    return StageOutcome(place, counts)


async def _run_loops(shop: Workshop, number: int, items: Sequence[Instruction]) -> None:
    folder, settings = shop.round(number), shop.settings
    loop = await shop.crew.loop(shop.adapter(shop.student(number)))
    # A directory of loops records what decides loops, and nothing of the rounds.
    own = RunConfig(
        teacher=settings.teacher,
        student=settings.student,
        embedder=settings.embedder,
        device=settings.device,
        dtype=settings.dtype,
        concurrency=settings.concurrency,
        remote=settings.remote,
        loop=loop.config,
    )
    runner = Runner(
        loop,
        settings=own,
        on_event=shop.watcher.loops(len(items), settings.loop),
        on_review=shop.on_review,
    )
    stream = runner.stream(items, concurrency=settings.concurrency, output=folder.path / LOOPS)
    with timed(folder, "reflect"):
        async with aclosing(stream) as found:
            async for trajectory in found:
                shop.watcher.loop_done(trajectory)


def _all_done(loops: Path, items: Sequence[Instruction]) -> bool:
    if not (loops / "manifest.json").exists():
        return False
    store = RunView.read(loops).trajectories
    return {item.id for item in items} <= store.ids() | store.failed_ids()


def trajectories_of(shop: Workshop, number: int) -> list[Trajectory]:
    """Return the trajectories of a round, ordered by id."""
    view = RunView.read(shop.round(number).path / LOOPS)
    return sorted(view.trajectories, key=lambda t: t.id)


async def gather(shop: Workshop, number: int) -> StageOutcome:
    """Gather and grade the answers among which the one to learn is chosen."""
    folder = shop.round(number)
    config = shop.settings.candidates.model_copy(
        update={"seed": shop.round_seed(shop.settings.candidates.seed, "candidates", number)}
    )

    async def work() -> None:
        from reflectory.training.candidates import gather_candidates

        live = await shop.crew.context(shop.adapter(shop.student(number)))
        done = [t for t in trajectories_of(shop, number) if t.status == "done"]
        practice = {q.id: q for q in practice_of(shop, number)}
        sets = await gather_candidates(
            done,
            config,
            student=live.student,
            grader=live.teacher.grader,
            practice=practice,
            rubrics={level.name: level.rubric for level in shop.settings.loop.levels},
            verifier=shop.crew.sources.verifier,
        )
        chosen = sum(s.chosen is not None for s in sets)
        candidates = sum(len(s.candidates) for s in sets)
        folder.count(
            "gather", {"sets": len(sets), "candidates": candidates, "with a choice": chosen}
        )
        await asyncio.to_thread(write_records, folder.path / CANDIDATES, sets)

    key = key_of(
        config.model_dump(mode="json"),
        shop.student(number).sha256,
        files=[folder.path / PRACTICE, folder.path / LOOPS / "trajectories.jsonl"],
    )
    return await shop.stage(
        folder,
        "gather",
        key,
        [CANDIDATES],
        work,
        tell=lambda: shop.watcher.stage(number, "gather", "Gathering answers to choose from"),
    )


def candidates_of(shop: Workshop, number: int) -> list[CandidateSet]:
    """Return the answers that were gathered in a round."""
    return read_records(shop.round(number).path / CANDIDATES, CandidateSet)
