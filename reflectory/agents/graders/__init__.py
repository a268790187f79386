"""Graders: what gives an answer its score and its reason."""

from reflectory.agents.graders.function import FunctionGrader
from reflectory.agents.graders.protocol import Grader, GradingTask
from reflectory.agents.graders.spoken import SpokenGrader

__all__ = ["FunctionGrader", "Grader", "GradingTask", "SpokenGrader"]
