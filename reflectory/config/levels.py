"""The levels of difficulty l_1 to l_k."""

from __future__ import annotations

from pydantic import Field, field_validator

from reflectory.config.base import Settings


class Level(Settings):
    """One tier of difficulty l_j.

    Attributes:
        name: Unique among the levels of a loop; the row of the matrix.
        description: What a question of this level asks for; the teacher reads it.
        rubric: What a good answer to such a question has; the grader reads it.
        starters: Beginnings of a question of this level. A model that can be
            prefilled starts with one of them, which small models need.
    """

    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1)
    rubric: str = "The answer is correct, complete and supported by the documents."
    starters: tuple[str, ...] = ("What",)

    @field_validator("name", "description")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value.strip()


DEFAULT_LEVELS = (
    Level(
        name="basic",
        description="asks for one fact that a document states directly",
        rubric="The answer states the fact as a document gives it.",
        starters=("What", "Who", "When", "Where"),
    ),
    Level(
        name="intermediate",
        description="asks how two facts or events are connected",
        rubric="The answer names both facts and how they are connected.",
        starters=("How", "Which"),
    ),
    Level(
        name="advanced",
        description="asks for reasons, or compares what different documents say",
        rubric="The answer gives reasons and draws on more than one passage.",
        starters=("Why", "How do the documents"),
    ),
    Level(
        name="expert",
        description="asks what remains uncertain, what conflicts, or what follows",
        rubric="The answer weighs the evidence, names conflicts and says what follows.",
        starters=("What evidence", "Which claim"),
    ),
)

LEVELS_WITHOUT_DOCUMENTS = (
    Level(
        name="basic",
        description="asks for one thing that the response was told to have or to be",
        rubric="The answer names something that the instruction demands.",
        starters=("What", "Which", "How many", "How long"),
    ),
    Level(
        name="intermediate",
        description="asks where the response does one of these things",
        rubric="The answer names the part of the response that does it.",
        starters=("Where in the response", "Which part of the response"),
    ),
    Level(
        name="advanced",
        description="asks what the instruction demands that the response does not do",
        rubric="The answer names a demand that is not met, or says that there is none.",
        starters=("What demand", "Why does the response"),
    ),
    Level(
        name="expert",
        description="asks what has to change so that the response does everything",
        rubric="The answer says what to change, and that change meets a demand.",
        starters=("What has to change", "How would the response"),
    ),
)
"""What stands for the default levels, one for one, where there are no documents to ask about."""
