"""The rows that a student is trained on, each with where it came from.

A row is what one of TRL's trainers reads plus its provenance:

========== ===================== ============================================
format     trainer               columns
========== ===================== ============================================
sft        ``SFTTrainer``        prompt, completion
dpo        ``DPOTrainer``        prompt, chosen, rejected, margin
kto        ``KTOTrainer``        prompt, completion, label
feedback   ``SDFTTrainer``,      prompt, privileged_context
           ``SDPOTrainer``
prompts    ``GRPOTrainer``       prompt, question, rubric, context, extra
========== ===================== ============================================

Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from pydantic import Field, field_validator

from reflectory.models.protocol import Segment
from reflectory.types import Passage, Record, Statement

Format = Literal["sft", "dpo", "kto", "feedback", "prompts"]
FORMATS: tuple[Format, ...] = ("sft", "dpo", "kto", "feedback", "prompts")

Source = Literal["self", "distilled", "manual"]
SOURCES: tuple[Source, ...] = ("self", "distilled", "manual")


class Message(Record):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class Provenance(Record):
    """Where a row came from and why it was accepted.

    Attributes:
        trajectory: Id of the trajectory; empty for a row that no loop made.
        what: ``response`` (R_t to the instruction) or ``answer`` (R[j,t] to a question).
        level: Level of the question; ``None`` for a response.
        iteration: t of the response or answer.
        question: What was asked, without the documents around it; empty where the prompt
            is all that is known.
        passages: Ids of the passages in the prompt, in order.
        cited: Ids of the passages that the completion rests on.
        statements: The sentences of the completion with the stretches of passages
            that support them; offsets count its text without citation marks.
        groundedness: Share of them that some passage supports, in [0, 1]; ``None``
            when it was not measured.
        models: Fingerprints of teacher, student, embedder and grader.
        grader: Name of the grader that gave the score; empty when there is none.
        score: G[t] of the response, or the score of the answer, in [0, 1]; ``None`` for
            a row that nobody graded.
        baseline: G[0] of the trajectory; ``None`` when R_0 could not be graded.
        source: Who wrote the completion, the three terms of Equation 5: ``self`` (the
            student), ``distilled`` (a stronger teacher) or ``manual`` (a person).
        origin: Which answer it is among the candidates to its question, as in
            :class:`~reflectory.types.practice.Candidate`; ``None`` when there were none.
        agreement: Share of the drawn samples that say the same, in [0, 1].
        round: The round of self-improvement that made it; ``None`` outside of rounds.
        place: File and line of a row that was read from a file of a person's.
    """

    trajectory: str = ""
    what: Literal["response", "answer"] = "response"
    level: str | None = None
    iteration: int = Field(default=0, ge=0)
    question: str = ""
    passages: tuple[str, ...] = ()
    cited: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    groundedness: float | None = Field(default=None, ge=0.0, le=1.0)
    models: dict[str, str] = Field(default_factory=dict)
    grader: str = ""
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    baseline: float | None = Field(default=None, ge=0.0, le=1.0)
    source: Source = "self"
    origin: Literal["loop", "sample", "condensed", "teacher"] | None = None
    agreement: float | None = Field(default=None, ge=0.0, le=1.0)
    round: int | None = Field(default=None, ge=0)
    place: str = ""


def _check_prompt(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    # Training rebuilds the prompt through the function that inference uses, which
    # knows one system message and one user message.
    if [m.role for m in messages] not in (["user"], ["system", "user"]):
        raise ValueError("a prompt is one user message, with a system message before it or not")
    return messages


def _check_reply(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if len(messages) != 1 or messages[0].role != "assistant" or not messages[0].content.strip():
        raise ValueError("must be one assistant message that is not blank")
    return messages


class TrainingRow(Record):
    """One example: after this prompt, say this.

    Attributes:
        kind: ``sft``.
        prompt: System and user message, as the student reads them when it answers.
        completion: One assistant message.
        provenance: Where it came from.
    """

    kind: Literal["sft"] = "sft"
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    provenance: Provenance

    _prompt = field_validator("prompt")(_check_prompt)
    _completion = field_validator("completion")(_check_reply)


class PreferenceRow(Record):
    """One comparison: after this prompt, rather say this than that.

    Attributes:
        kind: ``dpo``.
        prompt: As in :class:`TrainingRow`, with the documents of the chosen one.
        chosen: One assistant message, the best response by G.
        rejected: One assistant message, R_0.
        margin: G of the chosen minus G of the rejected response.
        provenance: Where the chosen one came from; its baseline is G of the rejected.
    """

    kind: Literal["dpo"] = "dpo"
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float = Field(ge=0.0, le=1.0)
    provenance: Provenance

    _prompt = field_validator("prompt")(_check_prompt)
    _replies = field_validator("chosen", "rejected")(_check_reply)


class LabelledRow(Record):
    """One judged example: after this prompt, this is (or is not) what to say.

    Attributes:
        kind: ``kto``.
        prompt: As in :class:`TrainingRow`.
        completion: One assistant message.
        label: Whether it is desirable.
        provenance: Where it came from.
    """

    kind: Literal["kto"] = "kto"
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool
    provenance: Provenance

    _prompt = field_validator("prompt")(_check_prompt)
    _completion = field_validator("completion")(_check_reply)


class FeedbackRow(Record):
    """A prompt, and what the student may read besides while it teaches itself.

    The student with the feedback before its eyes is the teacher of the student
    without it (feedback-conditioned self-distillation).

    Attributes:
        kind: ``feedback``.
        prompt: As in :class:`TrainingRow`.
        privileged_context: An earlier answer and the teacher's feedback on it; the name
            is that of TRL's column.
        provenance: Where the earlier answer came from, with its score.
    """

    kind: Literal["feedback"] = "feedback"
    prompt: tuple[Message, ...]
    privileged_context: str
    provenance: Provenance

    _prompt = field_validator("prompt")(_check_prompt)

    @field_validator("privileged_context")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        # TRL's SDFT stops at a missing one, and its SDPO passes over a blank one.
        if not text.strip():
            raise ValueError("must not be blank")
        return text


class PromptRow(Record):
    """A prompt that the student answers anew, and what its answer is judged by.

    Attributes:
        kind: ``prompts``.
        prompt: As in :class:`TrainingRow`.
        question: Q[j,t], or the instruction I.
        rubric: What a good answer has.
        context: C_t, in order.
        extra: What the question alone retrieved besides.
        provenance: Where the question came from.
    """

    kind: Literal["prompts"] = "prompts"
    prompt: tuple[Message, ...]
    question: str
    rubric: str = ""
    context: tuple[Passage, ...] = ()
    extra: tuple[Passage, ...] = ()
    provenance: Provenance

    _prompt = field_validator("prompt")(_check_prompt)


Row = TrainingRow | PreferenceRow | LabelledRow | FeedbackRow | PromptRow
ROW_TYPES: dict[Format, type[Row]] = {
    "sft": TrainingRow,
    "dpo": PreferenceRow,
    "kto": LabelledRow,
    "feedback": FeedbackRow,
    "prompts": PromptRow,
}


def source_of(origin: str | None, models: Mapping[str, str]) -> Source:
    """Return who wrote a completion: ``distilled`` when another model than the student did.

    Args:
        origin: Which answer it is among the candidates.
        models: Fingerprints by role; a teacher that is the student distils nothing.
    """
    wrote = models.get("teacher") if origin == "teacher" else models.get("student")
    return "self" if wrote == models.get("student") else "distilled"


class Prompter(Protocol):
    """Makes the student's prompt; the very function that inference uses.

    ``functools.partial(reflectory.agents.student.answer_segments, prompts)`` is one.
    """

    def __call__(
        self, question: str, context: Sequence[Passage], extra: Sequence[Passage] = (), /
    ) -> tuple[Segment, ...]:
        """Return the prompt.

        Args:
            question: Q[j,t], or the instruction I.
            context: C_t, in order.
            extra: What the question alone retrieved, in order.
        """
        ...


def assistant(content: str) -> tuple[Message, ...]:
    """Return one assistant message as a row holds it."""
    return (Message(role="assistant", content=content),)
