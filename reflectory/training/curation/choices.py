"""Rows and preference pairs from several answers to one question.

Which answer is the one to learn was decided when the candidates were gathered
(:class:`~reflectory.types.practice.CandidateSet`); here it has to pass the same thresholds
as what a loop wrote, and the answers that it beat become the other side of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from reflectory.config import CurationConfig
from reflectory.evaluation.metrics import normalise_answer
from reflectory.training.counts import Tallies
from reflectory.training.curation.making import (
    candidate_provenance,
    leads_by,
    problem_of,
    prompt_messages,
    reaches,
)
from reflectory.training.curation.words import count_words
from reflectory.training.rows import (
    PreferenceRow,
    Prompter,
    TrainingRow,
    assistant,
)
from reflectory.types import Trajectory
from reflectory.types.practice import Candidate, CandidateSet

Key = tuple[str, str, str | None, int]


def _key(choice: CandidateSet) -> Key:
    """Return what the set belongs to; a trajectory has one set for its instruction."""
    if choice.what == "response":
        return (choice.trajectory, "response", None, 0)
    return (choice.trajectory, "answer", choice.level, choice.iteration)


@dataclass
class Choices:
    """Sets of candidates by what they belong to, each given out once.

    Attributes:
        waiting: Sets that nobody asked for yet.
        repeated: Sets for what another, earlier set is for already.
    """

    waiting: dict[Key, CandidateSet] = field(default_factory=dict)
    repeated: list[CandidateSet] = field(default_factory=list)

    @classmethod
    def of(cls, candidates: Iterable[CandidateSet]) -> Choices:
        """Return the sets, the first of several for one question in its place."""
        made = cls()
        for choice in candidates:
            if made.waiting.setdefault(_key(choice), choice) is not choice:
                made.repeated.append(choice)
        return made

    def for_response(self, trajectory: str) -> CandidateSet | None:
        """Return the set for the instruction of a trajectory."""
        return self.waiting.pop((trajectory, "response", None, 0), None)

    def for_cell(self, trajectory: str, level: str, iteration: int) -> CandidateSet | None:
        """Return the set for the question of a cell.

        Args:
            trajectory: Its id.
            level: Name of the level.
            iteration: t, from 0.
        """
        return self.waiting.pop((trajectory, "answer", level, iteration), None)

    def count_rest(self, tallies: Tallies) -> None:
        """Count the sets that belong to nothing that was seen, and those that repeat one."""
        for reason, rest in (("nothing_to_match", self.waiting.values()), ("same", self.repeated)):
            for choice in rest:
                tallies.count("candidates", reason)
                tallies.count("candidate_pairs", reason, beaten(choice))


def beaten(choice: CandidateSet) -> int:
    """Return how many candidates of a set are not the chosen one."""
    return sum(1 for number in range(len(choice.candidates)) if number != choice.chosen)


def chosen_of(choice: CandidateSet, config: CurationConfig) -> Candidate | str:
    """Return the candidate to learn, or why there is none.

    Args:
        choice: Candidates with their grades.
        config: The thresholds.
    """
    if choice.what == "answer" and not config.questions:
        return "questions_switched_off"
    if choice.chosen is None:
        return "none_chosen"
    if choice.chosen >= len(choice.candidates):
        return "no_such_candidate"
    chosen = choice.candidates[choice.chosen]
    if chosen.score is None or math.isnan(chosen.score):
        return "ungraded"
    if not reaches(chosen.score, _threshold(choice, config)):
        return "below_minimum_grade" if choice.what == "response" else "below_minimum_score"
    return problem_of(chosen.text, choice.question) or chosen


def _threshold(choice: CandidateSet, config: CurationConfig) -> float:
    """Return tau of Equation 1, D = {(x, y) : q(x, y) >= tau}; q is the teacher's grade."""
    return config.minimum_grade if choice.what == "response" else config.minimum_score


def choice_row(
    trajectory: Trajectory, choice: CandidateSet, config: CurationConfig, prompter: Prompter
) -> TrainingRow | str:
    """Return the row of the chosen candidate, or why there is none.

    Args:
        trajectory: The loop that the question was practised in.
        choice: Candidates with their grades.
        config: The thresholds.
        prompter: Makes the student's prompt.
    """
    chosen = chosen_of(choice, config)
    if isinstance(chosen, str):
        return chosen
    first = trajectory.grades[0] if trajectory.responses else None
    baseline = None if first is None or math.isnan(first) else first
    return TrainingRow(
        prompt=prompt_messages(prompter, choice.question, choice.context, choice.extra),
        completion=assistant(chosen.text),
        provenance=candidate_provenance(choice, chosen, trajectory.models, baseline=baseline),
    )


def choice_pairs(
    trajectory: Trajectory, choice: CandidateSet, config: CurationConfig, prompter: Prompter
) -> list[PreferenceRow | str]:
    """Return one pair, or why there is none, for every candidate that was not chosen.

    The most informative come first and ``pairs_per_question`` of them are made. What the
    student said itself teaches more than what nobody would have said; of that, what is wrong
    or longer than the chosen one; of that, what lies farthest below it.

    Args:
        trajectory: The loop that the question was practised in.
        choice: Candidates with their grades.
        config: The thresholds, and how many pairs a question gives.
        prompter: Makes the student's prompt.
    """
    chosen = chosen_of(choice, config)
    if isinstance(chosen, str):
        return [chosen] * beaten(choice)
    rivals = [c for number, c in enumerate(choice.candidates) if number != choice.chosen]
    threshold = _threshold(choice, config)
    words = count_words(chosen.text)

    def order(rival: Candidate) -> tuple[bool, bool, float]:
        own = rival.origin in ("loop", "sample")
        worse = not reaches(rival.score, threshold) or count_words(rival.text) > words
        score = rival.score if rival.score is not None and not math.isnan(rival.score) else 1.0
        return (not own, not worse, score)

    made: list[PreferenceRow | str] = []
    said = {normalise_answer(chosen.text)}
    pairs = 0
    for rival in sorted(rivals, key=order):  # stable: of equals, the earlier candidate
        reason = _pair_problem(chosen, rival, said, config)
        if not reason and pairs >= config.pairs_per_question:
            reason = "enough_pairs"
        if reason:
            made.append(reason)
            continue
        pairs += 1
        said.add(normalise_answer(rival.text))
        made.append(_pair(trajectory, choice, chosen, rival, prompter))
    return made


def _pair_problem(
    chosen: Candidate, rival: Candidate, said: set[str], config: CurationConfig
) -> str:
    if chosen.score is None or rival.score is None or math.isnan(rival.score):
        return "ungraded"
    if not rival.text.strip():
        return "empty"
    if normalise_answer(rival.text) in said:
        return "same_text"
    enough = leads_by(chosen.score, rival.score, config.minimum_margin)
    return "" if enough and chosen.score >= rival.score else "below_minimum_margin"


def _pair(
    trajectory: Trajectory,
    choice: CandidateSet,
    chosen: Candidate,
    rival: Candidate,
    prompter: Prompter,
) -> PreferenceRow:
    return PreferenceRow(
        prompt=prompt_messages(prompter, choice.question, choice.context, choice.extra),
        chosen=assistant(chosen.text),
        rejected=assistant(rival.text),
        margin=(chosen.score or 0.0) - (rival.score or 0.0),
        provenance=candidate_provenance(choice, chosen, trajectory.models, baseline=rival.score),
    )
