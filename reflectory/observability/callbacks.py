"""Calls of models that are none of LangChain's, told to LangChain's callbacks.

LangGraph's nodes reach LangSmith, and every other integration that listens to
LangChain's callbacks, by themselves, and so do LangChain's chat models. The local
engine would be missing: its calls are reported here as chat models' runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self
from uuid import uuid4

from reflectory.models.messages import messages_of
from reflectory.models.protocol import Completion, Model, Request, ScoreRequest, Scores


def is_reported_by_itself(model: Model) -> bool:
    """Return whether LangChain reports the calls of a model: it is one of its chat models.

    Args:
        model: The model, with what stands in front of it.
    """
    from reflectory.models.langchain import LangChainModel

    inner: Any = model
    while hasattr(inner, "inner"):
        inner = inner.inner
    return isinstance(inner, LangChainModel)


def listeners() -> Any | None:
    """Return LangChain's callbacks of the current node, ``None`` when nobody listens."""
    from langchain_core.runnables.config import var_child_runnable_config

    from reflectory.observability.nodes import NodeWatcher

    config = var_child_runnable_config.get()
    callbacks = None if config is None else config.get("callbacks")
    handlers: Sequence[Any] = getattr(callbacks, "handlers", ())
    heard = any(not isinstance(h, NodeWatcher) and not h.ignore_chat_model for h in handlers)
    return callbacks if heard else None


def are_configured() -> bool:
    """Return whether a graph that is run now would tell anybody's callbacks of its nodes.

    LangSmith's tracing, and whatever else has put a handler around everything that
    LangChain runs, or around what is being run now.
    """
    from langchain_core.callbacks import AsyncCallbackManager
    from langchain_core.runnables.config import ensure_config

    from reflectory.observability.nodes import NodeWatcher

    manager = AsyncCallbackManager.configure(ensure_config().get("callbacks"))
    return any(not isinstance(handler, NodeWatcher) for handler in manager.handlers)


class ReportedCall:
    """One call that callbacks are told of; made by :meth:`begin`."""

    def __init__(self, managers: Sequence[Any]) -> None:
        self._managers = managers

    @classmethod
    async def begin(cls, callbacks: Any, request: Request | ScoreRequest, model: str) -> Self:
        """Say that a call begins.

        Args:
            callbacks: From :func:`listeners`.
            request: What is asked.
            model: Fingerprint of what is asked.
        """
        parameters: dict[str, Any] = {"model": model, "role": request.role}
        if isinstance(request, Request):
            parameters |= {
                **request.sampling.model_dump(mode="json"),
                "seed": request.seed,
                "prefill": request.prefill,
            }
            messages = messages_of(request)
        else:
            asked = Request(segments=request.segments, role=request.role)
            parameters["continuations"] = list(request.continuations)
            messages = messages_of(asked)
        manager = callbacks.copy()
        manager.add_metadata(
            {"ls_provider": "reflectory", "ls_model_name": model, "ls_model_type": "chat"}
        )
        managers = await manager.on_chat_model_start(
            {"name": request.role, "id": ["reflectory", request.role]},
            [messages],
            run_id=uuid4(),
            invocation_params=parameters,
            name=request.role,
        )
        return cls(managers)

    async def end(self, answer: Completion | Scores, *, cached: bool) -> None:
        """Say how it ended.

        Args:
            answer: What the model said.
            cached: Whether it was not asked for it.
        """
        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration, LLMResult

        if isinstance(answer, Completion):
            text, finish = answer.text, answer.finish
        else:
            text = "\n".join(f"{c.total:.4f}" for c in answer.continuations)
            finish = "stop"
        usage = answer.usage
        message = AIMessage(
            content=text,
            usage_metadata={
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                "input_token_details": {"cache_read": usage.reused_tokens},
            },
            response_metadata={"finish_reason": finish, "cached": cached},
        )
        generation = ChatGeneration(message=message, generation_info={"finish_reason": finish})
        for manager in self._managers:
            await manager.on_llm_end(LLMResult(generations=[[generation]]))

    async def fail(self, error: BaseException) -> None:
        """Say that it failed."""
        for manager in self._managers:
            await manager.on_llm_error(error)
