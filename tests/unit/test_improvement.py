"""Whole rounds with a tiny student that learns a word: decisions, lineage, failures, reviews."""

import asyncio
import errno
import json
import os
import shutil
from pathlib import Path

import improving
import pytest
from improving import Told

from reflectory.background import BACKGROUND
from reflectory.config import RunConfig
from reflectory.demo.story import data_folder
from reflectory.errors import (
    IntegrityError,
    RunDirectoryError,
    StorageError,
    UserError,
)
from reflectory.evaluation import general
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.improvement import SelfImprovement
from reflectory.improvement.driver import ReviewWaits
from reflectory.improvement.folder import read_records
from reflectory.runs import RunView
from reflectory.runs.lock import FolderLock
from reflectory.training import read_adapter_manifest, read_dataset
from reflectory.training.rows import Message, Provenance, TrainingRow, assistant
from reflectory.types import PracticeQuestion

STAGES = ["practise", "reflect", "gather", "curate", "train", "evaluate"]


@pytest.fixture(autouse=True)
def _tiny_models_are_allowed(monkeypatch):
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "0")
    monkeypatch.setattr(general, "general_instructions", general.general_instructions)
    monkeypatch.setattr(general, "ANSWER_TOKENS", general.ANSWER_TOKENS)
    improving.few_general_instructions()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a run of one round that was promoted."""
    folder = tmp_path_factory.mktemp("rounds")
    improving.prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFLECTORY_FORBID_MODELS", "0")
        patch.setattr(general, "general_instructions", general.general_instructions)
        patch.setattr(general, "ANSWER_TOKENS", general.ANSWER_TOKENS)
        improving.few_general_instructions()
        improving.rounds(folder).run()
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """Return a folder with a copy of its run that a test may change."""
    shutil.copytree(made / "run", tmp_path / "copy" / "run")
    return tmp_path / "copy"


@pytest.fixture
def fresh(made, tmp_path):
    """Return the same student, rows and questions without a run."""
    shutil.copytree(made, tmp_path / "fresh", ignore=shutil.ignore_patterns("run"))
    return tmp_path / "fresh"


def test_a_better_adapter_is_promoted_and_everything_lies_in_files(made):
    rounds = improving.rounds(made)
    (record,) = rounds.rounds()
    base, student = rounds.students()
    assert record.decision == "promoted" and "few rows" in record.reason and record.warnings
    assert (record.student, record.trained) == (0, 1)
    assert record.comparisons["f1"]["difference"] > 0.5
    assert record.counts["curate"]["sources"]["manual"] == 8
    assert base.adapter is None and base.decision == "base"
    assert (student.parent, student.round, student.decision) == (0, 0, "promoted")
    assert student.figures["f1"] > 0.5 and student.versions["torch"]
    folder = made / "run"
    assert rounds.adapter() == folder / "rounds/000/adapter"
    manifest = read_adapter_manifest(rounds.adapter())
    assert manifest.weights_sha256 == student.sha256
    assert manifest.rows_sha256 == student.rows_sha256
    rows = read_dataset(folder / "rounds/000/dataset")
    assert rows.sha256 == student.rows_sha256
    names = {p.name for p in (folder / "rounds/000").iterdir()}
    assert names >= {"practice.jsonl", "loops", "candidates.jsonl", "dataset", "adapter"}
    assert names >= {"evaluation.json", "round.json", "stages.json", "timing.json"}
    assert not [name for name in names if name.startswith(".")]
    evaluation = json.loads((folder / "rounds/000/evaluation.json").read_text())
    assert [a["text"] for a in evaluation["after"]["answers"]].count("blue") >= 5
    assert [q["references"] for q in evaluation["questions"]] == [["blue"]] * 8
    assert evaluation["fluency"]["rows"] > 20 and not evaluation["proposals"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished"] and manifest["totals"]["calls"] > 20


def test_the_same_call_again_does_nothing_and_returns_the_same(made, folder):
    before = {p: p.stat().st_mtime_ns for p in (folder / "run/rounds").rglob("*")}
    told = Told()
    rounds = improving.rounds(made, folder / "run")
    assert rounds.run(watcher=told) == rounds.result()
    assert told.stages == [] and told.decisions == []
    assert {p: p.stat().st_mtime_ns for p in (folder / "run/rounds").rglob("*")} == before


def test_the_next_round_begins_with_the_promoted_student_and_adds_to_its_rows(made, folder):
    told = Told()
    result = improving.rounds(
        made, folder / "run", improvement__rounds=2, training__max_steps=2
    ).run(watcher=told)
    assert told.stages == [(1, name) for name in STAGES]
    first, second = result.rounds
    assert second.student == 1 and second.trained == 2
    assert second.settings["training"]["max_steps"] == 2
    assert first.settings["training"]["max_steps"] == 25
    assert result.students[2].parent == 1
    manifest = read_adapter_manifest(folder / "run/rounds/001/adapter")
    assert manifest.parent_sha256 == result.students[1].sha256
    assert second.counts["curate"]["rows"] >= first.counts["curate"]["rows"]
    old = read_dataset(folder / "run/rounds/000/dataset").rows
    assert list(old) == list(read_dataset(folder / "run/rounds/001/dataset").rows)[: len(old)]
    # Two more steps may say the word once more, or not.
    assert result.current == {"promoted": 2, "rolled_back": 1}[second.decision]
    assert (second.comparisons["f1"]["difference"] > 0) == (second.decision == "promoted")


def test_training_may_begin_anew_and_rows_may_be_left_behind(made, folder):
    result = improving.rounds(
        made,
        folder / "run",
        improvement__rounds=2,
        improvement__start="base",
        improvement__accumulate="none",
        training__max_steps=2,
    ).run()
    manifest = read_adapter_manifest(folder / "run/rounds/001/adapter")
    assert manifest.parent_sha256 is None and result.students[2].parent is None


def test_another_loop_or_student_is_refused(made, folder):
    other = improving.rounds(made, folder / "run", loop=improving.WORLD.config(max_iterations=2))
    with pytest.raises(RunDirectoryError, match="max_iterations"):
        other.run()
    improving.save_tiny_model(folder / "other", seed=1, context_window=4096)
    with pytest.raises(RunDirectoryError, match="student"):
        improving.rounds(made, folder / "run", student=f"local:{folder / 'other'}").run()


def test_a_loss_that_is_no_number_fails_the_round_and_the_student_stays(fresh):
    result = improving.rounds(fresh, training__learning_rate=1e30).run()
    (record,) = result.rounds
    assert result.failed and record.decision == "failed" and record.failure["stage"] == "train"
    assert record.failure["kind"] == "TrainingError"
    assert result.current == 0 and len(result.students) == 1
    assert not (fresh / "run/rounds/000/adapter").exists()
    told = Told()
    result = improving.rounds(fresh).run(watcher=told, retry_failed=True)
    # The stages before it are not made again.
    assert told.stages == [(0, "train"), (0, "evaluate")]
    assert [r.decision for r in result.rounds] == ["promoted"]
    assert (fresh / "run/rounds/000/round.failed.json").exists()


def test_a_failed_round_is_passed_over_by_the_next_call(fresh):
    improving.rounds(fresh, training__learning_rate=1e30).run()
    result = improving.rounds(fresh, improvement__rounds=2).run()
    assert [r.decision for r in result.rounds] == ["failed", "promoted"]


def test_too_few_rows_fail_the_round_before_training(fresh):
    told = Told()
    result = improving.rounds(fresh, improvement__manual_rows=()).run(watcher=told)
    assert result.failed and result.rounds[0].failure["kind"] == "DatasetError"
    assert told.stages[-1] == (0, "curate") and "0 rows" in result.rounds[0].reason


@pytest.mark.parametrize("place", ["practice.jsonl", "adapter", "evaluation.json", "students.json"])
def test_a_full_disk_promotes_nothing_and_loses_nothing(fresh, monkeypatch, place):
    normal = os.fsync

    def full(descriptor):
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if f".{place}." in name or f"/{place}" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        normal(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            improving.rounds(fresh).run()
    rounds = improving.rounds(fresh)
    assert rounds.result().current == 0 and rounds.rounds() == ()
    assert rounds.run().current == 1


def test_an_earlier_student_can_be_restored_and_is_gone_on_from(made, folder):
    rounds = improving.rounds(made, folder / "run", improvement__rounds=2, training__max_steps=1)
    assert rounds.restore(0).number == 0
    assert rounds.adapter() is None and rounds.result().current == 0
    result = rounds.run()
    assert result.rounds[1].student == 0 and result.students[2].parent == 0
    assert rounds.restore(1).adapter == "rounds/000/adapter"


def test_what_cannot_be_restored(made, folder, tmp_path):
    rounds = improving.rounds(made, folder / "run")
    with pytest.raises(UserError, match="there is no student 7"):
        rounds.restore(7)
    lock = FolderLock(folder / "run/.lock")
    with pytest.raises(RunDirectoryError, match="in use"):
        rounds.restore(0)
    lock.release()
    weights = folder / "run/rounds/000/adapter/adapter_model.safetensors"
    rounds.restore(0)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="is not what student 1"):
        rounds.restore(1)
    weights.unlink()
    with pytest.raises(IntegrityError, match="not in"):
        rounds.restore(1)
    assert rounds.result().current == 0
    with pytest.raises(RunDirectoryError, match="no run of rounds"):
        SelfImprovement(tmp_path / "nothing").restore(0)
    assert not (tmp_path / "nothing").exists()


def test_a_damaged_lineage_is_named(made, folder):
    file = folder / "run/students.json"
    file.write_text(file.read_text().replace('"number": 1', '"number": -1'))
    with pytest.raises(IntegrityError, match=r"students\.json is damaged"):
        improving.rounds(made, folder / "run").students()
    file.write_text('{"schema_version": 99}')
    with pytest.raises(RunDirectoryError, match="schema version 99"):
        improving.rounds(made, folder / "run").students()


def test_what_the_first_student_said_to_plain_instructions_is_learnt_again(fresh, monkeypatch):
    async def rehearsed(model, count, *, seed):
        row = TrainingRow(
            prompt=(Message(role="user", content="Name two oceans."),),
            completion=assistant("Atlantic and Pacific"),
            provenance=Provenance(trajectory="rehearsal-09"),
        )
        return (row,) * min(count, 1)

    monkeypatch.setattr("reflectory.improvement.learning.rehearsal_rows", rehearsed)
    rounds = improving.rounds(fresh, improvement__rehearsal=40, improvement__rounds=2)
    first, second = rounds.run().rounds
    assert first.counts["curate"]["rehearsal"] == second.counts["curate"]["rehearsal"] == 1


def test_a_person_refuses_rows_and_a_student_is_restored_while_one_waits(made, folder):
    review = {"improvement__review": ("rows",), "improvement__rounds": 3}
    rounds = improving.rounds(made, folder / "run", training__max_steps=1, **review)
    with pytest.raises(ReviewWaits, match=r"rounds/001/dataset"):
        rounds.run()
    rounds.restore(0)  # the round that waits began with student 1
    shown = []

    def refuse(what):
        shown.append((what["review"], what["round"], what["counts"]["rows"] >= 8))
        return False

    result = rounds.run(on_review=refuse)
    assert shown == [("rows", 2, True)]
    assert [r.decision for r in result.rounds] == ["promoted", "abandoned", "rolled_back"]
    assert result.rounds[2].reviews == {"rows": False} and result.rounds[2].trained is None
    assert len(result.students) == 2 and result.current == 0


def test_a_person_promotes_what_the_rule_would_not(fresh):
    rounds = improving.rounds(
        fresh, training__max_steps=1, improvement__review=("promotion",), training__rank=1
    )
    result = rounds.run(on_review=lambda shown: not shown["promote"])
    (record,) = result.rounds
    assert record.decision == "promoted" and "against the rule" in record.reason
    assert result.current == 1


def test_what_would_fail_later_is_said_before_anything_is_made(fresh, tmp_path):
    for config, says in (
        (improving.settings(fresh, student="openai:gpt-none"), "cannot be trained"),
        (improving.settings(fresh, improvement__held_out=("no.jsonl",)), "no.jsonl"),
        (improving.settings(fresh, improvement__manual_rows=("no.csv",)), "no.csv"),
    ):
        rounds = SelfImprovement(tmp_path / "run", config, documents=improving.WORLD.documents())
        with pytest.raises(UserError, match=says):
            rounds.run()
    with pytest.raises(UserError, match="no documents"):
        SelfImprovement(tmp_path / "run", RunConfig()).run()
    with pytest.raises(UserError, match="must be a RunConfig"):
        SelfImprovement(tmp_path / "run", {"rounds": 2})
    assert not (tmp_path / "run").exists()


def test_without_held_out_questions_one_document_is_not_enough(fresh):
    config = improving.settings(fresh, improvement__held_out=())
    rounds = SelfImprovement(
        fresh / "run",
        config,
        documents=improving.WORLD.documents()[:1],
        teacher=improving.teacher(),
        embedder=improving.ConstantEmbedder(),
        grader=improving.judge,
    )
    with pytest.raises(UserError, match="one document"):
        rounds.run()


def test_the_asynchronous_door_is_the_same(made, folder):
    rounds = improving.rounds(made, folder / "run")
    assert BACKGROUND.run(rounds.arun()) == rounds.result()


def test_without_held_out_questions_some_documents_are_kept_for_the_check(fresh):
    config = improving.settings(
        fresh,
        improvement__held_out=(),
        improvement__check_questions=4,
        practice__questions=3,
        instructions=(),
        training__max_steps=2,
    )
    told = Told()
    rounds = SelfImprovement(
        fresh / "run",
        config,
        documents=data_folder() / "documents",
        teacher=improving.scoring_teacher(),
        embedder=improving.ConstantEmbedder(),
        grader=improving.judge,
    )
    (record,) = rounds.run(watcher=told).rounds
    assert told.stages == [(0, name) for name in STAGES]
    assert "proposed" in record.warnings[0]
    run = fresh / "run"
    check = read_records(run / "check.jsonl", PracticeQuestion)
    practice = read_records(run / "rounds/000/practice.jsonl", PracticeQuestion)
    assert len(practice) == record.counts["practise"]["written"] == 3
    assert all(q.id.startswith("r000-") for q in practice) and 2 <= len(check) <= 4
    kept = {p.document_id for q in check for p in q.passages}
    # Nothing of these documents is seen in training: no question, no context.
    loops = list(RunView.read(run / "rounds/000/loops").trajectories)
    seen = {p.document_id for t in loops for p in t.passages.values()}
    assert kept and seen and not kept & seen
    assert not kept & {p.document_id for q in practice for p in q.passages}
    items = read_records(run / "held_out.jsonl", HeldOutItem)
    assert {p.document_id for item in items for p in item.context} <= kept
    # The proposed answers are not shown to the loops.
    text = (run / "rounds/000/loops/trajectories.jsonl").read_text()
    assert {t.id for t in loops} == {q.id for q in practice}
    assert all(f'"answer":"{q.answer}"' not in text for q in practice)


def test_an_interrupted_training_is_gone_on_with_and_ends_the_same(made, fresh):
    steps = []

    async def interrupted():
        loop = asyncio.get_running_loop()

        class Interrupting(Told):
            def training(self):
                def at(step, count, loss, seconds):
                    if step == 8:
                        loop.call_soon_threadsafe(task.cancel)

                return at

        task = asyncio.create_task(
            improving.rounds(made, fresh / "run").arun(watcher=Interrupting())
        )
        with pytest.raises(asyncio.CancelledError):
            await task

    class Counting(Told):
        def training(self):
            return lambda step, count, loss, seconds: steps.append(step)

    asyncio.run(interrupted())
    rounds = improving.rounds(made, fresh / "run")
    assert rounds.result().rounds == () and rounds.result().current == 0
    assert rounds.run(watcher=Counting()).current == 1
    assert steps[-1] == 25 and steps[0] > 5  # behind a checkpoint, not from the beginning
    undisturbed = improving.rounds(made).students()[1]
    assert rounds.students()[1].sha256 == undisturbed.sha256
