"""From trajectories to rows: what is good enough to be learnt."""

from __future__ import annotations

from reflectory.config.base import Settings, Unit


class CurationConfig(Settings):
    """Which parts of a trajectory become rows (a stated rule on G).

    Attributes:
        minimum_grade: A response is accepted when its G is at least this.
        minimum_gain: ... and when it exceeds G[0] by at least this, unless it is R_0.
        minimum_score: An answer to a question is accepted when its score is at least this.
        minimum_margin: A preference pair needs this distance between its two grades.
        questions: Whether answers to questions become rows at all.
    """

    minimum_grade: Unit = 0.5
    minimum_gain: Unit = 0.0
    minimum_score: Unit = 0.5
    minimum_margin: Unit = 0.1
    questions: bool = True
