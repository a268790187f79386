"""Rounds in a run directory, written by hand, for the tests of the report."""

import json
from pathlib import Path

from reports import make_run, some

from reflectory.config import ImprovementConfig, TrainingConfig
from reflectory.evaluation.comparison import compare
from reflectory.evaluation.held_out import HeldOutAnswer, HeldOutQuestion
from reflectory.evaluation.metrics import AnswerScores
from reflectory.evaluation.promotion import decide_promotion
from reflectory.improvement.checking import Evaluation, StudentAnswers
from reflectory.improvement.records import RoundRecord
from reflectory.training.dataset import write_dataset
from reflectory.training.lineage import AdapterManifest, StageRecord
from reflectory.training.rows import Message, Provenance, TrainingRow

BEFORE, AFTER = [0.0, 0.0, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0]


def answers(values: list[float], text: str) -> tuple[HeldOutAnswer, ...]:
    return tuple(
        HeldOutAnswer(
            id=str(n),
            text=f"{text} {n}" if n else None,
            scores=AnswerScores(exact_match=False, f1=f1, contains=False, words=2),
        )
        for n, f1 in enumerate(values)
    )


def check(text: str) -> Evaluation:
    gain = compare(BEFORE, AFTER, name="f1", resamples=100)
    config = ImprovementConfig(held_out=("held_out.jsonl",), resamples=100)
    return Evaluation(
        questions=tuple(
            HeldOutQuestion(id=str(n), question=f"{text} {n}?", references=(text,))
            for n in range(4)
        ),
        before=StudentAnswers(student=0, answers=answers(BEFORE, text), general=()),
        after=StudentAnswers(student=None, answers=answers(AFTER, f"{text} new"), general=()),
        figures={},
        comparisons={"f1": gain},
        forgetting=compare([1.0, 1.0], [1.0, 0.0], name="general", resamples=100),
        decision=decide_promotion({"f1": gain}, config),
    )


def adapter(text: str) -> AdapterManifest:
    return AdapterManifest(
        base_name=text,
        base_fingerprint=text,
        weights_sha256="",
        rows_sha256="",
        rows=12,
        rows_shortened=0,
        rows_too_long=0,
        trajectories=3,
        kinds={"response": 12},
        config=TrainingConfig(),
        steps=6,
        losses=(2.0, 1.5, 1.2, 0.9, 0.7, 0.6),
        target_tokens=100,
        tokens=1_000,
        trainable_parameters=10,
        total_parameters=1_000,
        device="cpu",
        dtype="float32",
        versions={},
        stages=(
            StageRecord(objective="sft", steps=4, checks=((2, 1.4), (4, 1.1)), best_step=4),
            StageRecord(objective="dpo", steps=2, best_step=2),
        ),
    )


def add_round(run: Path, number: int, text: str, *, failed: bool = False) -> None:
    """Write everything that a round leaves, with one text wherever somebody writes."""
    folder = run / "rounds" / f"{number:03d}"
    (folder / "adapter").mkdir(parents=True)
    make_run(folder / "loops", some(3, seed=number))
    row = TrainingRow(
        prompt=(Message(role="user", content=text),),
        completion=(Message(role="assistant", content=text),),
        provenance=Provenance(level=text, round=number, score=0.7),
    )
    write_dataset(folder / "dataset", [row], sources_licence=text)
    (folder / "adapter" / "reflectory.json").write_text(adapter(text).model_dump_json())
    (folder / "evaluation.json").write_text(check(text).model_dump_json())
    (folder / "timing.json").write_text(json.dumps({"train": 12.0}))
    failure = {"kind": text, "stage": "train", "message": text, "hint": f"mend {text}"}
    record = RoundRecord(
        number=number,
        student=0,
        trained=1,
        decision="failed" if failed else "promoted",
        reason=f"because of {text}",
        warnings=(text,),
        failure=failure if failed else {},
    )
    (folder / "round.json").write_text(record.model_dump_json())
