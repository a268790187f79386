"""What a trial of a judge found."""

from __future__ import annotations

from pydantic import Field

from reflectory.types import Record


class Separation(Record):
    """How well scores tell right answers from one kind of wrong ones.

    Attributes:
        kind: ``other rows`` (right answers of other questions), ``same documents`` (other
            names, dates and numbers of the same documents), ``echo``, ``copy`` ...
        area: Area under the ROC curve in [0, 1]; 0.5 is chance.
        low: Lower end of its interval, resampled over questions.
        high: Upper end.
        right: Number of right answers.
        wrong: Number of wrong ones.
    """

    kind: str
    area: float
    low: float
    high: float
    right: int
    wrong: int


class Correlation(Record):
    """A rank correlation of the judge's scores with something else.

    Attributes:
        of: What is ranked, such as ``G and F1`` or ``score and length``.
        rho: Spearman's coefficient in [-1, 1]; ``None`` when one side is constant.
        p_value: Two-sided.
        count: Pairs.
    """

    of: str
    rho: float | None
    p_value: float | None
    count: int


class CalibrationBin(Record):
    """Scores between two bounds beside how often such answers are right."""

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


class JudgeReport(Record):
    """Everything that the trial measured.

    Attributes:
        grader: Fingerprint of the judge.
        questions: Questions of the trial.
        separations: By kind of wrong answer.
        bins: Calibration in ten bins, empty ones left out.
        calibration_error: Expected calibration error in [0, 1].
        noise: Standard deviation of a score when the judge is asked again with another seed;
            0 for a judge that draws nothing.
        distinct: Number of different scores it gave, to three decimals.
        most_common: Share of its most frequent score.
        collapsed: Whether it says nearly the same to everything.
        length: Rank correlation of score with length within questions, over answers that
            are equally right.
        padding: Mean change of the score when a right answer is padded with words that say
            nothing.
        position: Share of pairs whose preference changes with the order in which they are
            shown; ``None`` for a judge that sees one answer at a time.
        agreement: Rank correlations with reference metrics.
        matrix_noise: Standard deviation that the judge's noise gives to the norm of
            Equation 32.
        epsilon: Recommended: above that noise.
        verdicts: What is wrong with this judge, in plain sentences; empty when nothing is.
    """

    grader: str
    questions: int
    separations: tuple[Separation, ...] = ()
    bins: tuple[CalibrationBin, ...] = ()
    calibration_error: float | None = None
    noise: float = Field(default=0.0, ge=0.0)
    distinct: int = 0
    most_common: float = 0.0
    collapsed: bool = False
    length: Correlation | None = None
    padding: float | None = None
    position: float | None = None
    agreement: tuple[Correlation, ...] = ()
    matrix_noise: float = 0.0
    epsilon: float | None = None
    verdicts: tuple[str, ...] = ()
