"""What a trial of a judge found."""

from __future__ import annotations

from pydantic import Field

from reflectory.types import Record


class Separation(Record):
    """How well scores tell right answers from one kind of wrong ones.

    Attributes:
        kind: ``other rows`` (right answers of other questions), ``same documents`` (other
            names, dates and numbers of the same documents), ``same type`` (those alone that are
            of the right answer's type, such as a year for a year), ``other option`` (another
            name in a question that names its answer), ``opposite`` (no for yes), ``echo``
            (the question again), ``copy`` (a sentence without the answer), ``empty``
            (phrases such as "I do not know.").
        area: Area under the ROC curve in [0, 1] over the answers of all questions; 0.5 is
            chance.
        low: Lower end of its interval, resampled over questions.
        high: Upper end.
        right: Number of right answers.
        wrong: Number of wrong ones.
        within: Mean over questions of the area among the answers of one question, in [0, 1];
            ``None`` where no question has both.
        within_low: Lower end of its interval.
        within_high: Upper end.
        questions: Questions that have both.
        curve: The ROC curve: (share of wrong answers, share of right ones) at or above a
            score, from (0, 0) to (1, 1); at most 101 points.
    """

    kind: str
    area: float
    low: float
    high: float
    right: int
    wrong: int
    within: float | None = None
    within_low: float | None = None
    within_high: float | None = None
    questions: int = 0
    curve: tuple[tuple[float, float], ...] = ()


class Correlation(Record):
    """A rank correlation of the judge's scores with something else.

    Attributes:
        of: What is ranked, such as ``G and f1`` or ``score and length``; ``within questions``
            is added where the mean of each question was taken off first.
        rho: Spearman's coefficient in [-1, 1]; ``None`` when one side is constant.
        p_value: Two-sided, as if the answers to one question had nothing to do with one
            another.
        count: Pairs.
        low: Lower end of the interval of ``rho``, resampled over questions.
        high: Upper end.
    """

    of: str
    rho: float | None
    p_value: float | None
    count: int
    low: float | None = None
    high: float | None = None


class CalibrationBin(Record):
    """Scores between two bounds beside how often such answers are right."""

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


class JudgedCase(Record):
    """One answer of the trial and what the judge said to it.

    Attributes:
        id: Of the question.
        text: The answer.
        right: Whether it is right.
        kinds: What it is a case of (see :class:`Separation`); ``right``, ``padded``,
            ``padded wrong`` and ``wording`` besides.
        score: In [0, 1]; ``None`` when the judgement could not be read.
    """

    id: str
    text: str
    right: bool
    kinds: tuple[str, ...]
    score: float | None


class GradedAnswer(Record):
    """An answer that a student really gave, with the judge's grade and the truth.

    Attributes:
        id: Of the question.
        text: The answer.
        score: G, the judge's grade in [0, 1]; ``None`` when there is none.
        values: Reference metrics by name, such as ``f1`` and ``exact_match``.
        right: Whether it counts as right, for the calibration; ``None`` for unknown.
        alignment: Mean of A over the levels of the iteration that the answer belongs to,
            in [0, 1]; ``None`` when there is none.
    """

    id: str
    text: str = ""
    score: float | None
    values: dict[str, float] = Field(default_factory=dict)
    right: bool | None = None
    alignment: float | None = None


class JudgeReport(Record):
    """Everything that the trial measured.

    Attributes:
        grader: Fingerprint of the judge.
        questions: Questions of the trial.
        separations: By kind of wrong answer.
        headline: The kind that the judge is named by.
        judgements: Judgements that were asked for, repeated ones included.
        unreadable: Of these the ones that could not be read; they are no scores.
        bins: Calibration in ten bins, empty ones left out.
        calibration_error: Expected calibration error in [0, 1].
        calibrated_on: ``answers`` of students, or the ``cases`` of the trial with right and
            wrong ones weighing the same.
        noise: Standard deviation of a score when the judge is asked again with another seed;
            0 for a judge that draws nothing.
        repeat_noise: The same when the very same judge is asked the very same, in another
            order.
        wording_noise: The same when only a final stop or an article of the answer changes;
            what the judge draws anew for another text is part of it.
        distinct: Number of different scores it gave, to three decimals.
        most_common: Share of its most frequent score, right and wrong answers weighing the
            same.
        common_score: That score.
        collapsed: Whether it says nearly the same to everything.
        length: Rank correlation of score with length within questions, over answers that
            are equally wrong.
        padding: Mean change of the score when a right answer is padded with words that say
            nothing.
        padding_wrong: The same for wrong answers.
        position: Share of pairs whose preference changes with the order in which they are
            shown; ``None`` for a judge that sees one answer at a time.
        position_first: Share of these changes in favour of the answer that is shown first.
        agreement: Rank correlations with reference metrics.
        levels: k, the levels of the matrix that epsilon is recommended for.
        similarity: Root mean square of the similarities of its cells; 1 when nothing is
            known of them, which makes epsilon an upper bound.
        matrix_noise: Root mean square of the norm of Equation 32 that noise alone gives to a
            matrix that stands still.
        epsilon: Recommended: above that noise; ``None`` when no noise was seen.
        epsilon_from: What the noise was seen in: ``asking again``, ``wording``, or ``cells
            whose answer stayed the same``.
        verdicts: What is wrong with this judge, in plain sentences; empty when nothing is.
        notes: What a reader has to know before believing a number, such as few questions.
        cases: Every answer with its score.
    """

    grader: str
    questions: int
    separations: tuple[Separation, ...] = ()
    headline: str = ""
    judgements: int = 0
    unreadable: int = 0
    bins: tuple[CalibrationBin, ...] = ()
    calibration_error: float | None = None
    calibrated_on: str = ""
    noise: float = Field(default=0.0, ge=0.0)
    repeat_noise: float = Field(default=0.0, ge=0.0)
    wording_noise: float = Field(default=0.0, ge=0.0)
    distinct: int = 0
    most_common: float = 0.0
    common_score: float | None = None
    collapsed: bool = False
    length: Correlation | None = None
    padding: float | None = None
    padding_wrong: float | None = None
    position: float | None = None
    position_first: float | None = None
    agreement: tuple[Correlation, ...] = ()
    levels: int = 4
    similarity: float = 1.0
    matrix_noise: float = 0.0
    epsilon: float | None = None
    epsilon_from: str = ""
    verdicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cases: tuple[JudgedCase, ...] = ()

    def separation(self, kind: str) -> Separation | None:
        """Return the separation from one kind of wrong answers, if there were any."""
        return next((s for s in self.separations if s.kind == kind), None)
