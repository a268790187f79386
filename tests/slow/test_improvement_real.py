"""One whole round on the default models: questions, loops, rows, an adapter, and a decision."""

import json
import subprocess
import sys

import pytest

from reflectory import ReflectiveLoop, RunConfig, SelfImprovement
from reflectory.demo.story import DEMO_LOOP, data_folder
from reflectory.training import read_dataset
from reflectory.training.rehearsal import is_rehearsal

pytestmark = pytest.mark.slow

REFLECTORY = [sys.executable, "-c", "from reflectory.cli.main import main; main()"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the configuration file and the folder of a round that was made by the verb."""
    folder = tmp_path_factory.mktemp("improve")
    config = RunConfig(
        documents=(str(data_folder() / "documents"),),
        loop=DEMO_LOOP.model_copy(update={"max_iterations": 1}),
        practice={"questions": 6, "attempts": 2},
        candidates={"samples": 2},
        training={"max_steps": 4, "batch_size": 2, "max_length": 640},
        improvement={"rounds": 1, "held_out": (str(data_folder() / "held_out.jsonl"),)},
    )
    (folder / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    command = [*REFLECTORY, "improve", "-c", folder / "run.yaml", "-o", folder / "run", "--json"]
    result = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=1500, check=False
    )
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout)


def test_a_round_comes_to_a_decision_with_figures(run):
    folder, result = run
    (record,) = result["rounds"]
    assert record["decision"] in ("promoted", "rolled_back")
    assert record["counts"]["practise"]["written"] >= 3
    assert record["counts"]["curate"]["rows"] >= 2
    assert record["comparisons"]["f1"]["rows"] == 24
    assert record["comparisons"]["general"]["rows"] == 40
    assert 0.1 < record["comparisons"]["general"]["before"] < 1.0
    assert record["comparisons"]["fluency"]["before"] < 0.0
    assert len(result["students"]) == 2
    rows = read_dataset(folder / "run" / "rounds" / "000" / "dataset").training_rows()
    assert all(row.provenance.round == 0 for row in rows if not is_rehearsal(row))


def test_its_student_answers_in_a_loop_of_its_own(run):
    folder, _ = run
    rounds = SelfImprovement(folder / "run")
    rounds.restore(1)
    with ReflectiveLoop(
        data_folder() / "documents",
        student_adapter=rounds.adapter(),
        config=DEMO_LOOP.model_copy(update={"max_iterations": 1}),
    ) as loop:
        trajectory = loop.run("Where did Semen Semenov sit on his porch?")
    assert trajectory.response
    assert "+adapter@" in trajectory.models["student"]
