"""The second half of a round: rows, and the adapter that is trained on them."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

from reflectory.agents import PromptSet, answer_segments
from reflectory.errors import DatasetError, UserError
from reflectory.evaluation.general import general_instructions
from reflectory.graphs.round_state import StageOutcome
from reflectory.improvement.checking import questions_to_check
from reflectory.improvement.lineage import read_rounds
from reflectory.improvement.practising import (
    CANDIDATES,
    LOOPS,
    candidates_of,
    trajectories_of,
)
from reflectory.improvement.workshop import Workshop, key_of
from reflectory.models.torch_thread import in_torch_thread
from reflectory.training import (
    Curation,
    PreferenceRow,
    RowSet,
    TrainingRow,
    curate,
    read_dataset,
    train_adapter,
    write_dataset,
)
from reflectory.training.curation import CurationTools, refine
from reflectory.training.dataset_manual import read_manual
from reflectory.training.lineage import read_adapter_manifest
from reflectory.training.merging import merge_rows
from reflectory.training.rehearsal import is_rehearsal, rehearsal_rows
from reflectory.training.rows import Prompter

DATASET = "dataset"
PREFERENCES = "preferences"
ADAPTER = "adapter"
MINIMUM_ROWS = 2


async def make_rows(shop: Workshop, number: int) -> StageOutcome:
    """Make the data set of a round: what was there before, and what is new."""
    folder, settings = shop.round(number), shop.settings
    before = _rows_before(shop, number)

    async def work() -> None:
        curation = await _curated(shop, number)
        new = [_marked(row, number) for row in curation.rows]
        pairs = [_marked(pair, number) for pair in curation.preferences]
        # Equation 4: D_{r+1} = D_r + what is new. Equation 5: manual, distilled and self-made
        # rows in one set, each knowing which it is.
        kept = [read_dataset(before / DATASET)] if before else []
        manual = [read_manual(path, prompter=prompter_of(shop)) for path in _manual(shop)]
        merged = merge_rows(*kept, *manual, RowSet.of("sft", new))
        rehearsed = sum(is_rehearsal(row) for row in merged.rows)
        if len(merged.rows) - rehearsed < MINIMUM_ROWS:
            raise DatasetError(
                f"round {number} has {len(merged.rows)} rows, {MINIMUM_ROWS} are needed",
                hint="lower the thresholds of curation, or practise on more questions",
            )
        if not rehearsed:  # later rounds have them from the first one
            plain = await _rehearsed(shop)
            merged = merge_rows(merged, RowSet.of("sft", plain)) if plain else merged
        had_pairs = before is not None and (before / PREFERENCES).exists()
        pairs_before = [read_dataset(before / PREFERENCES)] if before and had_pairs else []
        preferences = merge_rows(*pairs_before, RowSet.of("dpo", pairs))
        folder.count("curate", _counts(curation, merged, preferences))
        options: dict[str, Any] = {
            "rule": settings.curation,
            "counts": curation.counts,
            "seeds": [settings.loop.seed],
        }
        if preferences.rows:
            write_dataset(folder.path / PREFERENCES, preferences.rows, format="dpo", **options)
        write_dataset(folder.path / DATASET, merged.rows, **options)

    files = [folder.path / CANDIDATES, folder.path / LOOPS / "trajectories.jsonl"]
    files += [Path(path) for path in _manual(shop)]
    if before:
        files += [before / DATASET / "dataset.json", before / PREFERENCES / "dataset.json"]
    key = key_of(
        settings.curation.model_dump(mode="json"),
        settings.improvement.accumulate,
        settings.improvement.rehearsal,
        [Path(path).name for path in settings.improvement.held_out],
        files=[*files, *(Path(path) for path in settings.improvement.held_out)],
    )
    return await shop.stage(
        folder,
        "curate",
        key,
        [PREFERENCES, DATASET],
        work,
        tell=lambda: shop.watcher.stage(number, "curate", "Choosing rows to learn"),
    )


async def _rehearsed(shop: Workshop) -> list[TrainingRow]:
    """Return what the first student says to plain instructions, as rows to keep."""
    count = shop.settings.improvement.rehearsal
    if not count:
        return []
    live = await shop.crew.context(shop.crew.first_adapter())
    seed = shop.settings.improvement.seed
    return list(await rehearsal_rows(live.student.model, count, seed=seed))


async def _curated(shop: Workshop, number: int) -> Curation:
    """Return the new rows of a round after all steps of curation."""
    settings = shop.settings
    curation = await asyncio.to_thread(
        curate,
        trajectories_of(shop, number),
        settings.curation,
        prompter_of(shop),
        candidates=candidates_of(shop, number),
    )
    live = parts = None
    if settings.curation.difficulty or settings.curation.duplicates == "embeddings":
        adapter = shop.adapter(shop.student(number))
        live, parts = await shop.crew.context(adapter), await shop.crew.parts(adapter)
    elif settings.curation.maximum_tokens is not None:
        parts = await shop.crew.parts(shop.adapter(shop.student(number)))
    checked = await questions_to_check(shop)
    texts = [text for q in checked for text in (q.question, *q.references)]
    texts += [item.instruction for item in general_instructions()]
    tools = CurationTools(
        student=live.student.model if live is not None else None,
        embedder=parts.embedder if parts is not None else None,
        evaluation_texts=texts,
        documents=shop.crew.split.documents,
        count_tokens=parts.student.count_tokens if parts is not None else None,
    )
    return await refine(curation, settings.curation, tools)


def _counts(curation: Curation, merged: RowSet, preferences: RowSet) -> dict[str, Any]:
    sources: dict[str, int] = {}
    for row in merged.rows:
        source = row.provenance.source
        sources[source] = sources.get(source, 0) + 1
    return {
        "new rows": len(curation.rows),
        "rows": len(merged.rows),
        "rehearsal": sum(is_rehearsal(row) for row in merged.rows),
        "new pairs": len(curation.preferences),
        "pairs": len(preferences.rows),
        "sources": sources,
        "rows_sha256": merged.sha256,
    }


def _marked(row: Any, number: int) -> Any:
    """Return a row that says which round made it."""
    provenance = row.provenance.model_copy(update={"round": number})
    return row.model_copy(update={"provenance": provenance})


def _manual(shop: Workshop) -> tuple[str, ...]:
    return shop.settings.improvement.manual_rows


def _rows_before(shop: Workshop, number: int) -> Path | None:
    """Return the folder of the round whose data set this one adds to, or ``None``."""
    accumulate = shop.settings.improvement.accumulate
    if accumulate == "none":
        return None
    for record in reversed(read_rounds(shop.run.path)[:number]):
        folder = shop.run.path / "rounds" / f"{record.number:03d}"
        wanted = accumulate == "all" or record.decision == "promoted"
        if wanted and (folder / DATASET / "dataset.json").exists():
            return folder
    return None


def prompter_of(shop: Workshop) -> Prompter:
    """Return what makes the student's prompt: the very function that inference uses."""
    return partial(answer_segments, PromptSet.for_loop(shop.settings.loop))


