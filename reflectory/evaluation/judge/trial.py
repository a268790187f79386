"""The trial: every answer is judged, some of them again, and the report says what came out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reflectory.agents.graders import Grader, GradingTask
from reflectory.agents.teacher import RESPONSE_RUBRIC
from reflectory.agents.verification import Verifier
from reflectory.errors import OutputError, UserError
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.judge import cases as kinds
from reflectory.evaluation.judge.agreement import agreement_of
from reflectory.evaluation.judge.areas import Floats, draws_of, separate
from reflectory.evaluation.judge.biases import (
    Collapse,
    balanced,
    calibration_of,
    collapse_of,
    length_of,
    padding_of,
)
from reflectory.evaluation.judge.cases import TrialCase, make_cases
from reflectory.evaluation.judge.concurrency import bounded
from reflectory.evaluation.judge.noise import MatrixFacts, changes, deviation, recommend
from reflectory.evaluation.judge.position import Pair, PositionReport, position_of
from reflectory.evaluation.judge.records import (
    CalibrationBin,
    GradedAnswer,
    JudgedCase,
    JudgeReport,
    Separation,
)
from reflectory.evaluation.judge.verdicts import verdicts_on
from reflectory.evaluation.metrics.preference import PairJudge
from reflectory.types import Passage

FEW_QUESTIONS = 20
"""Below this the intervals know too few different questions to be believed."""
ASKED_AGAIN = 60
"""Answers of the trial that are judged more than once."""
SEEDS = 2
"""Further seeds that a judge that draws is asked with."""

Key = tuple[int, str]
"""Place of a question and text of an answer: what a judgement is about."""


async def try_judge(
    grader: Grader,
    items: Sequence[HeldOutItem],
    *,
    seed: int = 0,
    wrong_per_kind: int = 4,
    known_right: Mapping[str, Sequence[str]] | None = None,
    again: Callable[[int], Grader] | None = None,
    graded: Sequence[GradedAnswer] = (),
    pairwise: PairJudge | None = None,
    matrix: MatrixFacts | None = None,
    rubric: str = RESPONSE_RUBRIC,
    verifier: Verifier | None = None,
    confidence: float = 0.95,
    concurrency: int = 64,
    left_out: int = 0,
) -> JudgeReport:
    """Measure a judge on answers of which it is known whether they are right.

    The judge sees what it sees in the loop, and no reference. An answer that it cannot judge
    is counted and is no score. Where no question has a reference, right and wrong answers
    cannot be made: what needs them is skipped, the notes say so, and the judge is asked
    again about ``graded`` answers.

    Args:
        grader: The judge.
        items: Questions with references and documents; or all without references.
        seed: Of the cases and of the intervals.
        wrong_per_kind: Most wrong answers of a kind per question.
        known_right: Texts that are known to be right besides the references, by question.
        again: Makes the same judge with another seed n = 1, 2; ``None`` for a judge that
            draws nothing, which is checked by asking it twice.
        graded: Answers that students gave, with the judge's grade and reference metrics.
        pairwise: A judge of pairs, to be shown right and wrong answers in both orders.
        matrix: What is known of the matrices that epsilon is for.
        rubric: What the judge is told that a good answer has.
        verifier: Finds the statements that no passage supports, where the loop has one.
        confidence: Of all intervals, in (0, 1).
        concurrency: Most judgements at a time.
        left_out: Questions that are not among ``items``, without references or judged by other
            prompts, for the notes.

    Raises:
        UserError: There are no questions, an id repeats, or a number is out of its range.
        BackendError: The judge's model failed.
    """
    if not 0.0 < confidence < 1.0:
        raise UserError(f"a confidence of {confidence} is none", hint="give one between 0 and 1")
    compared = any(item.references for item in items)
    made = (
        make_cases(items, seed=seed, wrong_per_kind=wrong_per_kind, known_right=known_right)
        if compared or not items  # the error about no questions is make_cases's
        else []
    )
    bench = _Bench(items, rubric, verifier, concurrency)
    keys = list(dict.fromkeys((case.item, case.text) for case in made))
    if not compared:
        keys = _sample(_answered(items, graded), seed)
    scores = dict(zip(keys, await bench.judge(grader, keys), strict=True))
    sample = _sample([key for key in keys if scores[key] is not None], seed)
    # The other way round, so that no judgement shares a batch with the same ones as before.
    twice = (await bench.judge(grader, sample[::-1]))[::-1]
    others = [await bench.judge(again(n), sample) for n in range(1, SEEDS + 1)] if again else []
    first = [scores[key] for key in sample]
    repeated = _readable(zip(first, twice, strict=True))
    drawn = _readable(zip(first, *others, strict=True)) if again else repeated

    judged = [_judged(case, items, scores[(case.item, case.text)]) for case in made]
    versions = _pairs(made, scores)
    worded = versions[kinds.WORDING]
    padding = padding_of(versions[kinds.PADDED])
    padding_wrong = padding_of(versions[kinds.PADDED_WRONG])
    position = None
    if pairwise is not None:
        position = await position_of(pairwise, _to_show(made, items), concurrency=concurrency)
    plain = [(c, s) for c, j in zip(made, judged, strict=True) if (s := j.score) is not None]
    plain = [(case, score) for case, score in plain if case.of is None]
    values = np.array([score for _, score in plain], dtype=np.float64)
    right = np.array([case.right for case, _ in plain], dtype=bool)
    collapse = collapse_of(values, right) if compared else _collapse(graded)
    bins, error, basis = _calibration(values, right, graded)
    noise = deviation(drawn)
    advice = recommend(changes(drawn), changes(worded), matrix or MatrixFacts(), seed=seed)
    separations = _separations(plain, len(items), seed, confidence)
    report = JudgeReport(
        grader=grader.fingerprint,
        questions=len(items),
        separations=separations,
        headline=separations[0].kind if separations else "",
        judgements=bench.asked,
        unreadable=bench.unreadable,
        bins=bins,
        calibration_error=error,
        calibrated_on=basis,
        noise=noise,
        repeat_noise=deviation(repeated),
        wording_noise=deviation(worded),
        distinct=collapse.distinct,
        most_common=collapse.most_common,
        common_score=collapse.score,
        collapsed=collapse.collapsed,
        length=length_of(judged, confidence=confidence, seed=seed),
        padding=None if padding is None else padding.mean,
        padding_wrong=None if padding_wrong is None else padding_wrong.mean,
        position=None if position is None else position.changed,
        position_first=None if position is None else position.first,
        agreement=agreement_of(graded, confidence=confidence, seed=seed),
        levels=(matrix or MatrixFacts()).levels,
        similarity=advice.similarity,
        matrix_noise=advice.matrix_noise,
        epsilon=advice.epsilon,
        epsilon_from=advice.source,
        cases=tuple(judged),
        notes=(
            *_without_references(len(items), left_out, compared=compared),
            *_notes(len(items), advice.epsilon, position),
        ),
    )
    said = verdicts_on(
        report,
        padding=padding,
        padding_wrong=padding_wrong,
        answers=sum(a.right is not None and a.score is not None for a in graded),
    )
    return report.model_copy(update={"verdicts": said})


class _Bench:
    """Hands answers to judges, and counts what could not be read."""

    def __init__(
        self,
        items: Sequence[HeldOutItem],
        rubric: str,
        verifier: Verifier | None,
        concurrency: int,
    ) -> None:
        self._items = items
        self._rubric = rubric
        self._verifier = verifier
        self._concurrency = concurrency
        self.asked = 0
        self.unreadable = 0

    async def judge(self, grader: Grader, keys: Sequence[Key]) -> list[float | None]:
        """Return a score per answer, ``None`` where there is none."""

        async def one(place: int, text: str) -> float | None:
            item = self._items[place]
            try:
                return (await grader.grade(await self._task(item, text))).score
            except OutputError:
                return None

        def call(key: Key) -> Callable[[], Awaitable[float | None]]:
            return lambda: one(*key)

        found = await bounded([call(key) for key in keys], self._concurrency)
        self.asked += len(found)
        self.unreadable += sum(score is None for score in found)
        return found

    async def _task(self, item: HeldOutItem, text: str) -> GradingTask:
        return GradingTask(
            question=item.question,
            answer=text,
            rubric=self._rubric,
            context=item.context,
            unsupported=await self._unsupported(item.question, text, item.context),
        )

    async def _unsupported(
        self, question: str, text: str, context: tuple[Passage, ...]
    ) -> tuple[str, ...]:
        if self._verifier is None:
            return ()
        found = await self._verifier.verify(question, text, context)
        return tuple(text[s.start : s.end] for s in found if not s.supported)


def _sample(keys: Sequence[Key], seed: int) -> list[Key]:
    order = np.random.default_rng(seed).permutation(len(keys))[:ASKED_AGAIN]
    return [keys[place] for place in order]


def _answered(items: Sequence[HeldOutItem], graded: Sequence[GradedAnswer]) -> list[Key]:
    """Return what was really answered to questions, without blank answers."""
    places = {item.id: place for place, item in enumerate(items)}
    found = [(places[a.id], a.text) for a in graded if a.id in places and a.text.strip()]
    return list(dict.fromkeys(found))


def _collapse(graded: Sequence[GradedAnswer]) -> Collapse:
    """Return whether the judge said the same to everything that was really answered."""
    known = [(a.score, bool(a.right)) for a in graded if a.score is not None]
    scores = np.array([score for score, _ in known], dtype=np.float64)
    return collapse_of(scores, np.array([right for _, right in known], dtype=bool))


def _without_references(questions: int, left_out: int, *, compared: bool) -> list[str]:
    """Return what a reader has to know of questions that no right answer is known to."""
    if not compared:
        return [
            f"None of the {questions} questions has a reference, so right and wrong answers could "
            "not be made: separation, padding, wording and length were not tried. What follows "
            "rests on what was really answered."
        ]
    if left_out:
        return [
            f"{left_out} questions without references, or judged by other prompts, had no part in "
            "the trial."
        ]
    return []


def _readable(rows: Iterable[Sequence[float | None]]) -> list[tuple[float, ...]]:
    """Return the scores of each answer that was judged at least twice."""
    known = ([score for score in row if score is not None] for row in rows)
    return [tuple(scores) for scores in known if len(scores) > 1]


def _judged(case: TrialCase, items: Sequence[HeldOutItem], score: float | None) -> JudgedCase:
    return JudgedCase(
        id=items[case.item].id, text=case.text, right=case.right, kinds=case.kinds, score=score
    )


def _pairs(
    made: Sequence[TrialCase], scores: Mapping[Key, float | None]
) -> dict[str, list[tuple[float, float]]]:
    """Return (score of an answer, score of a version of it) by the kind of version."""
    found: dict[str, list[tuple[float, float]]] = {
        kind: [] for kind in (kinds.PADDED, kinds.PADDED_WRONG, kinds.WORDING)
    }
    for case in made:
        if case.of is not None:
            before, after = scores[(case.item, case.of)], scores[(case.item, case.text)]
            if before is not None and after is not None:
                found[case.kinds[0]].append((before, after))
    return found


def _separations(
    plain: Sequence[tuple[TrialCase, float]], questions: int, seed: int, confidence: float
) -> tuple[Separation, ...]:
    """Return the separation from each kind of wrong answers that occurs."""
    draws = draws_of(questions, seed)
    found = []
    for kind in kinds.WRONG_KINDS:
        chosen = [(c, s) for c, s in plain if c.right or kind in c.kinds]
        # Only questions of the same sort: yes and no are right answers to others.
        closed = {c.item for c, _ in plain if kinds.OPPOSITE in c.kinds}
        if kind == kinds.OPPOSITE:
            chosen = [(c, s) for c, s in chosen if c.item in closed]
        else:
            chosen = [(c, s) for c, s in chosen if c.item not in closed]
        values = np.array([score for _, score in chosen], dtype=np.float64)
        right = np.array([case.right for case, _ in chosen], dtype=bool)
        groups = np.array([case.item for case, _ in chosen], dtype=np.intp)
        separation = separate(kind, values, right, groups, draws, confidence)
        if separation is not None:
            found.append(separation)
    return tuple(found)


def _to_show(made: Sequence[TrialCase], items: Sequence[HeldOutItem]) -> list[Pair]:
    """Return one pair of a right and a wrong answer per question."""
    first: dict[tuple[int, bool], str] = {}
    for case in made:
        if case.of is None:
            first.setdefault((case.item, case.right), case.text)
    return [
        Pair(item.question, first[place, True], first[place, False], item.context)
        for place, item in enumerate(items)
        if (place, True) in first and (place, False) in first
    ]


def _calibration(
    values: Floats, right: NDArray[np.bool_], graded: Sequence[GradedAnswer]
) -> tuple[tuple[CalibrationBin, ...], float | None, str]:
    """Return bins, error and what they are over: real answers where there are any."""
    known = [(a.score, a.right) for a in graded if a.score is not None and a.right is not None]
    if known:
        scores = np.array([score for score, _ in known], dtype=np.float64)
        truths = np.array([truth for _, truth in known], dtype=bool)
        return (*calibration_of(scores, truths, np.full(len(known), 1 / len(known))), "answers")
    return (*calibration_of(values, right, balanced(right)), "cases" if values.size else "")


def _notes(
    questions: int, epsilon: float | None, position: PositionReport | None
) -> tuple[str, ...]:
    found = []
    if questions < FEW_QUESTIONS:
        found.append(f"{questions} questions are few: read the intervals with care.")
    if epsilon is None:
        found.append("No noise was seen, so every epsilon above 0 lies above it.")
    if position is not None and position.unreadable:
        pairs = position.pairs + position.unreadable
        found.append(f"{position.unreadable} of {pairs} preferences could not be read.")
    return tuple(found)
