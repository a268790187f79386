"""From a trajectory to what is read of it: every part gets its place, and what it points to."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from reflectory.alignment import AlignmentMatrix
from reflectory.report.reading import words
from reflectory.report.reading.changes import word_changes
from reflectory.report.reading.marks import (
    Source,
    marks_of,
    pieces_of,
    references_in,
    uses_of,
)
from reflectory.report.reading.view import (
    Iteration,
    ReadAddition,
    ReadAnswer,
    ReadCell,
    ReadGrade,
    Reading,
    ReadMatrix,
    ReadPassage,
    ReadResponse,
)
from reflectory.types import Answer, Feedback, Trajectory


def reading_of(trajectory: Trajectory) -> Reading:
    """Return a trajectory as it is read; one that failed has the parts that it got to."""
    return _Reader(trajectory).read()


class _Reader:
    """Gives every part its anchor, and resolves what it points to."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory
        name = trajectory.id.encode("utf-8", "replace")
        self._root = f"t{hashlib.sha256(name).hexdigest()[:12]}"
        self._passages = {name: f"{self._root}-p{n}" for n, name in enumerate(self._order())}
        self._titles = Counter(passage.title for passage in trajectory.passages.values())

    def read(self) -> Reading:
        known = self._trajectory
        responses = [self._response(n) for n in range(len(known.responses))]
        named = {c.iteration for c in known.examinations}
        named |= {r.iteration - 1 for r in known.responses if r.iteration}
        named |= {a.iteration - 1 for a in known.additions}
        by_iteration = {r.response.iteration: r for r in responses}
        alignment = self._alignment()
        deltas = () if alignment is None else alignment.deltas
        changes = {t: float(d) for t, d in enumerate(deltas, start=1) if not math.isnan(d)}
        iterations = [
            Iteration(
                t=t,
                anchor=f"{self._root}-t{t}",
                cells=tuple(self._cells(t)),
                change=changes.get(t),
                additions=tuple(self._additions(t + 1)),
                following=by_iteration.get(t + 1),
            )
            for t in sorted(named)
        ]
        return Reading(
            trajectory=known,
            anchor=self._root,
            first=by_iteration.get(0),
            returned=next((r for r in responses if r.returned), None),
            matrix=_matrix(known.levels, iterations),
            alignment=alignment,
            iterations=tuple(iterations),
            passages=tuple(self._read_passages()),
            signals=tuple((name, words.SIGNALS.get(name, "")) for name in self._signals()),
        )

    def _order(self) -> Iterator[str]:
        """Yield the ids of the passages in the order in which they were read."""
        known = self._trajectory
        contexts = [r.answer.context for r in known.responses]
        contexts += [c.answer.context for c in known.examinations if c.answer is not None]
        order = dict.fromkeys(name for context in contexts for name in context)
        yield from (
            name for name in order | dict.fromkeys(known.passages) if name in known.passages
        )

    def _response(self, n: int) -> ReadResponse:
        known = self._trajectory
        response = known.responses[n]
        before = known.responses[n - 1].text if n else ""
        same = bool(n) and before == response.text
        chosen = words.chosen_draft(response)
        changes = word_changes(before, response.text) if n else []
        return ReadResponse(
            response=response,
            said=self._answer(f"{self._root}-r{n}", response.answer, response.grade),
            changes=tuple(changes),
            same=same,
            origin=words.origin_words(response),
            drafts=tuple((draft, draft is chosen) for draft in response.drafts),
            returned=n == known.chosen,
        )

    def _cells(self, t: int) -> Iterator[ReadCell]:
        known = self._trajectory
        rank = {level: j for j, level in enumerate(known.levels)}
        found = [(n, c) for n, c in enumerate(known.examinations) if c.iteration == t]
        for n, cell in sorted(found, key=lambda pair: rank.get(pair[1].level, len(rank))):
            anchor = f"{self._root}-c{n}"
            shared = {
                name for r in known.responses if r.iteration == t for name in r.answer.context
            }
            yield ReadCell(
                cell=cell,
                anchor=anchor,
                said=None
                if cell.answer is None
                else self._answer(f"{anchor}-a", cell.answer, cell.feedback, shared),
            )

    def _answer(
        self,
        anchor: str,
        answer: Answer,
        grade: Feedback | None,
        shared: set[str] | None = None,
    ) -> ReadAnswer:
        cited = set(answer.cited)
        sources = [
            self._source(name, number, name in cited, shared is not None and name not in shared)
            for number, name in enumerate(answer.context, start=1)
        ]
        return ReadAnswer(
            anchor=anchor,
            answer=answer,
            pieces=pieces_of(answer, sources),
            sources=tuple(sources),
            grade=None if grade is None else _grade(grade, sources),
        )

    def _source(
        self, name: str, number: int = 0, cited: bool = False, extra: bool = False
    ) -> Source:
        return Source(number, name, self._title(name), self._passages.get(name, ""), cited, extra)

    def _title(self, name: str) -> str:
        """Return what a passage is called, with its id where others are called the same."""
        passage = self._trajectory.passages.get(name)
        if passage is None or not passage.title:
            return name
        alone = self._titles[passage.title] == 1
        return passage.title if alone else f"{passage.title} ({name})"

    def _additions(self, iteration: int) -> Iterator[ReadAddition]:
        for added in self._trajectory.additions:
            if added.iteration == iteration:
                path = tuple(
                    (step, self._title(step.name) if step.kind == "passage" else step.name)
                    for step in added.path
                )
                yield ReadAddition(added, self._source(added.passage), path)

    def _alignment(self) -> AlignmentMatrix | None:
        known = self._trajectory
        cells, levels = known.examinations, set(known.levels)
        if not cells or any(c.level not in levels or c.iteration >= len(cells) for c in cells):
            return None  # not from a loop: each iteration of one has a cell, or several
        return known.alignment

    def _signals(self) -> Iterable[str]:
        known = self._trajectory
        grades = [r.grade for r in known.responses] + [c.feedback for c in known.examinations]
        return dict.fromkeys(name for g in grades if g is not None for name in g.signals)

    def _read_passages(self) -> Iterator[ReadPassage]:
        known = self._trajectory
        answers = [
            (words.response_name(r.iteration), f"{self._root}-r{n}", r.answer)
            for n, r in enumerate(known.responses)
        ]
        answers += [
            (f"{c.level}, t = {c.iteration}", f"{self._root}-c{n}-a", c.answer)
            for n, c in enumerate(known.examinations)
            if c.answer is not None
        ]
        uses = uses_of(answers)
        returned = f"{self._root}-r{known.chosen}"
        for name, anchor in self._passages.items():
            passage = known.passages[name]
            marks = marks_of(passage.text, uses.get(name, ()))
            page = "" if passage.page is None else f"page {passage.page}"
            told = {passage.title, name.rpartition("#")[0]}
            source = "" if passage.source in told else passage.source
            origin = [name if passage.title else "", source, page, passage.licence]
            yield ReadPassage(
                id=name,
                anchor=anchor,
                title=passage.title or name,
                origin=", ".join(part for part in origin if part),
                marks=marks,
                evidence=any(mark.users for mark in marks),
                returned=any(anchor == returned for mark in marks for _, anchor in mark.users),
            )


def _matrix(levels: Sequence[str], iterations: Sequence[Iteration]) -> ReadMatrix:
    examined = [i for i in iterations if i.cells]
    cells = {(c.cell.level, i.t): c for i in examined for c in i.cells}
    names = dict.fromkeys([*levels, *(level for level, _ in cells)])
    columns = tuple(i.t for i in examined)
    return ReadMatrix(
        columns, tuple((name, tuple(cells.get((name, t)) for t in columns)) for name in names)
    )


def _grade(feedback: Feedback, sources: Sequence[Source]) -> ReadGrade:
    return ReadGrade(
        feedback=feedback,
        reason=references_in(feedback.reason, sources),
        signals=tuple(feedback.signals.items()),
    )
