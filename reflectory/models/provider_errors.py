"""What providers raise, told in this package's three kinds of error.

Every provider library has its own exceptions, and none may be imported here.
What they share is an HTTP status, LangChain's own error classes, and names.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any

from reflectory.errors import AccessRefused, BackendError, RateLimited, ReflectoryError
from reflectory.models.protocol import content_hash

_RETRY_STATUS = {408, 409, 425, 429}
_RETRY_NAMES = {
    "ModelRateLimitError",
    "ModelTimeoutError",
    "ModelConnectionError",
    "ModelAPIError",
    "APIConnectionError",
    "APITimeoutError",
    "InternalServerError",
    "RateLimitError",
    "ResourceExhausted",
    "ServiceUnavailable",
    "TransportError",
    "TimeoutException",
}
_REFUSED_NAMES = {
    "ModelAuthenticationError",
    "ModelPermissionDeniedError",
    "ModelNotFoundError",
    "AuthenticationError",
    "PermissionDeniedError",
    "NotFoundError",
}
_RATE_NAMES = {"ModelRateLimitError", "RateLimitError", "ResourceExhausted"}
_UNREADABLE_NAMES = {
    "JSONDecodeError",
    "UnicodeDecodeError",
    "ValidationError",
    "APIResponseValidationError",
    "AttributeError",
    "TypeError",
    "KeyError",
    "IndexError",
    "OutputParserException",
}
"""What clients raise over a body that is not what the protocol says."""

_SPENT = ("insufficient_quota", "exceeded your current quota", "billing")
_TOO_LARGE = ("request too large", "reduce the length")
_MODERATED = ("moderation", "flagged", "content policy", "content_policy", "safety")
_KEY = re.compile(
    r"(?i)\b(?:sk|pk|rk|key|gsk|xai|hf|AIza)[-_][\w*.-]{6,}"  # keys by their usual beginnings
    r"|\bAIza[\w-]{20,}"
    r"|(?<=bearer )\S+"
    r"|(?<=key=)[^\s&'\"]+"
    r"|(?<=://)[^\s/@]+:[^\s/@]+(?=@)"
)


def redact(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """Return ``text`` without the given secrets and without what looks like a key."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _KEY.sub("***", text)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception carries, if any."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code", "http_status"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def retry_after_of(error: BaseException) -> float | None:
    """Return the seconds of a ``Retry-After`` header: a number, or a date."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        date = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, date.timestamp() - time.time())
    return None


def translate(
    error: Exception, name: str, secrets: frozenset[str] = frozenset()
) -> ReflectoryError:
    """Return the error of this package that says the same.

    Args:
        error: What the provider's library raised.
        name: What was called, for the message.
        secrets: Keys that must not appear in the message.

    Returns:
        A :class:`~reflectory.errors.AccessRefused` when key, permission, account or
        model name are at fault, a :class:`~reflectory.errors.RateLimited` for rate limits,
        else a :class:`~reflectory.errors.BackendError` whose ``retryable`` is true for
        time-outs, lost connections, answers that could not be read and failures of the
        server.
    """
    if isinstance(error, ReflectoryError):
        return error
    status, names = status_of(error), {cls.__name__ for cls in type(error).__mro__}
    said = redact(" ".join(str(error)[:4000].split()), secrets)[:400]
    message = (
        f"{name}: {type(error).__name__}: {said}" if said else f"{name}: {type(error).__name__}"
    )
    lower = said.lower()
    if status == 429 or (status is None and names & _RATE_NAMES):
        return _rate_limited(message, lower, retry_after_of(error))
    retryable = (
        status in _RETRY_STATUS
        or (status is not None and status >= 500)
        or (status is None and bool(names & _RETRY_NAMES))
        or isinstance(error, TimeoutError | ConnectionError)
        # A kept connection of an event loop that has ended; the next one is new.
        or (isinstance(error, RuntimeError) and "event loop is closed" in lower)
    )
    if retryable:
        return BackendError(
            message,
            hint="is the server running and reachable?",
            retry_after=retry_after_of(error),
        )
    if _is_unreadable(error, status, names):
        return BackendError(
            f"{message} (the answer could not be read)",
            hint="does this address belong to a model server, and is nothing else in front of it?",
        )
    about_this_call = status == 403 and any(word in lower for word in _MODERATED)
    refused = status in (401, 403, 404) or (status is None and names & _REFUSED_NAMES)
    if refused and not about_this_call:
        hint = (
            "check the name of the model and the address of the server"
            if status == 404 or "ModelNotFoundError" in names
            else "check the key in the environment variable that the provider's package reads"
        )
        return AccessRefused(message, hint=hint)
    hint = "the provider refused this call; the message says why"
    if "ContextOverflowError" in names:
        hint = "lower retrieval.context_tokens, or take a model with a longer context"
    return BackendError(message, hint=hint, retryable=False)


def _rate_limited(message: str, said: str, retry_after: float | None) -> BackendError:
    """Return what a refusal for too many calls means: most go away, two kinds do not."""
    if any(words in said for words in _SPENT):
        return AccessRefused(message, hint="the account has nothing left; see the provider's site")
    if any(words in said for words in _TOO_LARGE):
        return BackendError(
            message,
            hint="this call alone is above the limit; lower retrieval.context_tokens",
            retryable=False,
        )
    return RateLimited(
        message,
        hint="lower remote.requests_per_minute or remote.max_concurrency",
        retry_after=retry_after,
    )


def _is_unreadable(error: BaseException, status: int | None, names: set[str]) -> bool:
    """Return whether a server said that all is well and then something else than an answer."""
    if status is not None:
        return 200 <= status < 400
    said = error.args[0] if error.args else None
    # LangChain raises what stands in the field `error` of an answer as it is.
    is_told = type(error) is ValueError and (
        isinstance(said, dict | list) or str(said).startswith("Unexpected response type")
    )
    return bool(names & _UNREADABLE_NAMES) or is_told


@contextmanager
def translated(name: str, secrets: frozenset[str] = frozenset()) -> Iterator[None]:
    """Turn what is raised inside into errors of this package.

    The original is cut off from the traceback on purpose: providers put parts
    of keys, and whole requests, into their messages.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - providers share no base class; nothing is lost
        raise translate(error, name, secrets) from None


