"""What the tests of the call cache share: a request, and a call that is put."""

from reflectory.models.protocol import Completion, Request, Segment, Usage


def ask(text="hello", role="student.answer", **fields):
    segments = (Segment(text="documents " * 200, shared=True), Segment(text=text))
    return Request(segments=segments, role=role, **fields)


def put(cache, key, text="said", role="student.answer", request=None):
    response = Completion(text=text, usage=Usage(prompt_tokens=5, completion_tokens=3))
    return cache.put(
        key,
        kind="complete",
        role=role,
        model="m",
        request=(request or ask()).content(),
        response=response.model_dump(mode="json"),
        seconds=0.5,
    )
