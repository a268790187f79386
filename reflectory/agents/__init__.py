"""The teacher and the student: what they are told, what they say, how it is read."""

from reflectory.agents.prompts import PromptSet
from reflectory.agents.student import Student, answer_segments
from reflectory.agents.teacher import Teacher

__all__ = ["PromptSet", "Student", "Teacher", "answer_segments"]