_OPERATIONAL = re.compile(
    r"key|secret|password|access|auth|header|cookie|proxy|client|callback|cache|verbose|metadata"
    r"|tags|timeout|retries|socket|limiter|stream|organi[sz]ation|^name$|^profile$|query"
)


def identity_of(provided: Any) -> str:
    """Return the identity of a LangChain object: class, model name, hash of its settings.

    The settings are its plain fields, without what only concerns the connection
    and without anything that is, or is named like, a secret.
    """
    model = next(
        (
            str(value)
            for field in ("model", "model_name", "model_id", "deployment_name")
            if isinstance(value := getattr(provided, field, None), str) and value
        ),
        "",
    )
    fields = getattr(type(provided), "model_fields", None) or vars(provided)
    settings = {
        field: _without_user(value)
        for field in fields
        if not _OPERATIONAL.search(field) and _is_plain(value := getattr(provided, field, None))
    }
    name = f"{type(provided).__module__.partition('.')[0]}.{type(provided).__name__}"
    return f"{name}:{model or 'unnamed'}@{content_hash(settings)[:12]}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def _without_user(value: Any) -> Any:
    """Return a setting without user name and password in an address, and without nested keys."""
    if isinstance(value, str):
        return re.sub(r"(?<=://)[^\s/@]+@", "", value).partition("?")[0]
    if isinstance(value, dict):
        return {
            key: _without_user(item) for key, item in value.items() if not _OPERATIONAL.search(key)
        }
    if isinstance(value, list | tuple):
        return [_without_user(item) for item in value]
    return value


def secrets_of(provided: Any) -> frozenset[str]:
    """Return every secret string that a LangChain object holds, for :func:`redact`."""
    found: set[str] = set()
    fields = getattr(type(provided), "model_fields", None) or vars(provided)
    for field in fields:
        value = getattr(provided, field, None)
        reveal = getattr(value, "get_secret_value", None)
        if reveal is not None:
            value = reveal()
        elif isinstance(value, Mapping) and "header" in field:
            found.update(str(item) for item in value.values())
        elif not re.search(r"key|secret|password|token$", field):
            continue
        if isinstance(value, str):
            found.add(value)
    return frozenset(secret for secret in found if len(secret) >= 6)
