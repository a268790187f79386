"""The vocabulary of a byte-level tokenizer in a GGUF file.

llama.cpp knows by name how a text is cut before tokens are merged. Here the name is
found by trial: the cut that gives the student's own tokens, on a text made from its
whole vocabulary, is the right one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gguf
from gguf import TokenType

from reflectory.errors import UnsupportedCapability
from reflectory.training.export.gguf_layout import CONVERTER

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_WORDS = {**_BYTES, "use_regex": True}
_PLAIN = {**_BYTES, "use_regex": False}
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(pattern: str) -> dict[str, Any]:
    cut = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [cut, _PLAIN]}


_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
CUTS: Mapping[str, dict[str, Any]] = {
    "gpt-2": _WORDS,
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _WORDS],
    },
    "llama-bpe": _split(rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"),
    "qwen2": _split(rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_REST}"),
}
"""By llama.cpp's name, as the library tokenizers writes it."""

_PROBE = (
    "The crater's floor isn't 3.7 billion years old; they'll say it WASN'T. "
    "I'VE seen 12345 of 2026-11-25, 0x1F and ½.\n\n\tdef f(x):\r\n    return x**2  # ok?   \n"
    "naïve façade, «quotes» … Привет мир, 你好世界, こんにちは 🪐🚀 a1b2c3  \n"
)
_PROBED_TOKENS = 4000


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Any, size: int) -> None:
    """Write tokens, merges, special tokens and the chat template.

    Args:
        writer: Of the file.
        tokenizer: A transformers tokenizer with a byte-level vocabulary.
        size: Rows of the embedding matrix; rows without a token are named as padding.

    Raises:
        UnsupportedCapability: The vocabulary is of another kind, or cuts texts in a way
            that none of the known names stands for.
    """
    backend = _backend(tokenizer)
    name = cut_of(tokenizer)
    tokens, kinds = _tokens(backend, tokenizer.get_vocab(), size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(_merges(backend))
    for kind in ("bos", "eos", "unk", "sep", "pad", "mask"):
        number = getattr(tokenizer, f"{kind}_token_id", None)
        if number is not None:
            getattr(writer, f"add_{kind}_token_id")(int(number))
    # Asked of the tokenizer itself: its files say it in three places, not always alike.
    ids = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(bool(ids) and ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(bool(ids) and ids[-1] == tokenizer.eos_token_id)
    writer.add_add_space_prefix(False)
    _add_chat_template(writer, tokenizer)


def cut_of(tokenizer: Any) -> str:
    """Return llama.cpp's name for how a tokenizer cuts texts before it merges.

    Raises:
        UnsupportedCapability: None of the known ones gives the tokenizer's own tokens.
    """
    from tokenizers import Tokenizer

    backend = _backend(tokenizer)
    probe = _PROBE + _vocabulary_text(tokenizer)
    own = tokenizer.backend_tokenizer.encode(probe, add_special_tokens=False).ids
    for name, cut in CUTS.items():
        other = Tokenizer.from_str(json.dumps({**backend, "pre_tokenizer": cut}))
        if other.encode(probe, add_special_tokens=False).ids == own:
            return name
    raise UnsupportedCapability(
        "this tokenizer cuts texts in a way that none of the names known here stands for "
        f"({', '.join(CUTS)})",
        hint=f"export it as merged and convert that folder with {CONVERTER}",
    )


def _backend(tokenizer: Any) -> dict[str, Any]:
    """Return what tokenizer.json holds, when its vocabulary is byte-level."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    backend: dict[str, Any] = {} if inner is None else json.loads(inner.to_str())
    model = backend.get("model", {})
    decoder = json.dumps(backend.get("decoder"))
    if model.get("type") != "BPE" or model.get("byte_fallback") or "ByteLevel" not in decoder:
        raise UnsupportedCapability(
            "GGUF files are written here for byte-level vocabularies (GPT-2's kind), "
            "this tokenizer has another one",
            hint=f"export it as merged and convert that folder with {CONVERTER}",
        )
    return backend


def _vocabulary_text(tokenizer: Any) -> str:
    """Return text with tokens from all over the vocabulary, so that merges of any kind show."""
    size = len(tokenizer)
    special = set(tokenizer.added_tokens_decoder)
    ids = [i for i in range(0, size, max(size // _PROBED_TOKENS, 1)) if i not in special]
    return "".join(tokenizer.decode([i]) for i in ids)


def _merges(backend: dict[str, Any]) -> list[str]:
    merges = backend["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _add_chat_template(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several, by name
        template = [{"name": name, "template": text} for name, text in template.items()]
    if template:
        writer.add_chat_template(template)


def _tokens(
    backend: dict[str, Any], vocabulary: Mapping[str, int], size: int
) -> tuple[list[str], list[int]]:
    """Return the tokens by id and the kind of each."""
    if max(vocabulary.values()) >= size:
        raise UnsupportedCapability(
            f"the tokenizer has the token {max(vocabulary.values())}, the model has rows for "
            f"{size}",
            hint="resize the model's embedding to its tokenizer and save both again",
        )
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [int(TokenType.UNUSED)] * size
    for token, number in vocabulary.items():
        tokens[number], kinds[number] = token, int(TokenType.NORMAL)
    for added in backend.get("added_tokens", ()):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        kinds[added["id"]] = int(kind)
    return tokens, kinds
