"""The held-out check: questions with references, answered before and after training.

The references are looked at only after an answer is written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
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
from reflectory.types import Document, Passage, Record


class HeldOutQuestion(Record):
    """A question whose answer is known.

    Attributes:
        id: Unique in its set.
        question: What the student is asked.
        references: Right answers, of which any counts.
        documents: What it is answered from, where the set says so for each question.
    """

    id: str
    question: str
    references: tuple[str, ...]
    documents: tuple[Document, ...] = ()


class HeldOutItem(Record):
    """A question with the context that every student answers it from.

    Attributes:
        id: Of the question.
        question: What the student is asked.
        references: Right answers, of which any counts.
        context: The passages, in order.
    """

    id: str
    question: str
    references: tuple[str, ...]
    context: tuple[Passage, ...]


class HeldOutAnswer(Record):
    """What the student said to a held-out question.

    Attributes:
        id: Of the question.
        text: The answer; ``None`` when there is none.
        scores: Of the answer against the references; ``None`` when there is none.
        groundedness: Share of its statements that a passage supports, in [0, 1]; ``None``
            when nothing was stated.
        failure: Why there is no answer.
    """

    id: str
    text: str | None
    scores: AnswerScores | None
    groundedness: float | None = None
    failure: str = ""

    @property
    def f1(self) -> float:
        """Token F1; 0 without an answer."""
        return 0.0 if self.scores is None else self.scores.f1

    @property
    def exact_match(self) -> float:
        """1 for an exact match; 0 without an answer."""
        return 0.0 if self.scores is None else float(self.scores.exact_match)

    @property
    def contains(self) -> float:
        """1 where a reference occurs in the answer; 0 without an answer."""
        return 0.0 if self.scores is None else float(self.scores.contains)

    @property
    def words(self) -> float:
        """Length in words; 0 without an answer."""
        return 0.0 if self.scores is None else float(self.scores.words)


def read_held_out(path: str | Path) -> list[HeldOutQuestion]:
    """Read questions from JSON Lines.

    Each line has ``question`` and ``answer``, and may have ``id``, ``aliases`` (further
    right answers) and ``documents``: a list of ``{"title": ..., "text": ...}`` that the
    question is answered from.

    Raises:
        UserError: The file cannot be read, an id repeats, or a line has no question or answer.
    """
    file = Path(path)
    try:
        # Not splitlines(): it breaks at separators that JSON leaves inside a text.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}", hint="pass a JSON Lines file") from error
    questions: list[HeldOutQuestion] = []
    places: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        question = _question(line, number, file)
        if question.id in places:
            raise UserError(
                f"{file}, line {number}: the id {question.id!r} was used in line "
                f"{places[question.id]}",
                hint="give every question an id of its own, or none",
            )
        places[question.id] = number
        questions.append(question)
    if not questions:
        raise UserError(f"{file} holds no questions", hint="one JSON object per line")
    return questions


def _question(line: str, number: int, file: Path) -> HeldOutQuestion:
    try:
        row: dict[str, Any] = json.loads(line)
        references = (row["answer"], *row.get("aliases", ()))
        if not all(isinstance(r, str) and r.strip() for r in references):
            raise ValueError("an answer is a text that is not empty")
        if not str(row["question"]).strip():
            raise ValueError("the question is empty")
        given = str(row.get("id", number))
        return HeldOutQuestion(
            id=given,
            question=row["question"],
            references=references,
            documents=tuple(
                Document(id=f"{given}-{place}", title=entry.get("title") or "", text=entry["text"])
                for place, entry in enumerate(row.get("documents") or (), start=1)
                if not isinstance(entry, str)  # the name of one of the run's documents
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise UserError(
            f"{file}, line {number}: not a question with an answer ({error!r})",
            hint='each line is {"question": "...", "answer": "..."}',
        ) from error


async def find_contexts(
    questions: Sequence[HeldOutQuestion],
    retriever: Retriever | None,
    budget: RetrievalConfig,
    count_tokens: Callable[[str], int],
    *,
    own: Callable[[Sequence[Document]], Retriever] | None = None,
) -> list[HeldOutItem]:
    """Retrieve the context of each question, once for all students.

    Args:
        questions: What will be asked.
        retriever: Where the context of questions without documents of their own comes
            from; ``None`` when every question has some.
        budget: How much context.
        count_tokens: Counts the tokens of a text.
        own: Makes the retriever over a question's own documents.

    Raises:
        UserError: A question has documents and there is no ``own``, or it has none and
            there is no ``retriever``.
    """

    async def one(item: HeldOutQuestion) -> HeldOutItem:
        source = own(item.documents) if item.documents and own is not None else retriever
        if source is None:
            raise UserError(
                f"the held-out question {item.id} has nothing to be answered from",
                hint="give its line `documents`, or set improvement.held_out_documents",
            )
        found = await source.retrieve(
            item.question, per_document=budget.per_document, limit=2 * budget.passages
        )
        context = aggregate(
            found,
            limit=budget.passages,
            token_budget=budget.context_tokens,
            count_tokens=count_tokens,
        )
        return HeldOutItem(
            id=item.id,
            question=item.question,
            references=item.references,
            context=tuple(context),
        )

    return list(await asyncio.gather(*(one(q) for q in questions)))


async def answer_items(items: Sequence[HeldOutItem], student: Student) -> list[HeldOutAnswer]:
    """Let a student answer each question once, from its context.

    Args:
        items: Questions with their contexts and references.
        student: Who answers.

    Returns:
        One scored answer per question, in order.
    """

    async def one(item: HeldOutItem) -> HeldOutAnswer:
        try:
            answer = await student.answer(item.question, item.context, ())
        except OutputError as error:
            return HeldOutAnswer(id=item.id, text=None, scores=None, failure=error.message)
        return HeldOutAnswer(
            id=item.id,
            text=answer.text,
            scores=score_answer(answer.text, item.references),
            groundedness=answer.groundedness,
        )

    return list(await asyncio.gather(*(one(item) for item in items)))


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
    items = await find_contexts(questions, retriever, budget, model.count_tokens)
    return await answer_items(items, student)
