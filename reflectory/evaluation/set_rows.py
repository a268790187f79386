"""What a row of a question set may look like, and the record that it becomes.

Known are the fields of this project (``question``, ``answer``, ``aliases``,
``documents``), of HotpotQA (``_id``, and ``context`` as pairs of a title and sentences or as
two lists), of SciQ (``correct_answer``, ``support``), of SQuAD (``answers``) and of IFEval
(``key``, ``prompt``, ``instruction_id_list``, ``kwargs``), whose prompts need no reference:
what they demand is verified by rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from reflectory.errors import UserError
from reflectory.evaluation.held_out import HeldOutItem, HeldOutQuestion
from reflectory.evaluation.metrics.instructions import Instruction, instructions_of
from reflectory.types import Document

Shape = Literal["auto", "questions", "ifeval"]
"""What rows are read as: by their fields, by references alone, or all as IFEval's."""

_QUESTION = ("question", "instruction")
_CONSTRAINED = ("prompt", *_QUESTION)
_CONSTRAINTS = "instruction_id_list"
_ANSWERS = ("answer", "answers", "correct_answer", "reference", "references")
_PARAGRAPH = ("document", "support")


class EvaluationQuestion(HeldOutQuestion):
    """A question whose answer is known or can be verified, in a domain where the set says so.

    Attributes:
        domain: What it is about; empty when the set does not say.
        constraints: What rules can verify of an answer. Where there are any, there need be
            no references.
    """

    domain: str = ""
    constraints: tuple[Instruction, ...] = ()


class EvaluationItem(HeldOutItem):
    """A question with its context, as it is kept for the pages.

    Attributes:
        constraints: What rules can verify of an answer.
    """

    constraints: tuple[Instruction, ...] = ()


def question_of(
    row: Any, place: str, number: int, *, prefix: str = "", shape: Shape = "auto"
) -> tuple[EvaluationQuestion, Document | None]:
    """Return the question of a row, and the paragraph that it adds to the common pool.

    Args:
        row: An object of JSON, a row of a data set, or the record itself.
        place: Where it stands, for messages.
        number: Its number, from 1; its id when it has none.
        prefix: Put before the id, where several files are read.
        shape: ``auto`` goes by the fields of the row; ``ifeval`` refuses a row without
            verifiable constraints, and ``questions`` does not look at them.

    Raises:
        UserError: It is no question with an answer or with constraints.
    """
    if isinstance(row, HeldOutQuestion):
        return _known(row, place, prefix), None
    try:
        if not isinstance(row, Mapping):
            raise ValueError("it is no object")
        constraints = _constraints(row, shape)
        ids = ("id", "_id", "key") if constraints else ("id", "_id")
        given = next((row[name] for name in ids if row.get(name) is not None), number)
        own = f"{prefix}{given}"
        names = _CONSTRAINED if constraints else _QUESTION
        text = next((row[name] for name in names if row.get(name) is not None), None)
        if not isinstance(text, str) or not text.strip():
            raise ValueError("there is no question")
        documents, paragraph = tuple(_documents(row, own)), _paragraph(row, own)
        if constraints and paragraph is not None and not documents:
            # What a prompt is about ("summarise the text") belongs to no other question.
            documents, paragraph = (paragraph,), None
        question = EvaluationQuestion(
            id=own,
            question=text.strip(),
            references=_references(row, needed=not constraints),
            documents=documents,
            domain=str(row.get("domain") or ""),
            constraints=constraints,
        )
        return question, paragraph
    except UserError as error:  # of a constraint
        raise UserError(f"{place}: {error.message}", hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        said = error if isinstance(error, ValueError) else repr(error)
        raise UserError(
            f"{place}: not a question with an answer ({said})",
            hint='a row is like {"question": "...", "answer": "..."}; see docs/evaluation.md',
        ) from error


def _known(row: HeldOutQuestion, place: str, prefix: str) -> EvaluationQuestion:
    """Return a record as one of this module, with its id among those of several files."""
    names = [name for name in EvaluationQuestion.model_fields if hasattr(row, name)]
    known = {name: getattr(row, name) for name in names}
    if not row.references and not known.get("constraints"):
        raise UserError(
            f"{place}: the question {row.id} has no reference and no constraint", hint="give one"
        )
    return EvaluationQuestion(**{**known, "id": f"{prefix}{row.id}"})


def _constraints(row: Mapping[str, Any], shape: Shape) -> tuple[Instruction, ...]:
    """Return what rules can verify of an answer to a row; nothing where there is nothing."""
    if shape == "questions":
        return ()
    if row.get(_CONSTRAINTS) is None:
        if shape == "ifeval":
            raise ValueError(f"there is no field {_CONSTRAINTS}")
        return ()
    found = instructions_of(row)
    if not found:
        raise ValueError(f"{_CONSTRAINTS} is empty")
    return found


def _references(row: Mapping[str, Any], *, needed: bool) -> tuple[str, ...]:
    name = next((name for name in _ANSWERS if row.get(name) is not None), None)
    if name is None:
        if not needed:
            return ()
        raise ValueError(f"there is none of the fields {', '.join(_ANSWERS)}")
    found = row[name]
    if isinstance(found, Mapping):  # SQuAD: {"text": [...], "answer_start": [...]}
        found = found["text"]
    listed = [found] if isinstance(found, str) else list(found)
    listed += list(row.get("aliases") or ())
    if not listed or not all(isinstance(text, str) and text.strip() for text in listed):
        raise ValueError("an answer is a text that is not empty")
    return tuple(dict.fromkeys(text.strip() for text in listed))


def _documents(row: Mapping[str, Any], own: str) -> Iterator[Document]:
    """Yield the documents of a row, also of HotpotQA's two ways to write them."""
    entries = [e for e in row.get("documents") or () if not isinstance(e, str)]
    pairs: list[tuple[Any, Any]] = [(e.get("title") or "", e["text"]) for e in entries]
    context = row.get("context")
    if isinstance(context, Mapping):
        pairs += zip(context["title"], context["sentences"], strict=True)
    elif isinstance(context, Sequence) and not isinstance(context, str):
        pairs += [(title, sentences) for title, sentences in context]
    for place, (title, text) in enumerate(pairs, start=1):
        joined = text if isinstance(text, str) else "".join(text)
        yield Document(id=f"{own}-{place}", title=str(title), text=joined.strip())


def _paragraph(row: Mapping[str, Any], own: str) -> Document | None:
    """Return the one paragraph that a row of SciQ or SQuAD comes with."""
    candidates = [row.get(name) for name in _PARAGRAPH]
    if isinstance(row.get("context"), str):
        candidates.append(row["context"])
    text = next((c for c in candidates if isinstance(c, str) and c.strip()), None)
    return None if text is None else Document(id=own, title=str(row.get("title") or ""), text=text)
