from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.models.local import LocalModel
from reflectory.testing.tiny import (
    SMALLEST_VOCABULARY,
    save_tiny_model,
    tiny_model,
    tiny_tokenizer,
)

TOKENIZER = tiny_tokenizer()


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokens = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    if not any(special in text for special in TOKENIZER.all_special_tokens):
        assert TOKENIZER.decode(tokens) == text


def test_pairs_of_letters_are_tokens() -> None:
    """So a text's last token can change with what follows, as in real tokenizers."""
    assert len(TOKENIZER("the", add_special_tokens=False)["input_ids"]) == 2
    assert TOKENIZER("t")["input_ids"] != TOKENIZER("th")["input_ids"][:1]


def test_same_seed_same_weights() -> None:
    first, other, different = tiny_model(3)[0], tiny_model(3)[0], tiny_model(4)[0]
    for key, value in first.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    assert not torch.equal(first.lm_head.weight, different.lm_head.weight)


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    tiny_model(5)
    assert torch.equal(torch.rand(1), expected)


def test_chat_template_is_chatml() -> None:
    text = TOKENIZER.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("size", [SMALLEST_VOCABULARY, 400, 936])
def test_vocabulary_has_the_size_asked_for(size: int) -> None:
    model, tokenizer = tiny_model(vocab_size=size)
    assert len(tokenizer) == size == model.lm_head.weight.shape[0]


@pytest.mark.parametrize("size", [SMALLEST_VOCABULARY - 1, 937])
def test_impossible_vocabulary_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=str(size)):
        tiny_tokenizer(size)


def test_saved_folder_loads(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "tiny", seed=7)
    model = LocalModel.load(folder, device="cpu", dtype="float32")
    assert model.fingerprint.startswith("tiny@")
    assert model.count_tokens("zq") == 2
    assert model.context_window == 2048
