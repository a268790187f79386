"""The local engine on the default language model: the same words by every way."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reflectory.models.engine.rendering import prompt_text
from reflectory.models.local import LocalModel
from reflectory.models.protocol import (
    Completion,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
)

pytestmark = pytest.mark.slow

DOCUMENT = (
    "The crater Korolev lies near the north pole of Mars. Mars Express photographed it in 2018. "
    "It is 82 kilometres wide and filled with water ice that is about two kilometres thick. "
) * 4
SHARED = (
    Segment(text="You answer from the documents.", speaker="system", shared=True),
    Segment(text=DOCUMENT, shared=True),
)
QUESTIONS = (
    "How wide is the crater?",
    "What fills the crater, and how thick is it? Answer in one sentence.",
    "Which mission photographed it?",
    "Where does it lie?",
)


@pytest.fixture
def folder(language_model: Path) -> Path:
    return language_model


def requests(tokens: int = 16, **how: Any) -> list[Request]:
    return [
        Request(
            segments=(*SHARED, Segment(text=question)),
            role="student.answer",
            sampling=SamplingParameters(max_tokens=tokens, **how),
            seed=i,
        )
        for i, question in enumerate(QUESTIONS)
    ]


def ask(model: LocalModel, calls: list[Request]) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        try:
            return list(await asyncio.gather(*map(model.complete, calls)))
        finally:
            await model.aclose()

    return asyncio.run(all_of_them())


def test_float32_is_greedy_generate_in_and_out_of_batches(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    calls = requests()
    load = {"device": "cpu", "dtype": "float32"}
    alone = ask(LocalModel.load(folder, **load), calls)
    batched = ask(LocalModel.load(folder, batch_invariant=False, **load), calls)
    assert [c.text for c in alone] == [c.text for c in batched]
    assert sum(c.usage.reused_tokens for c in batched) > 300

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for call, answer in zip(calls[:2], alone, strict=False):
        text = prompt_text(tokenizer, call.segments)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=16, do_sample=False)
        new = out[0, ids["input_ids"].shape[1] :]
        assert answer.text == tokenizer.decode(new, skip_special_tokens=True).strip()


def test_sampled_float32_text_depends_on_the_seed_only(folder: Path) -> None:
    calls = requests(temperature=0.8, top_p=0.9, repetition_penalty=1.1)
    model = LocalModel.load(folder, device="cpu", dtype="float32")
    first = ask(model, calls)
    again = ask(LocalModel.load(folder, device="cpu", dtype="float32"), calls[::-1])
    assert [c.text for c in first] == [c.text for c in again[::-1]]


def test_scores_know_the_right_answer_in_both_formats(folder: Path) -> None:
    texts = ("It is 82 kilometres wide.", "It is 17 kilometres wide.", "Bananas are yellow.")
    call = ScoreRequest(segments=requests()[0].segments, continuations=texts, role="grade")

    async def score(dtype: Any) -> list[float]:
        model = LocalModel.load(folder, device="cpu", dtype=dtype)
        scores = await model.score(call)
        await model.aclose()
        return [c.mean for c in scores.continuations]

    single, half = asyncio.run(score("float32")), asyncio.run(score("bfloat16"))
    assert single[0] > single[1] > single[2]
    # bfloat16 rounds away 0.05 per token (root mean square, measured).
    assert np.allclose(single, half, atol=0.15)


def test_integers_are_nearly_the_model(folder: Path) -> None:
    call = ScoreRequest(
        segments=(Segment(text="Describe the crater."),), continuations=(DOCUMENT,), role="grade"
    )

    async def score(dtype: Any) -> np.ndarray:
        model = LocalModel.load(folder, device="cpu", dtype=dtype)
        scores = await model.score(call)
        await model.aclose()
        return np.array(scores.continuations[0].logprobs)

    exact, integers = asyncio.run(score("float32")), asyncio.run(score("int8"))
    # 0.14 root mean square on other texts (docs/performance.md).
    assert np.sqrt(np.mean((exact - integers) ** 2)) < 0.3


def test_sixteen_float32_calls_at_once_say_what_each_says_alone(folder: Path) -> None:
    calls = [
        Request(
            segments=(*SHARED[:1], Segment(text=f"Part {n}. {DOCUMENT}", shared=True), *one),
            role="student.answer",
            sampling=SamplingParameters(max_tokens=24),
        )
        for n in range(4)
        for one in [(Segment(text=question),) for question in QUESTIONS]
    ]
    load = {"device": "cpu", "dtype": "float32"}
    together = LocalModel.load(folder, batch_invariant=False, **load)
    alone = LocalModel.load(folder, **load)
    said, wanted = ask(together, calls), ask(alone, calls)
    flips = sum(a.text != b.text for a, b in zip(said, wanted, strict=True))
    print(f"{flips} flips, {together.engine_stats()['near_ties']} near ties")
    assert flips <= together.engine_stats()["near_ties"]
    assert sum(c.usage.reused_tokens for c in said) > 12 * 150
