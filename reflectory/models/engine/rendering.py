"""From segments to the tokens that a local model reads.

Training uses :func:`messages_of` and :func:`prompt_text` too, so that a model is
trained on exactly the prompts that it will see. Imports no torch; a tokenizer is
handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from reflectory.errors import ModelError
from reflectory.models.control import control_tokens_of, without_control
from reflectory.models.protocol import Segment
from reflectory.models.thinking import CLOSE, ends_inside_thinking

_SYSTEM_ROLES: WeakKeyDictionary[Any, tuple[str, bool]] = WeakKeyDictionary()
"""What was found out about a tokenizer's template, which is asked for with every prompt."""

_PROBE = "\x00probe\x00"
"""Stands where unshared text would; no template or document begins with it."""

_KEPT = 512
"""Rendered prompts that are kept: samples, and answers to be scored, ask for the same again."""


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as the model reads it.

    Attributes:
        token_ids: All tokens of the prompt, the prefill included.
        shared_tokens: How many of the first tokens other calls with the same
            shared segments have too; 0 when nothing is shared.
        thinking: Whether the prompt ends inside a thinking block.
    """

    token_ids: tuple[int, ...]
    shared_tokens: int
    thinking: bool = False


def messages_of(segments: Sequence[Segment], *, system_role: bool = True) -> list[dict[str, str]]:
    """Return the chat messages that segments stand for.

    Args:
        segments: The prompt; system segments become one system message, user
            segments one user message, each joined by an empty line.
        system_role: False folds the system text into the user message, for
            chat templates that refuse or ignore a system message.

    Returns:
        Dictionaries with ``role`` and ``content``; no message without content.
    """
    system = [segment.text for segment in segments if segment.speaker == "system"]
    user = [segment.text for segment in segments if segment.speaker == "user"]
    if not system_role:
        system, user = [], system + user
    parts = (("system", system), ("user", user))
    return [{"role": role, "content": "\n\n".join(texts)} for role, texts in parts if texts]


def has_system_role(tokenizer: Any) -> bool:
    """Return whether the chat template shows the model a system message."""
    template = str(tokenizer.chat_template)
    known = _SYSTEM_ROLES.get(tokenizer)
    if known is None or known[0] != template:
        messages = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "x"}]
        try:
            shown = _PROBE in _apply(tokenizer, messages)
        except ModelError:
            shown = False
        known = _SYSTEM_ROLES[tokenizer] = (template, shown)
    return known[1]


def prompt_text(tokenizer: Any, segments: Sequence[Segment]) -> str:
    """Return the prompt as one text, up to where the completion begins.

    A tokenizer without a chat template gets the segments one after the other
    with a newline at the end, after the token that its texts begin with. Control
    tokens come from the template alone: those spelt out in a segment are broken.

    Raises:
        ModelError: The chat template refuses the messages.
    """
    control = control_tokens_of(tokenizer)
    segments = [
        segment.model_copy(update={"text": without_control(segment.text, control)})
        for segment in segments
    ]
    if getattr(tokenizer, "chat_template", None):
        system = any(segment.speaker == "system" for segment in segments)
        folds = system and not has_system_role(tokenizer)
        return _apply(tokenizer, messages_of(segments, system_role=not folds))
    body = "\n\n".join(segment.text for segment in segments) + "\n"
    return _beginning_token(tokenizer) + body


def render(
    tokenizer: Any,
    segments: Sequence[Segment],
    prefill: str = "",
    *,
    close_thinking: bool = False,
) -> RenderedPrompt:
    """Return the tokens of a prompt and how many of them are shared.

    Args:
        tokenizer: A transformers tokenizer.
        segments: The prompt, shared segments first.
        prefill: Words that the completion begins with.
        close_thinking: Close a thinking block that the template opens. A
            prefill always does, because its words are to be said, not thought.

    Raises:
        ModelError: The chat template refuses the messages.
    """
    text = prompt_text(tokenizer, segments)
    thinking = ends_inside_thinking(text[-40:])
    if thinking and (prefill or close_thinking):
        text = f"{text.rstrip()}\n{CLOSE}\n\n"
        thinking = False
    shared = _shared_characters(tokenizer, segments, text)
    whole = text + prefill
    if not tokenizer.is_fast:
        tokens = tokenizer(whole, add_special_tokens=False)["input_ids"]
        begun = tokenizer(whole[:shared], add_special_tokens=False)["input_ids"] if shared else []
        return RenderedPrompt(tuple(tokens), max(_common(tokens, begun) - 1, 0), thinking)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    inside = 0
    for _, end in encoded["offset_mapping"]:
        if end > shared:
            break
        inside += 1
    # One token less: in another call the last one may merge with what follows.
    return RenderedPrompt(tuple(encoded["input_ids"]), max(inside - 1, 0), thinking)


class Renderer:
    """Renders prompts with one tokenizer, the latest of them once.

    Args:
        tokenizer: A transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._kept = lru_cache(maxsize=_KEPT)(self._render)

    def __call__(
        self, segments: Sequence[Segment], prefill: str = "", *, close_thinking: bool = False
    ) -> RenderedPrompt:
        """Return what :func:`render` does.

        Raises:
            ModelError: The chat template refuses the messages.
        """
        template = str(getattr(self.tokenizer, "chat_template", None))
        return self._kept(template, tuple(segments), prefill, close_thinking)

    def _render(
        self, template: str, segments: Sequence[Segment], prefill: str, close_thinking: bool
    ) -> RenderedPrompt:
        del template  # part of the name only: it may be changed
        return render(self.tokenizer, segments, prefill, close_thinking=close_thinking)


def _shared_characters(tokenizer: Any, segments: Sequence[Segment], text: str) -> int:
    """Return how many first characters of ``text`` the shared segments decide.

    Templates trim, escape and reorder, so the place is not looked up but found
    by rendering the shared segments with something else behind them.
    """
    count = max((i + 1 for i, segment in enumerate(segments) if segment.shared), default=0)
    if count == 0:
        return 0
    other = prompt_text(tokenizer, [*segments[:count], Segment(text=_PROBE)])
    return _common(text, other)


def _common(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Return the length of the common beginning."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    return next(i for i in range(limit) if left[i] != right[i])


def _apply(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    import jinja2

    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except jinja2.TemplateError as error:
        raise ModelError(
            f"the chat template of this model refuses the prompt: {error}",
            hint="give it at least one user segment, or choose an instruction-tuned model",
        ) from error
    return str(text)


def _beginning_token(tokenizer: Any) -> str:
    """Return the token that the tokenizer itself puts before a text, if it does."""
    first = tokenizer("x")["input_ids"][:1]
    begins = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
    return str(tokenizer.bos_token) if begins else ""
