"""What the tests of graders share: a task, and models whose likelihoods follow a rule."""

from collections.abc import Callable

from reflectory.agents import PromptSet
from reflectory.agents.citations import content_words
from reflectory.agents.graders import GradingTask
from reflectory.agents.graders.cases import packaged_cases
from reflectory.models.protocol import Capability, ScoreRequest, content_hash
from reflectory.testing.models import ScriptedModel
from reflectory.types import Passage

PROMPTS = PromptSet.with_replacements()
SCORE = frozenset({Capability.SCORE})
Likelihood = Callable[[ScoreRequest, str], float]


def passage(number: int, text: str) -> Passage:
    return Passage(id=f"p{number}", document_id=f"d{number}", text=text, start=0, end=len(text))


CONTEXT = (passage(1, "Alexander Fleming saw the mould in London in 1928."),)
EXTRA = (passage(2, "Norman Heatley built the apparatus in Oxford."),)
TASK = GradingTask("Who saw the mould in London?", "Alexander Fleming", "", CONTEXT, EXTRA)


def scoring(likelihood: Likelihood | None = None, name: str = "scripted") -> ScriptedModel:
    return ScriptedModel({}, name=name, capabilities=SCORE, score=likelihood)


LABELS = {"question", "answer"}


def by_overlap(request: ScoreRequest, text: str) -> float:
    """A model to which words are likely that it has just read, as they are to every model.

    What only marks the parts of a prompt makes nothing likelier.
    """
    read = set(content_words(" ".join(s.text for s in request.segments))) - LABELS
    words = content_words(text)
    known = sum(word in read for word in words) / len(words) if words else 0.0
    return -0.5 - 3.0 * (1.0 - known)


KNOWN = {(c.task.question, c.task.answer): c.right for c in packaged_cases()}
QUESTIONS = {PROMPTS.fill("student.answer", question=question): question for question, _ in KNOWN}


def by_knowledge(request: ScoreRequest, text: str) -> float:
    """A model that knows what is right when it has read the documents and the question."""
    question = QUESTIONS.get(request.segments[-1].text, "")
    right = len(request.segments) > 2 and KNOWN.get((question, text), False)
    noise = int(content_hash(text, question)[:4], 16) / 2**16
    return (-0.5 if right else -3.0) - noise
