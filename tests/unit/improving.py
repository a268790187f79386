"""Rounds of a tiny student that can learn one word, for the tests and for those that are killed.

The student is a real transformer with random weights, its rows say that the answer is
"blue", and so do the held-out questions: a round that trains well is promoted.
"""

import json
from pathlib import Path

from reflectory import RunConfig, SelfImprovement
from reflectory.evaluation import general
from reflectory.improvement import RoundWatcher
from reflectory.models.protocol import Capability
from reflectory.testing.models import ScriptedModel
from reflectory.testing.tiny import save_tiny_model
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = ("What is known?", "What is unknown?", "What follows from it?")
COLOURS = ("the sky", "the sea", "ice", "a whale", "ink", "a berry", "denim", "the flag")


def few_general_instructions() -> None:
    """Leave four of the general instructions; a tiny model never ends by itself."""
    few = general.general_instructions()[:4]
    general.general_instructions = lambda: few
    general.ANSWER_TOKENS = 4


def prepare(folder: Path) -> None:
    """Put a student, rows and held-out questions into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny_model(folder / "student", context_window=4096)
    rows = [{"question": f"Which colour has {what}?", "answer": "blue"} for what in COLOURS]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    held = [{"question": f"What colour is {what}, really?", "answer": "blue"} for what in COLOURS]
    text = "".join(json.dumps(row) + "\n" for row in held)
    (folder / "held_out.jsonl").write_text(text, encoding="utf-8")


def settings(folder: Path, **changes) -> RunConfig:
    """Return a configuration; keyword arguments replace single fields (``improvement__rounds``)."""
    data = {
        "student": f"local:{folder / 'student'}",
        "device": "cpu",
        "dtype": "float32",
        "instructions": ASKED,
        "loop": WORLD.config(
            max_iterations=1,
            sampling={"answer_tokens": 6, "response_tokens": 6, "question_tokens": 8},
            retrieval={"layers": ("dense", "lexical")},
        ),
        "practice": {"questions": 0},
        "candidates": {"samples": 1},
        "training": {
            "max_steps": 25,
            "max_length": 512,
            "rank": 8,
            "learning_rate": 0.02,
            "checkpoint_steps": 5,
        },
        "improvement": {
            "rounds": 1,
            "held_out": (str(folder / "held_out.jsonl"),),
            "manual_rows": (str(folder / "rows.jsonl"),),
            "resamples": 200,
            "maximum_forgetting": 1.0,
            "rehearsal": 0,
        },
    }
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            data[part][field] = value
        else:
            data[part] = value
    return RunConfig.from_dict(data)


def teacher() -> ScriptedModel:
    """Return a teacher that asks another question every time."""
    return ScriptedModel(lambda r: f"What is asked in case {r.seed} about facts?", name="teacher")


def scoring_teacher() -> ScriptedModel:
    """Return a teacher that also says how likely texts are: the shorter, the likelier."""
    return ScriptedModel(
        lambda r: f"What is asked in case {r.seed} about facts?",
        name="scoring-teacher",
        capabilities=frozenset({Capability.SCORE}),
        score=lambda request, text: -0.01 * len(text),
    )


def judge(task) -> float:
    """Grade the student's random words: nothing is good enough to be learnt."""
    return 0.1 + 0.2 * (len(task.answer) % 2)


def rounds(folder: Path, output: Path | None = None, **changes) -> SelfImprovement:
    """Return rounds over what :func:`prepare` made."""
    return SelfImprovement(
        output or folder / "run",
        settings(folder, **changes),
        documents=WORLD.documents(),
        teacher=teacher(),
        embedder=ConstantEmbedder(),
        grader=judge,
    )


class Told(RoundWatcher):
    """Remembers which stages had work to do, and what became of the rounds."""

    def __init__(self) -> None:
        self.stages: list[tuple[int, str]] = []
        self.decisions: list[str] = []

    def stage(self, number, name, text):
        self.stages.append((number, name))

    def round_done(self, record):
        self.decisions.append(record.decision)
