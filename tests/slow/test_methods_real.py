"""Every method that a processor can train, on the default model: two steps, then answers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from reflectory.config import TrainingConfig
from reflectory.models.engine.loading import load_model, load_tokenizer
from reflectory.models.engine.rendering import render
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Request, SamplingParameters, Segment
from reflectory.training import Message, Provenance, TrainingRow, train_adapter
from reflectory.training.rows import assistant

METHODS = ("lora", "dora", "ia3", "prefix", "prompt", "p-tuning", "bitfit")
SYSTEM = "Answer from the documents in at most two sentences."
DOCUMENT = "[1] The lighthouse of Arken was built in 1883 by Maria Holt, who kept it for 40 years."
QUESTIONS = ("Who built the lighthouse?", "When was it built?", "How long did she keep it?")
RATES = {"lora": 2e-3, "dora": 2e-3, "ia3": 5e-2, "bitfit": 2e-2, "p-tuning": 2e-5}


@pytest.fixture(scope="module")
def served(language_model: Path) -> Any:
    model = LocalModel.load(language_model, device="cpu", dtype="float32")
    yield model
    asyncio.run(model.aclose())


def rows() -> list[TrainingRow]:
    answers = ("Maria Holt.", "In 1883.", "40 years.", "Arken.")
    return [
        TrainingRow(
            prompt=(
                Message(role="system", content=SYSTEM),
                Message(role="user", content=f"{DOCUMENT}\n\nQuestion: {question}"),
            ),
            completion=assistant(answer),
            provenance=Provenance(
                trajectory="t", what="response", iteration=0, grader="rule", score=0.8
            ),
        )
        for question, answer in zip((*QUESTIONS, "Where is it?"), answers, strict=True)
    ]


def call(question: str) -> Request:
    return Request(
        segments=(
            Segment(text=SYSTEM, speaker="system", shared=True),
            Segment(text=DOCUMENT, shared=True),
            Segment(text=f"Question: {question}"),
        ),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=16),
    )


def peft_generates(base: Path, adapter: Path, calls: list[Request]) -> list[str]:
    from peft import PeftModel

    tokenizer = load_tokenizer(base)
    model = load_model(base, torch.device("cpu"), torch.float32)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    said = []
    for one in calls:
        ids = torch.tensor([render(tokenizer, one.segments).token_ids])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=one.sampling.max_tokens,
                do_sample=False,
            )
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        said.append(str(text).strip())
    return said


@pytest.mark.parametrize("method", METHODS)
def test_two_steps_and_answers(
    language_model: Path, served: LocalModel, tmp_path: Path, method: str
) -> None:
    config = TrainingConfig(
        method=method,  # type: ignore[arg-type]
        learning_rate=RATES.get(method, 5e-3),
        max_steps=2,
        batch_size=4,
    )
    report = train_adapter(
        rows(), language_model, tmp_path / "adapter", config, device="cpu", dtype="float32"
    )
    assert report.losses[1] < report.losses[0]
    print(
        f"{method}: {report.manifest.trainable_parameters} parameters, "
        f"{report.trainable_fraction:.4%}, loss {report.losses[0]:.3f} to {report.losses[1]:.3f}"
    )
    calls = [call(question) for question in QUESTIONS]

    async def answer() -> list[str]:
        student = served.with_adapter(tmp_path / "adapter")
        said = [one.text for one in await asyncio.gather(*map(student.complete, calls))]
        again = await student.complete(calls[0])  # Everything but the end is kept from before.
        await student.aclose()
        assert again.text == said[0]
        return said

    said = asyncio.run(answer())
    assert said == peft_generates(language_model, tmp_path / "adapter", calls)
    assert any(said)
