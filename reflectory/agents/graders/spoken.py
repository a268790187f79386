"""A grader that asks a model for its verdict in words and reads the score.

For models that are strong enough to judge, and for backends that show only
text. Small models are not: ask ``reflectory check`` before believing one.
"""

from __future__ import annotations

import re

from reflectory.agents.graders.protocol import GradingTask
from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import context_segments
from reflectory.errors import OutputError
from reflectory.models.protocol import Model, Request, SamplingParameters, Segment, derive_seed
from reflectory.types import Feedback

# A number with a minus sign is no score; the digits behind it must not be read as one.
_NUMBER = r"(?<![-\u2212\d./])(?P<value>\d+(?:\.\d+)?)"
_LABELLED = re.compile(
    rf"\bscore\b(?:\s+(?:of|is))?\W{{0,5}}{_NUMBER}"
    r"(?:\s*(?:/|out of|of)\s*(?P<scale>\d+)|\s*(?P<percent>%))?",
    re.IGNORECASE,
)
# Without the word, a fraction must end its line: "3 out of 5 people saw it" is a reason.
_FRACTION = re.compile(
    rf"{_NUMBER}\s*(?:/|out of)\s*(?P<scale>\d+)[^\w\n%]*$", re.IGNORECASE | re.MULTILINE
)
_BARE = re.compile(rf"^[^\w\n]*{_NUMBER}[^\w\n%]*$", re.MULTILINE)
_SCORE_LINE = re.compile(r"[*#\s]*\bscore\b[*]*\s*:[^\n]*", re.IGNORECASE)
_SCALE = 10.0
_AGAIN = '\n\nYour last judgement had no score. Write only the line "Score:" with the number.'


def read_score(text: str) -> float | None:
    """Return the score in [0, 1] that a verdict names last, or ``None``.

    Read are ``Score: 7``, ``Score: 7/10``, ``Score: 70%``, ``3 out of 5`` at the
    end of a line and a number on a line of its own. No score is a number below
    zero or above its scale, nor one like 0.8 that names no scale: it may be
    meant from 0 to 1 or from 0 to 10.
    """
    for pattern in (_LABELLED, _FRACTION, _BARE):
        found = list(pattern.finditer(text))
        if not found:
            continue
        named = found[-1].groupdict()
        value = float(named["value"])
        scale = 100.0 if named.get("percent") else float(named.get("scale") or _SCALE)
        ambiguous = 0.0 < value < 1.0 and not (named.get("scale") or named.get("percent"))
        return None if ambiguous or value > scale or scale == 0.0 else value / scale
    return None


class SpokenGrader:
    """Asks a model to judge, reads the score, and asks again when there is none.

    Args:
        model: What judges.
        prompts: Holds the prompt ``teacher.grade``.
        max_tokens: Most tokens of a verdict.
        attempts: Tries before the grade counts as failed.
        seed: Seed of the loop.
    """

    def __init__(
        self,
        model: Model,
        prompts: PromptSet,
        *,
        max_tokens: int = 160,
        attempts: int = 3,
        seed: int = 0,
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._max_tokens = max_tokens
        self._attempts = attempts
        self._seed = seed

    @property
    def fingerprint(self) -> str:
        """The judging model and that it was asked in words."""
        return f"spoken:{self._model.fingerprint}"

    async def grade(self, task: GradingTask) -> Feedback:
        """Return the model's score and reason.

        Raises:
            OutputError: No try held a readable score; ``raw`` holds all verdicts.
        """
        text = self._prompts.fill(
            "teacher.grade",
            question=task.question,
            answer=self._prompts.with_unsupported(task.answer, task.unsupported),
            rubric=task.rubric,
        )
        verdicts: list[str] = []
        for attempt in range(self._attempts):
            request = Request(
                segments=(
                    *context_segments(self._prompts, task.context, task.extra),
                    Segment(text=text + (_AGAIN if attempt else "")),
                ),
                role="teacher.grade",
                # The first verdict is the likeliest one, so that a grade is
                # repeatable; only a retry is drawn.
                sampling=SamplingParameters(
                    max_tokens=self._max_tokens, temperature=0.7 if attempt else 0.0
                ),
                seed=derive_seed(self._seed, "grade", task.question, task.answer, attempt),
            )
            verdicts.append((await self._model.complete(request)).text)
            score = read_score(verdicts[-1])
            if score is not None:
                return Feedback(
                    score=score,
                    reason=_reason(verdicts),
                    grader=self.fingerprint,
                    raw="\n---\n".join(verdicts),
                )
        raise OutputError(
            f"no score in {self._attempts} verdicts",
            raw="\n---\n".join(verdicts),
            hint="use the likelihood grader, a stronger teacher or a function",
        )


def _reason(verdicts: list[str]) -> str:
    """Return the words before the score, or else behind it, of the first verdict with any."""
    for verdict in verdicts:
        for words in _SCORE_LINE.split(verdict, maxsplit=1):
            if any(map(str.isalpha, words)):
                return words.strip()
    return "The teacher gave no reason."
