"""What the tests of served adapters share: how one is made, and what PEFT says with it."""

import asyncio
from pathlib import Path
from typing import Any

import torch

from reflectory.config.methods import MethodConfig
from reflectory.models.engine.rendering import render
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Request, SamplingParameters, Segment
from reflectory.testing.tiny import tiny_tokenizer
from reflectory.training.methods import add_adapter, own_randomness, save_adapter

METHODS = ("lora", "dora", "ia3", "prefix", "prompt", "p-tuning", "bitfit")
TOKENIZER = tiny_tokenizer()


def shaken(model: Any, folder: Path, config: MethodConfig, *, seed: int = 1) -> Path:
    """Save an adapter that is far from its beginning, so that it changes every answer."""
    with own_randomness(seed):
        adapted = add_adapter(model, config)
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.data.add_(torch.randn_like(weight) * (0.5 if weight.ndim > 1 else 0.2))
    folder.mkdir()
    save_adapter(adapted, folder, base_name="base")
    return folder


def plain(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def request(text: str, *, tokens: int = 8, documents: str = "ab cd ef") -> Request:
    system = Segment(text="You answer.", speaker="system", shared=True)
    return Request(
        segments=(system, Segment(text=documents, shared=True), Segment(text=text)),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=tokens),
    )


def load(base: Path, **how: Any) -> LocalModel:
    return LocalModel.load(base, device="cpu", dtype="float32", **how)


def peft_says(base: Path, adapter: Path, call: Request) -> str:
    from peft import PeftModel

    model = PeftModel.from_pretrained(plain(base), str(adapter)).eval()
    ids = torch.tensor([render(TOKENIZER, call.segments).token_ids])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=call.sampling.max_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return str(TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


async def answers(model: LocalModel, calls: list[Request]) -> list[str]:
    return [one.text for one in await asyncio.gather(*map(model.complete, calls))]
