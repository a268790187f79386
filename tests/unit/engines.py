"""What the tests of the local engine share: a tiny model, and how it is asked."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from reflectory.models.local import LocalModel
from reflectory.models.protocol import Completion, Request, SamplingParameters, Segment
from reflectory.testing.tiny import tiny_model

MODEL, TOKENIZER = tiny_model(0)
SYSTEM = Segment(text="You answer from documents.", speaker="system", shared=True)


def request(text: str, document: str = "ab cd", *, tokens: int = 8, **how: Any) -> Request:
    return Request(
        segments=(SYSTEM, Segment(text=document, shared=True), Segment(text=text)),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=tokens, **how),
    )


def ask(model: LocalModel, *requests: Request) -> list[Completion]:
    """Ask all at once and close the model."""

    async def all_of_them() -> list[Completion]:
        try:
            return list(await asyncio.gather(*map(model.complete, requests)))
        finally:
            await model.aclose()

    return asyncio.run(all_of_them())


def endless(**settings_: Any) -> LocalModel:
    """A model that never says that it has finished."""
    model, tokenizer = tiny_model(0)
    model.generation_config.eos_token_id, tokenizer.eos_token = None, None
    return LocalModel(model, tokenizer, fingerprint="endless", **settings_)


def load(base: Path, **settings_: Any) -> LocalModel:
    return LocalModel.load(base, device="cpu", dtype="float32", batch_invariant=False, **settings_)


@contextmanager
def team(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
