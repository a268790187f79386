"""A transformer of a few thousand weights, so that no test needs a download.

It is a real Llama with a real tokenizer, built in memory; only what it says
means nothing. Importing this module is cheap; torch and transformers are loaded
when a model is built.
"""

from __future__ import annotations

import itertools
import string
from pathlib import Path
from typing import Any

from reflectory.errors import UserError

SPECIAL_TOKENS = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>")
"""Ids 0 to 3: padding, beginning and end of a message, unknown."""

SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
"""Special tokens and one token per byte."""

_PAIRS = tuple(map("".join, itertools.product(string.ascii_lowercase, repeat=2)))
_COMMON_PAIRS = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as many instruction-tuned models have it."""


def tiny_tokenizer(vocab_size: int = 300) -> Any:
    """Return a byte-level tokenizer with a ChatML template.

    Any text survives encoding and decoding. Besides bytes it knows pairs of
    small letters, so that, as in real tokenizers, what follows a text can change
    its last token.

    Args:
        vocab_size: Number of tokens, from 260 to 936.

    Raises:
        UserError: The number of tokens is out of range.
    """
    largest = SMALLEST_VOCABULARY + len(_PAIRS)
    if not SMALLEST_VOCABULARY <= vocab_size <= largest:
        raise UserError(
            f"a tiny vocabulary of {vocab_size} tokens cannot be made",
            hint=f"choose from {SMALLEST_VOCABULARY} to {largest}",
        )
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    common = _COMMON_PAIRS.split()
    pairs = [*common, *(pair for pair in _PAIRS if pair not in common)]
    pairs = pairs[: vocab_size - SMALLEST_VOCABULARY]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *letters, *pairs])}
    backend = Tokenizer(models.BPE(vocabulary, [(pair[0], pair[1]) for pair in pairs]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|unk|>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(
    seed: int = 0, vocab_size: int = 300, *, context_window: int = 2048
) -> tuple[Any, Any]:
    """Return a Llama of two layers with random weights, and its tokenizer.

    It is on the CPU, in float32, in evaluation mode, and the same for the same
    seed. Torch's global generator is left as it was.

    Args:
        seed: Seed of the weights.
        vocab_size: Number of tokens, from 260 to 936.
        context_window: Most tokens of prompt and completion.

    Returns:
        A ``LlamaForCausalLM`` (hidden size 32, 4 heads, 2 of them for keys and
        values) and a ``PreTrainedTokenizerFast``.

    Raises:
        UserError: The number of tokens is out of range.
    """
    tokenizer = tiny_tokenizer(vocab_size)
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_window,
        # Large enough that the next token depends on the prompt and is clear.
        initializer_range=0.3,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.to(torch.float32).eval(), tokenizer


def save_tiny_model(
    folder: str | Path, seed: int = 0, vocab_size: int = 300, *, context_window: int = 2048
) -> Path:
    """Save a tiny model and its tokenizer as a folder that transformers can load.

    Args:
        folder: Made when it is not there.
        seed: As for :func:`tiny_model`.
        vocab_size: As for :func:`tiny_model`.
        context_window: As for :func:`tiny_model`.

    Returns:
        The folder.
    """
    model, tokenizer = tiny_model(seed, vocab_size, context_window=context_window)
    path = Path(folder)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
