"""The held-out check: questions with references, answered before and after training.

The references are looked at only after an answer is written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reflectory.agents.student import Student
from reflectory.config import RetrievalConfig
from reflectory.errors import OutputError, UserError
from reflectory.evaluation.metrics import AnswerScores, score_answer
from reflectory.models.protocol import Model
from reflectory.retrieval.context import aggregate
from reflectory.retrieval.retriever import Retriever
from reflectory.types import Record


class HeldOutQuestion(Record):
    """A question whose answer is known.

    Attributes:
        id: Unique in its set.
        question: What the student is asked.
        references: Right answers, of which any counts.
    """

    id: str
    question: str
    references: tuple[str, ...]


class HeldOutAnswer(Record):
    """What the student said to a held-out question.

    Attributes:
        id: Of the question.
        text: The answer; ``None`` when there is none.
        scores: Of the answer against the references; ``None`` when there is none.
        failure: Why there is no answer.
    """

    id: str
    text: str | None
    scores: AnswerScores | None
    failure: str = ""


def read_held_out(path: str | Path) -> list[HeldOutQuestion]:
    """Read questions from JSON Lines: ``question``, ``answer``, optional ``id`` and ``aliases``.

    Raises:
        UserError: The file cannot be read, or a line has no question or answer.
    """
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}", hint="pass a JSON Lines file") from error
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            references = (row["answer"], *row.get("aliases", ()))
            questions.append(
                HeldOutQuestion(
                    id=str(row.get("id", number)), question=row["question"], references=references
                )
            )
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise UserError(
                f"{file}, line {number}: not a question with an answer ({error!r})",
                hint='each line is {"question": "...", "answer": "..."}',
            ) from error
    if not questions:
        raise UserError(f"{file} holds no questions", hint="one JSON object per line")
    return questions


async def answer_held_out(
    questions: Sequence[HeldOutQuestion],
    student: Student,
    model: Model,
    retriever: Retriever,
    budget: RetrievalConfig,
) -> list[HeldOutAnswer]:
    """Let a student answer each question once, from what is retrieved for it.

    Args:
        questions: What to ask; all at the same time.
        student: Who answers, as R_0 is answered.
        model: Its model, for counting tokens.
        retriever: Where the context comes from.
        budget: How much context.

    Returns:
        One scored answer per question, in order.
    """

    async def one(item: HeldOutQuestion) -> HeldOutAnswer:
        found = await retriever.retrieve(
            item.question, per_document=budget.per_document, limit=2 * budget.passages
        )
        context = aggregate(
            found,
            limit=budget.passages,
            token_budget=budget.context_tokens,
            count_tokens=model.count_tokens,
        )
        try:
            text = (await student.answer(item.question, context, ())).text
        except OutputError as error:
            return HeldOutAnswer(id=item.id, text=None, scores=None, failure=error.message)
        return HeldOutAnswer(id=item.id, text=text, scores=score_answer(text, item.references))

    return list(await asyncio.gather(*(one(q) for q in questions)))
