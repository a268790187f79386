"""Rows and pairs for ``bench/training.py``, made from the demo's documents.

Prompts hold passages as a student's prompts do, and are ten times as long as the
completions. The same seed gives the same rows on every machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from reflectory.demo.story import data_folder
from reflectory.training import Message, PreferenceRow, Provenance, TrainingRow
from reflectory.training.rows import assistant

_SYSTEM = "You answer questions from the passages that you are given, in one short sentence."
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_MARKUP = re.compile(r"<[^>]+>|^#+ .*$", re.MULTILINE)
_SHORTEST, _LONGEST = 6, 24


def passages_of(folder: Path) -> list[list[str]]:
    """Return the paragraphs of every document, each as its sentences."""
    paragraphs = []
    for file in sorted(folder.iterdir()):
        text = _MARKUP.sub("", file.read_text(encoding="utf-8"))
        for paragraph in re.split(r"\n\s*\n", text):
            sentences = _SENTENCE.split(" ".join(paragraph.split()))
            if len(sentences) > 1:
                paragraphs.append(sentences)
    return paragraphs


def make_rows(count: int, seed: int = 0) -> list[TrainingRow]:
    """Return rows for supervised training: passages, a question, one sentence of them."""
    return [
        TrainingRow(
            prompt=prompt,
            completion=assistant(chosen),
            provenance=Provenance(trajectory=f"t{i}", what="answer", grader="rule", score=1.0),
        )
        for i, (prompt, chosen, _) in enumerate(_examples(count, seed))
    ]


def make_pairs(count: int, seed: int = 0) -> list[PreferenceRow]:
    """Return pairs: the sentence that was asked for, before one of another passage."""
    return [
        PreferenceRow(
            prompt=prompt,
            chosen=assistant(chosen),
            rejected=assistant(rejected),
            margin=0.5,
            provenance=Provenance(
                trajectory=f"t{i}", what="answer", grader="rule", score=1.0, baseline=0.5
            ),
        )
        for i, (prompt, chosen, rejected) in enumerate(_examples(count, seed))
    ]


def _examples(count: int, seed: int) -> list[tuple[tuple[Message, Message], str, str]]:
    """Return prompt, right and wrong completion; prompts have 180 to 400 words."""
    draw, found = random.Random(seed), []
    paragraphs = passages_of(data_folder() / "documents")
    while len(found) < count:
        words, chosen = draw.randint(180, 400), list[Sequence[str]]()
        for paragraph in draw.sample(paragraphs, len(paragraphs)):
            if sum(len(s.split()) for p in chosen for s in p) >= words:
                break
            chosen.append(paragraph)
        if len(chosen) < 2:
            continue
        right, wrong = draw.sample(chosen, 2)
        answer, other = (
            [s for s in paragraph if _SHORTEST <= len(s.split()) <= _LONGEST]
            for paragraph in (right, wrong)
        )
        if not answer or not other:
            continue
        said = draw.choice(answer)
        passages = "\n".join(f"[{i}] {' '.join(p)}" for i, p in enumerate(chosen, start=1))
        subject = " ".join(said.split()[:4])
        question = f"Which sentence begins with '{subject}'?"
        user = f"{passages}\n\nQuestion: {question}"
        prompt = (Message(role="system", content=_SYSTEM), Message(role="user", content=user))
        found.append((prompt, said, draw.choice(other)))
    return found
