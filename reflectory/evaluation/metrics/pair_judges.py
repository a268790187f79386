"""Judges of two answers: by likelihood, by words, and by the grades of each alone."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence

from reflectory.agents.graders.protocol import Grader, GradingTask
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import context_segments
from reflectory.errors import OutputError, UnsupportedCapability, UserError
from reflectory.evaluation.metrics.preference import Verdict
from reflectory.models.protocol import (
    Capability,
    Model,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
    derive_seed,
)
from reflectory.types import Passage

ROLE = "judge.prefer"
"""The role of every call that compares two answers."""

COMPARISON = (
    "Two students answered a question about the documents above.\n"
    "Question: {question}\n"
    "Answer A: {first}\n"
    "Answer B: {second}\n"
    "Which answer is better: more correct, and supported by the documents? Its length and its "
    "place do not matter."
)
"""What both kinds of model are shown; braces in question and answers stay."""

_LETTER_ONLY = " Write only the letter A or B."
_WORDS = ' Give one short reason, then a last line "Better: A", "Better: B" or "Better: tie".'
_AGAIN = '\n\nYour last judgement named no answer. Write only the line "Better:".'
_VERDICTS: dict[str, Verdict] = {"a": "first", "b": "second"}
_NAME = r"(?P<name>A|B|tie|tied|equal|equally good|neither|both|same)"
_LABELLED = re.compile(
    rf"\b(?:better|best|verdict|winner|choice|preferred|final answer)\b"
    rf"(?:\s+(?:answer|one|is))*[\s:=\-*\"'\[(]*(?:answer\s+)?{_NAME}\b",
    re.IGNORECASE,
)
_BRACKETED = re.compile(rf"\[\[\s*{_NAME}\s*\]\]", re.IGNORECASE)
_SENTENCE = re.compile(rf"\banswer\s+{_NAME}\s+is\s+(?:clearly\s+|much\s+)?better\b", re.IGNORECASE)
_BARE = re.compile(
    rf"^[^\w\n]*(?:(?:the\s+)?answer:?\s+)?(?:it is a\s+|a\s+(?=tie))?{_NAME}[^\w\n]*$",
    re.IGNORECASE | re.MULTILINE,
)


def read_choice(text: str) -> Verdict | None:
    """Return the answer that a verdict names, or ``None``.

    Read are ``Better: A``, ``[[B]]``, ``Answer A is better`` and a letter or ``tie`` on a line
    of its own. Of several verdicts in one form the last counts. "Better: a clear account" names
    no answer: a letter stands alone or ends its line.
    """
    for pattern in (_BRACKETED, _LABELLED, _SENTENCE, _BARE):
        found = [m for m in pattern.finditer(text) if _stands_alone(text, m)]
        if found:
            return _VERDICTS.get(found[-1]["name"].lower(), "tie")
    return None


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Return whether a name is a name: a small "a" before a word is an article."""
    if match["name"] != "a":
        return True
    return re.match(r"[^\w\n]*(?:\n|$)", text[match.end("name") :]) is not None


class LikelihoodPairJudge:
    """Prefers the letter that the model finds likelier as the next word.

    It never says tie: a preference that comes from the letter alone falls with the swap.

    Args:
        model: What gives likelihoods.
        prompts: Holds the system text; the default one by default.

    Raises:
        UnsupportedCapability: The model cannot score.
    """

    ordered = True

    def __init__(self, model: Model, prompts: PromptSet | None = None) -> None:
        if Capability.SCORE not in model.capabilities:
            raise UnsupportedCapability(
                f"{model.fingerprint} gives no likelihoods to choose by",
                hint="use SpokenPairJudge with it",
            )
        self._model = model
        self._prompts = prompts or PromptSet.with_replacements()

    @property
    def fingerprint(self) -> str:
        """The judging model and that its likelihoods were compared."""
        return f"pair-likelihood:{self._model.fingerprint}"

    async def choose(
        self, question: str, first: str, second: str, context: Sequence[Passage]
    ) -> Verdict:
        """Return the answer whose letter is likelier.

        Args:
            question: What was asked.
            first: The answer that is shown first.
            second: The other one.
            context: Passages, in the order in which they are shown.

        Raises:
            OutputError: A likelihood is not a number.
        """
        shown = _shown(question, first, second) + _LETTER_ONLY
        scores = await self._model.score(
            ScoreRequest(
                segments=(*context_segments(self._prompts, context), Segment(text=shown)),
                continuations=("A", "B"),
                role=ROLE,
            )
        )
        a, b = (entry.total for entry in scores.continuations)
        if math.isnan(a) or math.isnan(b):
            raise OutputError(
                "the likelihood of a letter is not a number",
                raw=f"A: {a}, B: {b}",
                hint="look at the model's number format",
            )
        return "tie" if a == b else "first" if a > b else "second"


