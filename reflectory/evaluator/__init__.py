"""Does reflection help? Contenders answer the same questions with the same budget."""

from reflectory.evaluator.facade import Evaluator

__all__ = ["Evaluator"]
