"""The Modelfile by which Ollama runs an exported student.

Ollama has its own template language. The chat template of a model is Jinja, and the
two cannot be translated in general, so a template is recognised by what it writes.
"""

from __future__ import annotations

from typing import Any

from reflectory.errors import UnsupportedCapability

_LARGEST_CONTEXT = 8192
"""Ollama reserves memory for the whole context, so a window of 128k is not asked for."""

_CHATML = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""


def modelfile(tokenizer: Any, file: str, *, context_window: int, licence: str = "") -> str:
    """Return the text of the Modelfile.

    Args:
        tokenizer: The student's tokenizer, with its chat template.
        file: Name of the GGUF file, in the same folder.
        context_window: Most tokens of prompt and completion; Ollama's own default is
            shorter than the prompts with documents that the student was trained on.
        licence: Licence of the base; nothing is written when it is empty.

    Raises:
        UnsupportedCapability: The chat template does not write ChatML.
    """
    system = default_system(tokenizer)
    lines = [f"FROM ./{file}", f'TEMPLATE """{_CHATML}"""']
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<|im_start|>"',
        f"PARAMETER num_ctx {min(context_window, _LARGEST_CONTEXT)}",
    ]
    if licence:
        lines.append(f'LICENSE """{licence}"""')
    return "\n".join(lines) + "\n"


def default_system(tokenizer: Any) -> str:
    """Return the system message that a ChatML template puts in when none is given.

    Args:
        tokenizer: With the chat template.

    Returns:
        The message; empty when the template adds none.

    Raises:
        UnsupportedCapability: The template does not write ChatML.
    """
    talk = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": "third"},
    ]
    system = {"role": "system", "content": "zeroth"}
    if _written(tokenizer, [system, *talk]) != _chatml([system, *talk]):
        raise _not_chatml()
    plain = _written(tokenizer, talk)
    if not plain.endswith(_chatml(talk)):
        raise _not_chatml()
    before = plain.removesuffix(_chatml(talk))
    opening, closing = "<|im_start|>system\n", "<|im_end|>\n"
    message = before.removeprefix(opening).removesuffix(closing)
    if before and before != f"{opening}{message}{closing}":
        raise _not_chatml()
    # Three quotes would end the Modelfile's string.
    return message if '"""' not in message else message.replace('"""', "'''")


def _written(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise _not_chatml()
    import jinja2

    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise _not_chatml() from error


def _chatml(messages: list[dict[str, str]]) -> str:
    said = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return f"{said}<|im_start|>assistant\n"


def _not_chatml() -> UnsupportedCapability:
    return UnsupportedCapability(
        "a Modelfile can be written for chat templates that write ChatML; this student's does not",
        hint="export it as gguf and write a Modelfile with the model's own template",
    )