class SpokenPairJudge:
    """Asks a model which answer is better, reads its words, and asks again when it must.

    Args:
        model: What judges.
        prompts: Holds the system text; the default one by default.
        max_tokens: Most tokens of a verdict.
        attempts: Tries before the comparison counts as failed.
        seed: Seed of the tries after the first, which takes the likeliest words.
    """

    ordered = True

    def __init__(
        self,
        model: Model,
        prompts: PromptSet | None = None,
        *,
        max_tokens: int = 120,
        attempts: int = 2,
        seed: int = 0,
    ) -> None:
        if attempts < 1:
            raise UserError(f"attempts is {attempts}", hint="ask at least once")
        self._model = model
        self._prompts = prompts or PromptSet.with_replacements()
        self._max_tokens = max_tokens
        self._attempts = attempts
        self._seed = seed

    @property
    def fingerprint(self) -> str:
        """The judging model and that it was asked in words."""
        return f"pair-spoken:{self._model.fingerprint}"

    async def choose(
        self, question: str, first: str, second: str, context: Sequence[Passage]
    ) -> Verdict:
        """Return the answer that the model names.

        Args:
            question: What was asked.
            first: The answer that is shown first.
            second: The other one.
            context: Passages, in the order in which they are shown.

        Raises:
            OutputError: No try named one; ``raw`` holds all that was said.
        """
        shown = _shown(question, first, second) + _WORDS
        said: list[str] = []
        for attempt in range(self._attempts):
            text = shown + (_AGAIN if attempt else "")
            request = Request(
                segments=(*context_segments(self._prompts, context), Segment(text=text)),
                role=ROLE,
                sampling=SamplingParameters(
                    max_tokens=self._max_tokens, temperature=0.7 if attempt else 0.0
                ),
                seed=derive_seed(self._seed, "prefer", question, first, second, attempt),
            )
            said.append((await self._model.complete(request)).text)
            verdict = read_choice(said[-1])
            if verdict is not None:
                return verdict
        raise OutputError(
            f"no preference in {self._attempts} verdicts",
            raw="\n---\n".join(said),
            hint="use LikelihoodPairJudge, GraderPairJudge or a stronger model",
        )


class GraderPairJudge:
    """Prefers the answer with the higher grade; it sees one answer at a time.

    Args:
        grader: Grades each answer alone.
        rubric: What a good answer has.
        margin: Grades that differ by no more than this are a tie.
    """

    ordered = False

    def __init__(self, grader: Grader, *, rubric: str = "", margin: float = 0.0) -> None:
        if not 0.0 <= margin < 1.0:
            raise UserError(f"the margin {margin} is not in [0, 1)", hint="0 for none")
        self._grader = grader
        self._rubric = rubric
        self._margin = margin

    @property
    def fingerprint(self) -> str:
        """The grader and the margin."""
        return f"pair-graded:{self._grader.fingerprint}:{self._margin}"

    async def choose(
        self, question: str, first: str, second: str, context: Sequence[Passage]
    ) -> Verdict:
        """Return the answer with the higher grade.

        Args:
            question: What was asked.
            first: The answer that is shown first.
            second: The other one.
            context: Passages, in the order in which they are shown.

        Raises:
            OutputError: A grade could not be read.
        """
        grades = await asyncio.gather(
            *(
                self._grader.grade(
                    GradingTask(
                        question=question,
                        answer=answer,
                        rubric=self._rubric,
                        context=tuple(context),
                    )
                )
                for answer in (first, second)
            )
        )
        difference = grades[0].score - grades[1].score
        if abs(difference) <= self._margin:
            return "tie"
        return "first" if difference > 0 else "second"


def _shown(question: str, first: str, second: str) -> str:
    return COMPARISON.format(question=question, first=first, second=second)
