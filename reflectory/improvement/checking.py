"""The check of a round: the old and the new student on the same held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from reflectory.errors import DatasetError
from reflectory.evaluation.comparison import PairedComparison, compare, compare_all
from reflectory.evaluation.general import GeneralAnswer, follow, sentence_likelihoods
from reflectory.evaluation.held_out import (
    HeldOutAnswer,
    HeldOutItem,
    HeldOutQuestion,
    answer_items,
    find_contexts,
    read_held_out,
)
from reflectory.evaluation.metrics import aggregate
from reflectory.evaluation.promotion import PromotionDecision, decide_promotion
from reflectory.graphs.round_state import StageOutcome
from reflectory.improvement.crew import Contestant, passages_of
from reflectory.improvement.folder import read_record, read_records, write_records
from reflectory.improvement.workshop import Workshop, key_of
from reflectory.models.protocol import derive_seed
from reflectory.runs.files import write_atomic
from reflectory.types import PracticeQuestion, Record

QUESTIONS = "check.jsonl"
ITEMS = "held_out.jsonl"
EVALUATION = "evaluation.json"
RULE_FIELDS = {
    "metric",
    "minimum_gain",
    "tolerance",
    "significance",
    "confidence",
    "resamples",
    "maximum_forgetting",
    "seed",
}
"""What the comparison and the promotion rule depend on."""

METRICS = ("f1", "exact_match", "contains", "groundedness", "words")


class StudentAnswers(Record):
    """Everything that one student said in the check of a round.

    Attributes:
        student: Number of the student; ``None`` for the new one, which has none yet.
        answers: To the held-out questions, in order.
        general: To the general instructions, in order.
        likelihoods: Mean log-likelihood of plain sentences, in nats per token; ``None``
            where the model cannot score.
    """

    student: int | None
    answers: tuple[HeldOutAnswer, ...]
    general: tuple[GeneralAnswer, ...]
    likelihoods: tuple[float, ...] | None = None


class Evaluation(Record):
    """The check of a round; the content of ``evaluation.json``.

    Attributes:
        questions: What was asked, with the right answers; contexts are in ``held_out.jsonl``.
        before: What the student said that the round began with.
        after: What the new one said.
        figures: Means over the held-out questions, ``before`` and ``after``.
        comparisons: Old against new on the held-out questions, by metric.
        forgetting: Old against new on the general instructions (share followed).
        fluency: Old against new on the plain sentences (nats per token), where measured.
        proposals: Whether the held-out answers are proposals of the teacher.
        decision: What the promotion rule says.
    """

    questions: tuple[HeldOutQuestion, ...]
    before: StudentAnswers
    after: StudentAnswers
    figures: dict[str, dict[str, float]]
    comparisons: dict[str, PairedComparison]
    forgetting: PairedComparison
    fluency: PairedComparison | None = None
    proposals: bool = Field(default=False)
    decision: PromotionDecision


def evaluation_of(shop: Workshop, number: int) -> Evaluation:
    """Return the check of a round."""
    return read_record(shop.round(number).path / EVALUATION, Evaluation)


async def questions_to_check(shop: Workshop) -> list[HeldOutQuestion]:
    """Return the held-out questions, written by the teacher where none were given."""
    files = shop.settings.improvement.held_out
    if files:
        found: dict[str, HeldOutQuestion] = {}
        for place, file in enumerate(files):
            for question in read_held_out(file):
                own = question.id if len(files) == 1 else f"{place}-{question.id}"
                found[own] = question.model_copy(update={"id": own})
        return list(found.values())
    return [
        HeldOutQuestion(id=q.id, question=q.instruction, references=(q.answer,))
        for q in await _written(shop)
    ]


async def _written(shop: Workshop) -> list[PracticeQuestion]:
    """Let the teacher write questions from the documents that are kept out of training."""
    folder, settings = shop.shared(), shop.settings
    config = settings.practice.model_copy(
        update={
            "questions": settings.improvement.check_questions,
            "seed": derive_seed(settings.practice.seed, "check"),
        }
    )

    async def work() -> None:
        from reflectory.agents.practice import write_practice

        adapter = shop.crew.first_adapter()
        parts, live = await shop.crew.parts(adapter), await shop.crew.context(adapter)
        retriever = shop.crew.retriever_over(list(shop.crew.split.check), parts)
        made = await write_practice(
            await passages_of(retriever),
            live.teacher.model,
            config,
            parts.prompts,
            retrieve=shop.crew.finder(retriever, parts),
            levels=settings.loop.level_names,
        )
        if len(made.questions) < 2:
            raise DatasetError(
                f"the teacher wrote {len(made.questions)} questions from the "
                f"{len(shop.crew.split.check)} documents kept out of training, too few for a check",
                hint="give improvement.held_out, raise improvement.check_share, or give more "
                "documents",
            )
        folder.count("check", {"written": len(made.questions), **made.counts})
        write_records(folder.path / QUESTIONS, made.questions)

    texts = [(d.title, d.text) for d in shop.crew.split.check]
    key = key_of(config.model_dump(mode="json"), shop.run.manifest.identity.get("teacher"), texts)
    await shop.stage(folder, "check", key, [QUESTIONS], work)
    return read_records(folder.path / QUESTIONS, PracticeQuestion)


async def items_to_check(shop: Workshop) -> list[HeldOutItem]:
    """Return the held-out questions with the contexts that every student gets."""
    folder, settings = shop.shared(), shop.settings
    questions = await questions_to_check(shop)
    config = settings.improvement

    async def work() -> None:
        parts = await shop.crew.parts(shop.crew.first_adapter())
        retriever = None
        if not config.held_out:
            retriever = shop.crew.retriever_over(list(shop.crew.split.check), parts)
        elif config.held_out_documents:
            retriever = shop.crew.retriever_over(list(config.held_out_documents), parts)
        elif any(not q.documents for q in questions):
            retriever = parts.retriever
        items = await find_contexts(
            questions,
            retriever,
            settings.loop.retrieval,
            parts.student.count_tokens,
            own=lambda documents: shop.crew.retriever_over(list(documents), parts),
        )
        write_records(folder.path / ITEMS, items)

    identity = shop.run.manifest.identity
    key = key_of(
        [q.model_dump(mode="json") for q in questions],
        settings.loop.retrieval.model_dump(mode="json"),
        identity.get("embedder"),
        identity.get("retriever"),
        list(config.held_out_documents),
        _sizes(config.held_out_documents),
    )
    await shop.stage(folder, "contexts", key, [ITEMS], work)
    return read_records(folder.path / ITEMS, HeldOutItem)


def _sizes(paths: Sequence[str]) -> list[Any]:
    """Return what tells that the files under some paths have changed, without reading them."""
    found: list[Any] = []
    for path in map(Path, paths):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [[f.name, f.stat().st_size] for f in files if f.is_file()]
    return found


async def evaluate(shop: Workshop, number: int) -> StageOutcome:
    """Let both students answer the same questions, and apply the promotion rule."""
    folder, config = shop.round(number), shop.settings.improvement
    old = shop.student(number)
    items = await items_to_check(shop)

    async def work() -> None:
        adapters = (shop.adapter(old), folder.path / "adapter")
        async with shop.crew.contestants(*adapters) as (before, after):
            said = [
                await _answers(before, items, old.number),
                await _answers(after, items, None),
            ]
        asked = [HeldOutQuestion(**item.model_dump(exclude={"context"})) for item in items]
        evaluation = judge(asked, said[0], said[1], shop)
        write_atomic(folder.path / EVALUATION, evaluation.model_dump_json(indent=2) + "\n")

    key = key_of(
        config.model_dump(mode="json", include=RULE_FIELDS),
        shop.settings.loop.sampling.model_dump(mode="json"),
        shop.settings.loop.prompts,
        old.sha256,
        files=[shop.run.path / ITEMS, folder.path / "adapter" / "adapter_model.safetensors"],
    )
    outcome = await shop.stage(
        folder,
        "evaluate",
        key,
        [EVALUATION],
        work,
        tell=lambda: shop.watcher.stage(
            number, "evaluate", f"Answering {len(items)} held-out questions as before and after"
        ),
    )
    found = evaluation_of(shop, number)
    counts = {"promote": found.decision.promote, "questions": len(items), **found.figures}
    return StageOutcome(outcome.file, counts)


async def _answers(
    contestant: Contestant, items: Sequence[HeldOutItem], number: int | None
) -> StudentAnswers:
    answers = await answer_items(items, contestant.student)
    general = await follow(contestant.model)
    likelihoods = await sentence_likelihoods(contestant.model)
    return StudentAnswers(
        student=number,
        answers=tuple(answers),
        general=tuple(general),
        likelihoods=None if likelihoods is None else tuple(likelihoods),
    )


def judge(
    questions: Sequence[HeldOutQuestion],
    before: StudentAnswers,
    after: StudentAnswers,
    shop: Workshop,
) -> Evaluation:
    """Return the comparisons of two students and what the rule says of them."""
    config = shop.settings.improvement
    options: dict[str, Any] = {
        "confidence": config.confidence,
        "resamples": config.resamples,
        "seed": config.seed,
    }
    comparisons = compare_all(before.answers, after.answers, METRICS, **options)
    forgetting = compare(
        [a.followed for a in before.general],
        [a.followed for a in after.general],
        name="general instructions followed",
        **options,
    )
    fluency = None
    if before.likelihoods is not None and after.likelihoods is not None:
        fluency = compare(
            before.likelihoods, after.likelihoods, name="plain sentences, nats", **options
        )
    proposals = not config.held_out
    return Evaluation(
        questions=tuple(questions),
        before=before,
        after=after,
        figures={"before": _means(before), "after": _means(after)},
        comparisons=comparisons,
        forgetting=forgetting,
        fluency=fluency,
        proposals=proposals,
        decision=decide_promotion(comparisons, config, forgetting=forgetting, proposals=proposals),
    )


def _means(said: StudentAnswers) -> dict[str, float]:
    means = aggregate(a.scores for a in said.answers)
    grounded = [a.groundedness or 0.0 for a in said.answers]
    return {
        "f1": means.f1,
        "exact_match": means.exact_match,
        "contains": means.contains,
        "groundedness": sum(grounded) / len(grounded),
        "words": means.words,
        "missing": float(means.missing),
        "general": sum(a.followed for a in said.general) / max(1, len(said.general)),
    }
