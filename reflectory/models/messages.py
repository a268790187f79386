"""A prompt's segments as LangChain messages, and a message back as a completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reflectory.errors import BackendError
from reflectory.models.control import without_widespread_control
from reflectory.models.protocol import Completion, Request, Usage
from reflectory.models.thinking import split_thinking

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

_LONGEST_TEXT = 100_000
_LONGEST_TOKEN = 100
"""Characters; some servers know no limit, and what they say is welcome within reason."""


def messages_of(request: Request) -> list[BaseMessage]:
    """Return the prompt as messages; neighbours of one speaker become one message.

    A server puts its control tokens around them: those spelt out in a segment are broken.
    """
    from langchain_core.messages import HumanMessage, SystemMessage

    kinds = {"system": SystemMessage, "user": HumanMessage}
    runs: list[tuple[str, list[str]]] = []
    for segment in request.segments:
        if not runs or runs[-1][0] != segment.speaker:
            runs.append((segment.speaker, []))
        runs[-1][1].append(without_widespread_control(segment.text))
    return [kinds[speaker](content="\n\n".join(texts)) for speaker, texts in runs]


def completion_of(message: AIMessage, request: Request) -> Completion:
    """Return what a chat model said, with thinking apart and cut at the stop strings.

    Args:
        message: What LangChain returned.
        request: What was asked, with its stop strings and limit.

    Raises:
        BackendError: The provider's filter withheld the answer, or it is far longer than a
            server can have been asked for.
    """
    text, thought = _text_and_thinking(message)
    most = _LONGEST_TEXT + _LONGEST_TOKEN * request.sampling.max_tokens
    if len(text) > most:
        raise BackendError(
            f"an answer of {len(text)} characters came where {request.sampling.max_tokens} tokens "
            "were asked for",
            hint="does the server know the limit on new tokens?",
        )
    text, tagged = split_thinking(text)
    stopped = False
    for stop in request.sampling.stop:
        # Servers differ in which stop strings they honour; the contract does not.
        head, found, _ = text.partition(stop)
        text, stopped = head, stopped or bool(found)
    metadata = message.response_metadata
    reason = str(
        metadata.get("finish_reason")
        or metadata.get("stop_reason")
        or metadata.get("done_reason")
        or ""
    ).lower()
    if reason in ("content_filter", "safety", "refusal") and not text.strip():
        raise BackendError(
            f"the provider withheld the answer ({reason})",
            hint="look at the documents and the instruction, or take another model",
            retryable=False,
        )
    finish: Literal["stop", "length"] = "stop"
    if reason in ("length", "max_tokens", "max_output_tokens") and not stopped:
        finish = "length"
    return Completion(
        text=text,
        finish=finish,
        usage=_usage(message),
        thinking="\n\n".join(part for part in (thought, tagged) if part),
    )


def _text_and_thinking(message: AIMessage) -> tuple[str, str]:
    """Return the text blocks and the thinking blocks of a message, each joined."""
    thoughts = [str(message.additional_kwargs.get("reasoning_content") or "")]
    content = message.content
    if isinstance(content, str):
        return content, thoughts[0]
    texts: list[str] = []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") in ("thinking", "reasoning"):
            thoughts.append(str(block.get("thinking") or block.get("reasoning") or ""))
        elif isinstance(block.get("text"), str):
            texts.append(block["text"])
    return "".join(texts), "\n\n".join(thought for thought in thoughts if thought)


def _usage(message: AIMessage) -> Usage:
    usage = message.usage_metadata
    if usage is None:
        return Usage()
    return Usage(
        prompt_tokens=usage.get("input_tokens", 0),
        reused_tokens=usage.get("input_token_details", {}).get("cache_read", 0) or 0,
        completion_tokens=usage.get("output_tokens", 0),
    )