def rows_of(shop: Workshop, number: int) -> tuple[TrainingRow, ...]:
    """Return the rows of a round's data set."""
    return read_dataset(shop.round(number).path / DATASET).training_rows()


def preferences_of(shop: Workshop, number: int) -> tuple[PreferenceRow, ...]:
    """Return the preference pairs of a round; none when it made none."""
    folder = shop.round(number).path / PREFERENCES
    return read_dataset(folder).preference_rows() if folder.exists() else ()


def parent_of(shop: Workshop, number: int) -> Path | None:
    """Return the adapter that training goes on from, or ``None``."""
    if shop.settings.improvement.start == "base":
        return None
    return shop.adapter(shop.student(number))


async def train(shop: Workshop, number: int) -> StageOutcome:
    """Train the adapter of a round, with all memory given to it."""
    folder, settings = shop.round(number), shop.settings
    parent = parent_of(shop, number)
    seed = shop.round_seed(settings.training.seed, "training", number)
    training = settings.training.model_copy(update={"seed": seed})

    async def work() -> None:
        await shop.crew.rest()
        rows, pairs = rows_of(shop, number), preferences_of(shop, number)
        if "dpo" not in settings.training.objectives:
            pairs = ()
        show = shop.watcher.training()
        stop = threading.Event()

        def run() -> None:
            train_adapter(
                rows,
                base_of(shop),
                folder.path / ADAPTER,
                training,
                preferences=pairs,
                parent=parent,
                teacher=teacher_of(shop),
                progress=show,
                cancel=stop,
                device=settings.device,
                dtype=settings.dtype,
            )

        task = asyncio.ensure_future(in_torch_thread(run))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()  # the thread ends after its step, with a checkpoint
            await asyncio.wait({task})
            task.exception()
            raise

    weights = [parent / "adapter_model.safetensors"] if parent else []
    key = key_of(
        training.model_dump(mode="json"),
        settings.student,
        settings.improvement.base,
        files=[
            folder.path / DATASET / "dataset.json",
            folder.path / PREFERENCES / "dataset.json",
            *weights,
        ],
    )
    outcome = await shop.stage(
        folder,
        "train",
        key,
        [ADAPTER],
        work,
        tell=lambda: shop.watcher.stage(number, "train", "Training an adapter"),
    )
    manifest = read_adapter_manifest(folder.path / ADAPTER)
    counts = {
        "rows": manifest.rows,
        "steps": manifest.steps,
        "tokens": manifest.tokens,
        "first loss": round(manifest.losses[0], 4) if manifest.losses else None,
        "last loss": round(manifest.losses[-1], 4) if manifest.losses else None,
    }
    return StageOutcome(outcome.file, counts)


def base_of(shop: Workshop) -> str | Path:
    """Return the folder or hub id of the model that is trained.

    Raises:
        UserError: The student is a server's or an object, and nobody says what it is.
    """
    return base_named(shop.settings.student, shop.settings.improvement.base)


def teacher_of(shop: Workshop) -> str | Path | None:
    """Return the model whose distributions are learnt besides (Equations 2 and 3), or ``None``.

    Raises:
        UserError: They are to be learnt, and the teacher is no local model.
    """
    settings = shop.settings
    if not settings.training.kl_weight or settings.teacher == settings.student:
        return None
    return distilled_from(settings.teacher)


def distilled_from(teacher: str) -> str | Path:
    """Return the weights of a teacher by its name; see :func:`teacher_of`.

    Raises:
        UserError: It is no local model.
    """
    if teacher.partition(":")[0] != "local":
        raise UserError(
            f"the distributions of {teacher} cannot be learnt: it shows only text",
            hint="set training.kl_weight to 0, or use a local teacher",
        )
    return base_named(teacher, None)


def base_named(student: Any, base: str | None) -> str | Path:
    """Return what is trained for a student of this name; see :func:`base_of`.

    Raises:
        UserError: It is no local model, and ``base`` names none.
    """
    if base is not None and base != "local":
        return base.removeprefix("local:")
    if student == "local" or base == "local":
        from reflectory.models.defaults import ensure_language_model

        return ensure_language_model().path
    kind, _, rest = str(student).partition(":")
    if kind in ("local", "vllm") and rest:
        return rest
    raise UserError(
        f"the student {student!r} cannot be trained: only a local model has weights to train",
        hint="set student to local or local:PATH_OR_HUB_ID, or name the weights behind the "
        "server in improvement.base",
    )
