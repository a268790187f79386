"""Memory for training: local models sleep and wake, and others are left alone."""

import asyncio

from reflectory.models.local import LocalModel
from reflectory.models.protocol import Request, SamplingParameters, Segment
from reflectory.models.sleeping import sleeping
from reflectory.testing.models import ScriptedModel
from reflectory.testing.tiny import save_tiny_model

REQUEST = Request(
    segments=(Segment(text="What is it?"),),
    role="student.answer",
    sampling=SamplingParameters(max_tokens=8, temperature=0.0),
)


class Wrapped:
    def __init__(self, inner):
        self.inner = inner


def test_a_local_model_gives_its_weights_back_and_answers_again(tmp_path):
    async def story():
        base = save_tiny_model(tmp_path / "tiny")
        model = LocalModel.load(base, device="cpu", dtype="float32")
        before = await model.complete(REQUEST)
        engine = model._engine
        async with sleeping([Wrapped(model), model, ScriptedModel(["x"])]):
            assert engine._asleep and engine._model is None
        after = await model.complete(REQUEST)
        assert not engine._asleep
        assert after.text == before.text
        await model.aclose()

    asyncio.run(story())


def test_a_call_inside_the_block_is_answered(tmp_path):
    async def story():
        base = save_tiny_model(tmp_path / "tiny")
        model = LocalModel.load(base, device="cpu", dtype="float32")
        async with sleeping([model]):
            completion = await model.complete(REQUEST)
        assert completion.usage.completion_tokens > 0
        await model.aclose()

    asyncio.run(story())
