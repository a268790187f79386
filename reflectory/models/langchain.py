"""Any LangChain chat model as a model of this package.

langchain_core is imported inside the functions; who hands over a chat model
has imported it already.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from reflectory.config.remote import RemoteConfig
from reflectory.errors import BackendError, ModelError, UnsupportedCapability
from reflectory.models.clients import plain_client
from reflectory.models.gate import Calling, Gate
from reflectory.models.messages import completion_of, messages_of
from reflectory.models.pacing import exhausted_for_s
from reflectory.models.protocol import (
    Capability,
    Completion,
    Request,
    SamplingParameters,
    ScoreRequest,
    Scores,
    Segment,
)
from reflectory.models.provider_errors import (
    identity_of,
    secrets_of,
    status_of,
    translate,
    translated,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from reflectory.models.server_lora import ServedAdapter

logger = logging.getLogger(__name__)

_FIELDS = {
    "max_tokens": ("max_tokens", "max_output_tokens", "num_predict", "max_new_tokens"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "seed": ("seed",),
}
"""What chat models call the sampling parameters."""

_PING = Request(
    segments=(Segment(text="Say yes."),),
    role="ping",
    sampling=SamplingParameters(max_tokens=16),
)
"""Asked when it is not clear whether the server is away or one request breaks it."""


class LangChainModel:
    """Speaks through a LangChain chat model.

    Sampling parameters are set where the chat model has a field for them and
    are left to its own defaults elsewhere. A parameter that the server calls
    unsupported (reasoning models fix the temperature) is logged once and left
    out from then on.

    There is no ``Capability.SEED``: a seed is passed on where there is a field,
    but servers promise no more than an attempt.

    The limits of ``remote`` hold for the calls of this object, on all event loops
    together; calls wait in the order in which they were made. Where the server asks
    for a wait (429, ``Retry-After``), all of them wait, and where it fails again and
    again they pause (:mod:`reflectory.models.circuit`). A request's deadline counts
    from the moment it was made, waiting included, and a call that is cancelled leaves
    its place at once. The chat model's own repetitions are switched off where that is
    possible: they would not keep to the limits.

    Args:
        chat_model: The chat model; closing it remains the caller's business.
        name: Takes the place of class and settings in the fingerprint.
        adapter: What the server must be told with every request, for a LoRA
            adapter or for none; an adapter's hash becomes part of the fingerprint.
        remote: Limits, repetitions and pauses; the defaults when ``None``.
        omit: Names of sampling parameters that are never sent.
    """

    def __init__(
        self,
        chat_model: BaseChatModel,
        *,
        name: str | None = None,
        adapter: ServedAdapter | None = None,
        remote: RemoteConfig | None = None,
        omit: Collection[str] = (),
    ) -> None:
        self._chat_model = plain_client(adapter.applied_to(chat_model) if adapter else chat_model)
        self._fingerprint = f"langchain:{name}" if name else identity_of(chat_model)
        if adapter and adapter.digest:
            self._fingerprint += f"+adapter@{adapter.digest}"
        self._secrets = secrets_of(chat_model)
        self._omitted = set(omit) | set(getattr(chat_model, "disabled_params", None) or ())
        self._remote = remote or RemoteConfig()
        self._gate = Gate(self._fingerprint, self._remote, ping=self._calling(_PING))
        self._closed = False

    @property
    def fingerprint(self) -> str:
        """Class, model and settings, without keys and without anybody's address."""
        return self._fingerprint

    @property
    def capabilities(self) -> frozenset[Capability]:
        """None: chat models show only text, and cannot be made to begin with given words."""
        return frozenset()

    @property
    def context_window(self) -> int | None:
        """Most input tokens, where the chat model knows; else ``None``."""
        profile = getattr(self._chat_model, "profile", None)
        known = profile.get("max_input_tokens") if isinstance(profile, dict) else None
        window = known or getattr(self._chat_model, "num_ctx", None)
        return int(window) if isinstance(window, int) else None

    async def complete(self, request: Request) -> Completion:
        """Continue the prompt of ``request``.

        Raises:
            UnsupportedCapability: The request has a prefill.
            ModelError: It was closed.
            AccessRefused: Key, permission, account or model name are at fault.
            ServerUnavailable: The server gave no answer for too long.
            BackendError: Anything else at the server's side; ``retryable`` when the
                repetitions were not enough, and when the deadline passed.
        """
        if request.prefill:
            raise UnsupportedCapability(
                f"{self._fingerprint} cannot begin its completion with given words",
                hint="ask only models that declare Capability.PREFILL for that",
            )
        if self._closed:
            raise ModelError(f"{self._fingerprint} was closed", hint="resolve the model again")
        try:
            async with asyncio.timeout(request.deadline_s):
                return await self._gate.call(self._calling(request))
        except TimeoutError:
            raise BackendError(
                f"{self._fingerprint}: no answer within {request.deadline_s:g} s",
                hint="allow more time, or let fewer calls run at once",
            ) from None

    async def score(self, request: ScoreRequest) -> Scores:
        """Refuse: chat models do not show probabilities.

        Raises:
            UnsupportedCapability: Always.
        """
        raise UnsupportedCapability(
            f"{self._fingerprint} shows only text, not probabilities",
            hint="use a local model where texts are scored, or the spoken grader",
        )

    def count_tokens(self, text: str) -> int:
        """Return how many tokens ``text`` has; a quarter of its characters where unknown.

        LangChain's own counting is not asked: for many models it downloads
        another model's tokenizer.
        """
        tokenize = getattr(self._chat_model, "custom_get_token_ids", None)
        return len(tokenize(text)) if tokenize is not None else math.ceil(len(text) / 4)

    async def aclose(self) -> None:
        """Refuse further calls; the chat model itself belongs to the caller."""
        self._closed = True

    def _calling(self, request: Request) -> Calling:
        """Return a request as the gate sees it."""
        prompt = sum(self.count_tokens(segment.text) for segment in request.segments)
        deadline_s = request.deadline_s
        return Calling(
            lambda: self._in_time(request),
            tokens=prompt + request.sampling.max_tokens,
            seed=request.seed,
            give_up_at=None if deadline_s is None else self._gate.clock() + deadline_s,
        )

    async def _in_time(self, request: Request) -> Completion:
        """Ask once; the time-out covers the whole answer, however slowly its bytes come."""
        try:
            async with asyncio.timeout(self._remote.timeout_s):
                return await self._call(request)
        except TimeoutError:
            raise BackendError(
                f"{self._fingerprint}: no answer within {self._remote.timeout_s:g} s",
                hint="raise remote.timeout_s, or let fewer calls run at once",
            ) from None

    async def _call(self, request: Request) -> Completion:
        """Ask once; again without a parameter that the server says it does not support."""
        messages = messages_of(request)
        for _ in range(len(_FIELDS) + 2):
            chat_model = self._chat_model
            fields = self._sampling_fields(request)
            if fields:
                # A copy with its fields set works for every provider; keyword
                # arguments of a call mean different things to different ones.
                chat_model = chat_model.model_copy(update=fields)
            stop = [] if "stop" in self._omitted else list(request.sampling.stop)
            options: dict[str, Any] = {"stop": stop[:4]} if stop else {}
            try:
                message = await chat_model.ainvoke(messages, **options)
            except Exception as error:  # noqa: BLE001 - providers share no base class
                refused = self._refused(error, {*fields, *options})
                if refused is None:
                    raise translate(error, self._fingerprint, self._secrets) from None
                logger.warning("%s does not take %s; it is left out", self._fingerprint, refused)
                self._omitted.add(refused)
                continue
            self._gate.hold(exhausted_for_s(message.response_metadata.get("headers") or {}))
            with translated(self._fingerprint, self._secrets):
                return completion_of(message, request)
        raise BackendError(f"{self._fingerprint} refuses every parameter", hint="", retryable=False)

    def _sampling_fields(self, request: Request) -> dict[str, Any]:
        """Return the fields of the chat model that the request sets."""
        sampling = request.sampling
        wanted: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": request.seed,
        }
        # 1 means "leave it alone", and some servers refuse it beside a temperature.
        wanted |= {"top_p": sampling.top_p} if sampling.top_p < 1.0 else {}
        if sampling.repetition_penalty != 1.0:
            wanted["repetition_penalty"] = sampling.repetition_penalty
        known = type(self._chat_model).model_fields
        fields = {
            next((field for field in _FIELDS[parameter] if field in known), ""): value
            for parameter, value in wanted.items()
            if parameter not in self._omitted
        }
        return {f: v for f, v in fields.items() if f and f not in self._omitted}

    def _refused(self, error: Exception, sent: Collection[str]) -> str | None:
        """Return the sampling parameter that the server calls unsupported, if it names one."""
        if status_of(error) not in (400, 422):
            return None
        said = str(error).lower()
        if not any(
            w in said for w in ("unsupported", "not support", "not permitted", "extra_forb")
        ):
            return None
        # The completion limit bounds cost and time, so it is never dropped.
        droppable = sorted(set(sent) - set(_FIELDS["max_tokens"]))
        return next((name for name in droppable if name in said), None)
