"""Rounds, training and check in the report of a run."""

import json

import pytest
from bs4 import BeautifulSoup
from reports import ATTACK, make_run, some

from reflectory.config import ImprovementConfig, TrainingConfig
from reflectory.evaluation.comparison import compare
from reflectory.evaluation.held_out import HeldOutAnswer, HeldOutQuestion
from reflectory.evaluation.metrics import AnswerScores
from reflectory.evaluation.promotion import decide_promotion
from reflectory.improvement.checking import Evaluation, StudentAnswers
from reflectory.improvement.records import RoundRecord
from reflectory.report.run import page as page_module
from reflectory.report.run import write_report
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


def add_round(run, number: int, text: str, *, failed: bool = False) -> None:
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


@pytest.fixture(autouse=True)
def _no_pictures(request, monkeypatch):
    """Draw nothing, because that takes most of the time, where a test does not look at it."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(page_module, "pictures_of", lambda facts: {})


@pytest.fixture
def drawn() -> bool:
    """Let the pictures be drawn."""
    return True


@pytest.fixture
def run(tmp_path):
    made = make_run(tmp_path / "run")
    add_round(made, 0, "plain")
    return made


def page_of(run) -> BeautifulSoup:
    return BeautifulSoup(write_report(run).path.read_text(encoding="utf-8"), "html.parser")


def test_a_round_says_what_it_did(run, drawn):
    section = page_of(run).find(id="round-0").parent
    text = " ".join(section.get_text().split())
    assert "Round 0: promoted" in text and "because of plain" in text
    figures = section.select_one("table").select("tbody tr")[0]
    assert [cell.get_text() for cell in figures.find_all(["th", "td"])][:4] == [
        "f1",
        "0.375",
        "0.500",
        "+0.125",
    ]
    assert "The loss began at 2.000, ended at 0.600, and was lowest at 0.600." in text
    assert "loss (sft)" in text and "loss (dpo)" in text and "held back" in text
    assert "1 row in the format sft" in text and "train 12 s" in text
    rows = section.select("table.said tbody tr")
    assert [row.find_all("td")[-1].get_text() for row in rows] == [
        "better",
        "better",
        "same",
        "worse",
    ]
    assert rows[0].find_all("td")[1].get_text() == "no answer"


def test_the_loops_of_all_rounds_are_in_one_list(run):
    add_round(run, 1, "second", failed=True)
    page = page_of(run)
    assert len(json.loads(page.find(id="entries").string)) == 6
    about = json.loads(page.find(id="about").string)
    assert about["parts"] == ["round 0", "round 1"]
    assert "mend second" in page.find(id="round-1").parent.get_text()
    assert page.find(id="part") is not None


def test_hostile_rounds_stay_text(run):
    add_round(run, 1, ATTACK, failed=True)
    page = page_of(run)
    assert not page.find_all("img")
    assert sum(tag.get("type") is None for tag in page.find_all("script")) == 1
    assert f"because of {ATTACK}" in page.get_text()


def test_a_damaged_round_is_named_and_the_rest_is_there(run):
    folder = run / "rounds" / "000"
    for name in ("evaluation.json", "adapter/reflectory.json", "dataset/dataset.json"):
        (folder / name).write_text("{")
    (folder / "timing.json").write_text("[1]")
    page = page_of(run)
    warned = page.select_one(".warn").get_text()
    for name in ("evaluation.json", "reflectory.json", "dataset.json"):
        assert name in warned
    assert "because of plain" in page.get_text()


def test_a_round_that_is_not_over(run):
    (run / "rounds" / "000" / "round.json").unlink()
    page = page_of(run)
    assert page.find(id="round-0").get_text(strip=True) == "Round 0"


def test_the_figures_for_machines(run):
    said = write_report(run).summary()
    (made,) = said["rounds"]
    assert made["decision"] == "promoted" and made["rows"] == {"dataset": 1}
    assert made["figures"]["f1"] == [0.375, 0.5] and made["loss"] == 0.6


def test_the_check_of_the_demo(run):
    means = {"count": 1, "missing": 0, "empty": 0, "f1": 0.25}
    said = [{"id": "q1", "before": "no", "after": None}]
    data = {"before": means, "after": {**means, "f1": 0.5}, "answers": said}
    (run / "rounds" / "000" / "evaluation.json").write_text(json.dumps(data))
    section = page_of(run).find(id="round-0").parent
    assert "f10.2500.500+0.250" in section.get_text().replace("\n", "")
    assert "no answer" in section.get_text()
