"""A question, its answer, a constant one, and the passages that hold the answer."""

from reflectory.types import Passage


def passage(text: str, title: str = "") -> Passage:
    return Passage(id=text[:8], document_id="d", title=title, text=text, start=0, end=len(text))


QUESTION = "Who built the apparatus that extracted the drug?"
ANSWER = "Norman Heatley"
CONSTANT = "The answer can be found in the documents."
PASSAGES = [
    passage("Howard Florey took up the old paper in 1939. Norman Heatley built the apparatus."),
    passage("In 1941 a policeman got the drug. Production began in the United States.", "Oxford"),
]
