"""One request, and how a chat model is asked it."""

import asyncio

from reflectory.models.protocol import Request, Segment

KEY = "sk-test-0123456789abcdef"
SEGMENTS = (
    Segment(text="You are a student.", speaker="system", shared=True),
    Segment(text="The documents.", shared=True),
    Segment(text="The question."),
)


def request(**changes) -> Request:
    return Request(**{"segments": SEGMENTS, "role": "student.answer", **changes})


def ask(model, **changes):
    return asyncio.run(model.complete(request(**changes)))
