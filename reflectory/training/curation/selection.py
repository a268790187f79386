"""From trajectories to rows by a stated rule on grades; nothing is dropped silently.

Every response, answer and possible preference pair that is looked at is
counted once: as accepted, or under the one reason for which it was refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from reflectory.config import CurationConfig
from reflectory.training.counts import Tallies
from reflectory.training.curation.choices import Choices, beaten, choice_pairs, choice_row
from reflectory.training.curation.drafts import draft_pairs
from reflectory.training.curation.outcome import Curation
from reflectory.training.curation.recorded import (
    answer_row,
    best_response,
    response_pair,
    response_row,
)
from reflectory.training.rows import PreferenceRow, Prompter, TrainingRow
from reflectory.types import Flag, Trajectory
from reflectory.types.practice import CandidateSet

REFUSED_FLAGS: frozenset[Flag] = frozenset({Flag.CONSTANT_JUDGE})
"""Trajectories with these flags give no rows unless the caller says otherwise.

A judge that says the same to everything accepts all or nothing: its threshold
selects nothing, and what nothing selected is no lesson.
"""


def curate(
    trajectories: Iterable[Trajectory],
    config: CurationConfig,
    prompter: Prompter,
    *,
    refuse_flags: Collection[Flag] = REFUSED_FLAGS,
    candidates: Sequence[CandidateSet] = (),
) -> Curation:
    """Make training rows of what was graded well enough.

    The best response by G (the earliest of equals) becomes a row when its grade
    reaches ``minimum_grade`` and it is R_0 or gains ``minimum_gain`` on G[0]. It
    is trained with the prompt of R_0 and the passages it was written from: what
    reflection found becomes what the student says at once. An answer to a
    question becomes a row when its score reaches ``minimum_score``. The best
    response over R_0 becomes a preference pair when it is another text and leads
    by ``minimum_margin``; so does the best response over up to ``draft_pairs`` of the drafts
    that it was chosen over. Blank completions, completions that say the question
    again, and repetitions of a question with the same completion are refused.

    Where several answers to a question were gathered, the one that was chosen
    among them takes the place of what the loop wrote, when its own score reaches
    the threshold; ``minimum_gain`` is not asked of it, because choosing has a rule
    for that. Where none was chosen, the question gives no row. The chosen one over
    what it beat becomes up to ``pairs_per_question`` preference pairs.

    Args:
        trajectories: What loops recorded; failed ones are counted and give nothing.
        config: The thresholds.
        prompter: Makes the student's prompt, as inference does.
        refuse_flags: Trajectories with one of these flags give nothing.
        candidates: Answers to choose from, at most one set for an instruction or cell.
    """
    flags = frozenset(refuse_flags)
    tallies = Tallies()
    choices = Choices.of(candidates)
    rows: list[TrainingRow] = []
    preferences: list[PreferenceRow] = []
    for trajectory in trajectories:
        maker = _Maker(trajectory, config, prompter, _unusable(trajectory, flags))
        gave = maker.responses(choices, tallies, rows, preferences)
        gave |= maker.answers(choices, tallies, rows, preferences)
        gave |= not tallies.settle("pairs", maker.pair(), trajectory.instruction, preferences)
        gave |= maker.drafts(tallies, preferences)
        reason = maker.unusable or "nothing_accepted"
        tallies.count("trajectories", "" if gave else reason)
    choices.count_rest(tallies)
    return Curation(tuple(rows), tuple(preferences), tallies.counts(), config)


class _Maker:
    """Makes what one trajectory gives.

    Args:
        trajectory: What a loop recorded.
        config: The thresholds.
        prompter: Makes the student's prompt.
        unusable: Why it gives nothing; empty when it may give something.
    """

    def __init__(
        self, trajectory: Trajectory, config: CurationConfig, prompter: Prompter, unusable: str
    ) -> None:
        self.trajectory = trajectory
        self.config = config
        self.prompter = prompter
        self.unusable = unusable
        self.best = None if unusable else best_response(trajectory)
        self.gathered = False

    def responses(
        self,
        choices: Choices,
        tallies: Tallies,
        rows: list[TrainingRow],
        preferences: list[PreferenceRow],
    ) -> bool:
        """Settle every response; return whether there is a new row or pair."""
        trajectory, gave = self.trajectory, False
        choice = choices.for_response(trajectory.id) if trajectory.responses else None
        self.gathered = choice is not None
        standing = self.best or next(iter(trajectory.responses), None)
        for response in trajectory.responses:
            if choice is not None and response is standing:
                gave |= self._settle_choice("responses", choice, tallies, rows, preferences)
                continue
            made = self.unusable or response_row(
                trajectory, response, self.best, self.config, self.prompter
            )
            gave |= not tallies.settle("responses", made, trajectory.instruction, rows)
        return gave

    def answers(
        self,
        choices: Choices,
        tallies: Tallies,
        rows: list[TrainingRow],
        preferences: list[PreferenceRow],
    ) -> bool:
        """Settle every cell; return whether there is a new row or pair."""
        gave = False
        for cell in self.trajectory.examinations:
            choice = choices.for_cell(self.trajectory.id, cell.level, cell.iteration)
            if choice is not None:
                gave |= self._settle_choice("answers", choice, tallies, rows, preferences)
                continue
            made = self.unusable or answer_row(self.trajectory, cell, self.config, self.prompter)
            question = cell.question.text if cell.question is not None else ""
            gave |= not tallies.settle("answers", made, question, rows)
        return gave

    def pair(self) -> PreferenceRow | str:
        """Return the pair of the best response over R_0, or why there is none."""
        return self.unusable or response_pair(
            self.trajectory, self.best, self.config, self.prompter
        )

    def drafts(self, tallies: Tallies, preferences: list[PreferenceRow]) -> bool:
        """Settle what responses were chosen over; return whether there is a new pair.

        Candidates were gathered and graded after the loop, so where there are some they
        decide: what they prefer may be a draft that the loop did not take.
        """
        trajectory, gave = self.trajectory, False
        unusable = self.unusable or ("candidates_decide" if self.gathered else "")
        for response in trajectory.responses:
            for pair in draft_pairs(
                trajectory, response, self.best, self.config, self.prompter, unusable=unusable
            ):
                question = trajectory.instruction
                gave |= not tallies.settle("draft_pairs", pair, question, preferences)
        return gave

    def _settle_choice(
        self,
        kind: str,
        choice: CandidateSet,
        tallies: Tallies,
        rows: list[TrainingRow],
        preferences: list[PreferenceRow],
    ) -> bool:
        made = self.unusable or choice_row(self.trajectory, choice, self.config, self.prompter)
        reason = tallies.settle(kind, made, choice.question, rows)
        tallies.count("candidates", reason)
        gave = not reason
        if self.unusable:
            tallies.count("candidate_pairs", self.unusable, beaten(choice))
            return gave
        for pair in choice_pairs(self.trajectory, choice, self.config, self.prompter):
            gave |= not tallies.settle("candidate_pairs", pair, choice.question, preferences)
        return gave


def _unusable(trajectory: Trajectory, flags: frozenset[Flag]) -> str:
    if trajectory.error is not None:
        return "failed_trajectory"
    return next((f"flag_{flag.value}" for flag in trajectory.flags if flag in flags), "")
