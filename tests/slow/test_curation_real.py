"""Steps of curation that need a model, with the real default models."""

import asyncio
from pathlib import Path

import pytest

from reflectory.models.local import LocalModel
from reflectory.models.protocol import Embedder
from reflectory.training.curation.difficulty import Difficulty, difficulty_of
from reflectory.training.curation.duplicates import EmbeddingDuplicates
from reflectory.training.rows import Message, Provenance, TrainingRow, assistant

pytestmark = pytest.mark.slow

DOCUMENT = (
    "The crater Korolev lies near the north pole of Mars. Mars Express photographed it in 2018. "
    "It is 82 kilometres wide and filled with water ice that is about two kilometres thick."
)


def row(question: str, text: str, *, score: float = 0.8) -> TrainingRow:
    prompt = (Message(role="user", content=f"{DOCUMENT}\n\n{question}"),)
    provenance = Provenance(question=question, score=score, passages=("mars#0",))
    return TrainingRow(prompt=prompt, completion=assistant(text), provenance=provenance)


def test_what_stands_in_the_documents_is_easier_to_follow_than_what_does_not(language_model: Path):
    questions = {
        "How wide is the crater?": "It is 82 kilometres wide.",
        "Which mission photographed it?": "Mars Express photographed it.",
        "What fills the crater?": "It is filled with water ice.",
    }
    right = [row(question, answer) for question, answer in questions.items()]
    wrong = row("How wide is the crater?", "Penguins lay one egg, which both parents keep warm.")

    async def measured():
        student = LocalModel.load(language_model, device="cpu", dtype="float32")
        try:
            values = [await difficulty_of(r, student) for r in (*right, wrong)]
            outcome = await Difficulty(student).apply((*right, wrong))
            narrow = await Difficulty(student, 0.0, max(values[:-1]) + 0.01).apply((*right, wrong))
            return values, outcome, narrow
        finally:
            await student.aclose()

    values, outcome, narrow = asyncio.run(measured())
    assert max(values[:-1]) < 0.5 < values[-1]
    assert right == list(outcome.kept)[:3]
    assert narrow.kept == tuple(right)


def test_meaning_finds_a_paraphrase_that_words_do_not(embedder: Embedder):
    rows = [
        row("How wide is the crater Korolev?", "It is 82 kilometres wide.", score=0.6),
        row("What is the width of the Korolev crater?", "Its width is 82 kilometres.", score=0.9),
        row("Which mission photographed the crater?", "Mars Express, in 2018.", score=0.5),
    ]
    outcome = asyncio.run(EmbeddingDuplicates(embedder, 0.9).apply(rows))
    assert outcome.kept == tuple(rows[1:])
