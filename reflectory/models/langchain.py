"""Any LangChain chat model as a model of this package.

langchain_core is imported inside the functions; who hands over a chat model
has imported it already.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from reflectory.errors import BackendError, ModelError, UnsupportedCapability
from reflectory.models.messages import completion_of, messages_of
from reflectory.models.protocol import (
    Capability,
    Completion,
    Request,
    ScoreRequest,
    Scores,
    derive_seed,
)
from reflectory.models.provider_errors import (
    identity_of,
    secrets_of,
    status_of,
    translate,
    translated,
)
from reflectory.models.slots import Slots

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

_LONGEST_WAIT_S = 60.0


class LangChainModel:
    """Speaks through a LangChain chat model.

    Sampling parameters are set where the chat model has a field for them and
    are left to its own defaults elsewhere. A parameter that the server calls
    unsupported (reasoning models fix the temperature) is logged once and left
    out from then on.

    There is no ``Capability.SEED``: a seed is passed on where there is a field,
    but servers promise no more than an attempt.

    No more than ``max_concurrency`` calls of this object are under way at any
    time, on all event loops together; the others wait for a place in the order
    in which they were made. A request's deadline counts from the moment it was
    made, waiting included, and a call that is cancelled leaves its place at once.

    Args:
        chat_model: The chat model; closing it remains the caller's business.
        name: Takes the place of class and settings in the fingerprint.
        adapter: What the server must be told with every request, for a LoRA
            adapter or for none; an adapter's hash becomes part of the fingerprint.
        max_concurrency: Most calls at the same time.
        retries: How often a call that may succeed when repeated is repeated.
        backoff_s: Wait before the first repetition; doubled each time, with
            jitter drawn from the request's seed.
        omit: Names of sampling parameters that are never sent.
    """

    def __init__(
        self,
        chat_model: BaseChatModel,
        *,
        name: str | None = None,
        adapter: ServedAdapter | None = None,
        max_concurrency: int = 16,
        retries: int = 3,
        backoff_s: float = 0.5,
        omit: Collection[str] = (),
    ) -> None:
        if max_concurrency < 1 or retries < 0:
            raise ModelError(
                f"max_concurrency={max_concurrency}, retries={retries} make no sense",
                hint="use at least one call at a time, and zero or more retries",
            )
        self._chat_model = adapter.applied_to(chat_model) if adapter else chat_model
        self._fingerprint = f"langchain:{name}" if name else identity_of(chat_model)
        if adapter and adapter.digest:
            self._fingerprint += f"+adapter@{adapter.digest}"
        self._secrets = secrets_of(chat_model)
        self._retries = retries
        self._backoff_s = backoff_s
        self._omitted = set(omit) | set(getattr(chat_model, "disabled_params", None) or ())
        self._slots = Slots(max_concurrency)
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
            ModelError: Key, permission or model name are at fault.
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
            async with asyncio.timeout(request.deadline_s), self._slots:
                return await self._with_retries(request)
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

    async def _with_retries(self, request: Request) -> Completion:
        """Repeat what may succeed when repeated, waiting longer each time.

        The slot is kept while waiting, so that a server that asks for fewer
        calls gets fewer.
        """
        for attempt in range(self._retries + 1):
            try:
                return await self._call(request)
            except BackendError as error:
                wait = self._wait(request, attempt, error)
                if not error.retryable or attempt == self._retries or wait > _LONGEST_WAIT_S:
                    raise
                logger.info("%s; waiting %.1f s", error.message, wait)
            await asyncio.sleep(wait)
        raise BackendError(f"{self._fingerprint}: no attempt was made", hint="report this")

    def _wait(self, request: Request, attempt: int, error: BackendError) -> float:
        jitter = random.Random(derive_seed(request.seed, "retry", attempt)).uniform(0.5, 1.5)
        return max(self._backoff_s * 2.0**attempt * jitter, error.retry_after or 0.0)

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
