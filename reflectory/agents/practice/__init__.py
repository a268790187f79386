"""What a student practises on: questions that the teacher writes from the documents."""

from reflectory.agents.practice.drafts import Draft, Drafter
from reflectory.agents.practice.gaps import gaps_in
from reflectory.agents.practice.writing import PracticeSet, write_practice

__all__ = ["Draft", "Drafter", "PracticeSet", "gaps_in", "write_practice"]
