"""From trajectories to rows that are worth learning: a selection by grades, then steps.

:func:`curate` selects, :func:`refine` takes out near-duplicates, what stands in evaluation
sets, and whatever else the configuration asks for. Nothing is dropped without being counted.
"""

from reflectory.training.curation.making import ECHO_F1, ROUNDING, cited_text
from reflectory.training.curation.outcome import Curation
from reflectory.training.curation.reading import completions_of, prompt_of, question_of
from reflectory.training.curation.refinement import refine, steps_for
from reflectory.training.curation.selection import REFUSED_FLAGS, curate
from reflectory.training.curation.steps import AnyRow, CurationStep, CurationTools, Outcome

__all__ = [
    "ECHO_F1",
    "REFUSED_FLAGS",
    "ROUNDING",
    "AnyRow",
    "Curation",
    "CurationStep",
    "CurationTools",
    "Outcome",
    "cited_text",
    "completions_of",
    "curate",
    "prompt_of",
    "question_of",
    "refine",
    "steps_for",
]
