"""Cases with known answers: what a grader is calibrated on and measured by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from reflectory.agents.graders.features import sentences_of
from reflectory.agents.graders.names import other_names
from reflectory.agents.graders.protocol import Grader, GradingTask
from reflectory.errors import OutputError
from reflectory.types import Passage

CHANCE = 0.6
"""A separation below this is called no better than chance."""
ECHO, CONSTANT = "echo", "constant"
_TRUTHS = {True: "right", False: "wrong"}
_RUBRIC = "The answer is correct, complete and supported by the documents."


@dataclass(frozen=True)
class GradingCase:
    """One answer to judge, with the truth about it.

    Attributes:
        group: The passages it belongs to; two questions share a set, so that they
            never stand on both sides of a split.
        kind: What sort of answer it is: ``right``, ``right_sentence``, ``same_documents``
            (an answer of the same sort that is wrong here), ``other_name`` (whatever else
            the passages name), ``wrong_sentence``, ``copied`` (a sentence of the passages
            without the answer), ``unsupported``, ``echo`` (the question again),
            ``constant`` (fits every question) or ``said`` (what a small student really
            answered, right where it holds the answer).
        task: What the grader sees.
        right: Whether the answer is right.
    """

    group: str
    kind: str
    task: GradingTask
    right: bool


@dataclass(frozen=True)
class GraderReport:
    """How well a grader tells right from wrong.

    Attributes:
        auc: Area under the ROC curve over all cases; 0.5 is chance.
        auc_by_kind: The same for the right answers against one kind of wrong ones.
        failed: Cases that could not be graded, with the raw output of each.
        graded: Cases that could.
        constant: Whether every score was the same.
    """

    auc: float
    auc_by_kind: dict[str, float]
    failed: tuple[str, ...]
    graded: int
    constant: bool

    @property
    def better_than_chance(self) -> bool:
        """Whether the grader is worth listening to at all."""
        return self.auc >= CHANCE and not self.constant


@cache
def packaged_cases() -> tuple[GradingCase, ...]:
    """Return the cases that ship with reflectory."""
    said = {row["id"]: row for row in _rows("said.jsonl")}
    return tuple(case for row in _rows("cases.jsonl") for case in _expand(row, said[row["id"]]))


def calibration_cases() -> tuple[GradingCase, ...]:
    """Return the cases that a grader is fitted on: from half of the sets of passages.

    Of each set the first question is taken, with all its answers: what a fit lacks most is
    how other names of the same passages look. The other half of the sets stays unseen for
    measuring.
    """
    fitting = _fitting_sets()
    first: dict[str, str] = {}
    for case in packaged_cases():
        first.setdefault(case.group, case.task.question)
    return tuple(
        case
        for case in packaged_cases()
        if case.group in fitting and case.task.question == first[case.group]
    )


def measuring_cases() -> tuple[GradingCase, ...]:
    """Return the cases that no grader was fitted on: the other half of the sets."""
    fitting = _fitting_sets()
    return tuple(case for case in packaged_cases() if case.group not in fitting)


@cache
def _fitting_sets() -> frozenset[str]:
    return frozenset(list(dict.fromkeys(case.group for case in packaged_cases()))[::2])


def _rows(name: str) -> list[dict[str, Any]]:
    text = files("reflectory.agents.graders").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _expand(row: dict[str, Any], said: dict[str, Any]) -> list[GradingCase]:
    """Return the cases of one question, with what a student said to it."""
    group = str(row["id"]).rsplit("-", 1)[0]
    question = str(row["question"])
    passages: Sequence[dict[str, str]] = row["passages"]
    context = tuple(
        Passage(
            id=f"{group}#{n}",
            document_id=f"{group}#{n}",
            title=p["title"],
            text=p["text"],
            start=0,
            end=len(p["text"]),
        )
        for n, p in enumerate(passages)
    )
    right: Sequence[str] = row["right"]
    same: Sequence[str] = row["wrong_same_documents"]
    answers = [
        ("right", right[0], True),
        *(("right_sentence", text, True) for text in right[1:]),
        *(("same_documents", text, False) for text in same),
        ("wrong_sentence", str(row["wrong_sentence"]), False),
        ("unsupported", str(row["unsupported"]), False),
        (ECHO, question, False),
        (CONSTANT, "The answer can be found in the documents.", False),
    ]
    taken = [*right, *same, str(row["unsupported"]), question]
    answers += [("other_name", name, False) for name in other_names(context, taken)]
    answers += [("copied", text, False) for text in _copied(context, right[0])]
    answers += [("said", text, truth) for truth in (True, False) for text in said[_TRUTHS[truth]]]
    return [
        GradingCase(group, kind, GradingTask(question, text, _RUBRIC, context), truth)
        for kind, text, truth in answers
    ]


def _copied(context: Sequence[Passage], answer: str) -> list[str]:
    """Return the first sentence of the passages that does not hold the answer."""
    wanted = answer.lower()
    sentences = (text for passage in context for text in sentences_of(passage.text))
    return [text for text in sentences if wanted not in text.lower()][:1]


async def measure_grader(grader: Grader, cases: Sequence[GradingCase]) -> GraderReport:
    """Grade every case and return how well right and wrong come apart.

    A case that cannot be graded counts as failed and takes no part in the areas.
    """
    from sklearn.metrics import roc_auc_score

    async def score(case: GradingCase) -> float | str:
        try:
            return (await grader.grade(case.task)).score
        except OutputError as error:
            return error.raw

    results = await asyncio.gather(*(score(case) for case in cases))
    graded = [(c, r) for c, r in zip(cases, results, strict=True) if isinstance(r, float)]
    failed = tuple(r for r in results if isinstance(r, str))
    scores = [r for _, r in graded]
    kinds = sorted({c.kind for c, _ in graded if not c.right})

    def area(wrong_kinds: Sequence[str]) -> float:
        chosen = [(c.right, r) for c, r in graded if c.right or c.kind in wrong_kinds]
        truths = {truth for truth, _ in chosen}
        if len(truths) < 2:
            return float("nan")
        return float(roc_auc_score([truth for truth, _ in chosen], [r for _, r in chosen]))

    return GraderReport(
        auc=area(kinds),
        auc_by_kind={kind: area([kind]) for kind in kinds},
        failed=failed,
        graded=len(graded),
        constant=len(scores) > 1 and max(scores) - min(scores) < 1e-9,
    )
