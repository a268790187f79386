"""Chat models without what their clients do by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def plain_client(chat_model: BaseChatModel) -> BaseChatModel:
    """Return a chat model that asks once and shows the headers of answers.

    Clients repeat failed requests by themselves, twice by default. Nobody else sees
    these requests, so no limit would hold for them.

    Args:
        chat_model: Left as it is; where nothing has to be changed it is returned.
    """
    known = type(chat_model).model_fields
    changes: dict[str, Any] = {}
    if "max_retries" in known:
        changes["max_retries"] = 0
    if "include_response_headers" in known:
        changes["include_response_headers"] = True
    # OpenAI's client is made when the chat model is, and has read the number already.
    root: Any = getattr(chat_model, "root_async_client", None)
    if hasattr(root, "with_options"):
        changes["root_async_client"] = root.with_options(max_retries=0)
        changes["async_client"] = changes["root_async_client"].chat.completions
    return chat_model.model_copy(update=changes) if changes else chat_model
