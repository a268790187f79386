"""OpenTelemetry spans: a loop, its nodes, and every call of a model under its node.

Names follow the conventions for generative AI where they fit; what they have no
name for begins with ``reflectory.``. Prompts and answers are in no span, because
they may be private; :mod:`reflectory.observability.trace` shows those.

Nothing here imports OpenTelemetry: where nobody in the process has, no provider of
spans can be set, and every function returns at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from reflectory.errors import UserError
from reflectory.models.protocol import Completion, Request, ScoreRequest, Scores
from reflectory.observability.place import Place

Span = Any
"""An OpenTelemetry span."""

_graph: ContextVar[Span | None] = ContextVar("graph_span", default=None)
_known: tuple[Any, Any] = (None, None)


def tracer() -> Any | None:
    """Return where spans are made, or ``None`` when nobody wants any."""
    global _known
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if provider is not _known[0]:
        # Until a provider is set there is a stand-in, which makes spans of nothing.
        wanted = not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
        _known = (provider, provider.get_tracer("reflectory", _version()) if wanted else None)
    return _known[1]


def _version() -> str:
    import reflectory

    return reflectory.__version__


@contextmanager
def graph(name: str, place: Place) -> Iterator[None]:
    """Make the span of a graph around the block.

    Args:
        name: Name of the graph.
        place: Which run and loop it is of.
    """
    make = tracer()
    if make is None:
        yield
        return
    from opentelemetry import trace

    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": name,
        **_attributes(place),
    }
    span = make.start_span(f"invoke_workflow {name}", attributes=attributes)
    token = _graph.set(span)
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield
    except BaseException as error:
        end(span, error)
        raise
    else:
        end(span, None)
    finally:
        _graph.reset(token)


def begin_node(place: Place, *, under: Span | None) -> Span | None:
    """Begin the span of a node, and make it that of the current task.

    Args:
        place: The node's.
        under: Span of the node whose graph this one is in; that of the whole graph
            when ``None``.

    Returns:
        What :func:`end` takes, ``None`` when nobody wants spans.
    """
    make = tracer()
    if make is None:
        return None
    from opentelemetry import context, trace

    around = under if under is not None else _graph.get()
    parent = None if around is None else trace.set_span_in_context(around)
    span = make.start_span(f"node {place.step}", context=parent, attributes=_attributes(place))
    context.attach(trace.set_span_in_context(span))
    return span


def current_node() -> Span | None:
    """Return the span of the node that is being run, ``None`` when nobody wants spans."""
    if tracer() is None:
        return None
    from opentelemetry import trace

    return trace.get_current_span()


def begin_call(place: Place, request: Request | ScoreRequest, model: str) -> Span | None:
    """Begin the span of a model's call, under the span of its node.

    Args:
        place: Where the call is made.
        request: What is asked.
        model: Fingerprint of what is asked.

    Returns:
        What :func:`end_call` and :func:`current` take, ``None`` when nobody wants spans.
    """
    make = tracer()
    if make is None:
        return None
    from opentelemetry.trace import SpanKind

    part = request.role.partition(".")[0]
    attributes: dict[str, Any] = {
        "gen_ai.provider.name": _provider(model),
        "gen_ai.request.model": model,
        "gen_ai.agent.name": part,
        "reflectory.role": request.role,
        "reflectory.model.fingerprint": model,
        **_attributes(place),
    }
    if isinstance(request, Request):
        sampling = request.sampling
        attributes |= {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.seed": request.seed,
        }
        if sampling.stop:
            attributes["gen_ai.request.stop_sequences"] = list(sampling.stop)
    else:
        attributes |= {
            "gen_ai.operation.name": "text_completion",
            "reflectory.score.continuations": len(request.continuations),
        }
    operation = attributes["gen_ai.operation.name"]
    return make.start_span(
        f"{operation} {request.role}", kind=SpanKind.CLIENT, attributes=attributes
    )


def current(span: Span | None) -> AbstractContextManager[Any]:
    """Return a context in which spans of others (an HTTP client) come under ``span``."""
    if span is None:
        return nullcontext()
    from opentelemetry import trace

    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def end_call(
    span: Span | None, answer: Completion | Scores, *, cached: bool, seconds: float
) -> None:
    """End the span of a call with what it used.

    Args:
        span: From :func:`begin_call`.
        answer: What the model said.
        cached: Whether it was not asked for it.
        seconds: How long the caller waited.
    """
    if span is None:
        return
    usage = answer.usage
    span.set_attributes(
        {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.reused_tokens,
            "reflectory.cached": cached,
            "reflectory.seconds": seconds,
        }
    )
    if isinstance(answer, Completion):
        span.set_attribute("gen_ai.response.finish_reasons", [answer.finish])
    end(span, None)


def end(span: Span | None, error: BaseException | None) -> None:
    """End a span.

    Args:
        span: ``None`` is left alone.
        error: Why the work did not succeed; its text is not written, for it may hold
            what a model said.
    """
    if span is None:
        return
    if error is not None:
        from opentelemetry.trace import Status, StatusCode

        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    span.end()


def _provider(model: str) -> str:
    """Return who serves a model, from its fingerprint."""
    name, colon, _ = model.removeprefix("langchain:").partition(":")
    return name.lower() if colon else "reflectory"


def _attributes(place: Place) -> dict[str, Any]:
    found = {f"reflectory.{name}": value for name, value in place.fields().items()}
    if place.loop:
        found["gen_ai.conversation.id"] = place.loop
    return found


_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@contextmanager
def sent_from_environment() -> Iterator[None]:
    """Send the spans of the block where OpenTelemetry's variables say, if they say anything.

    For the command line. A program that sets a provider of its own, also
    ``opentelemetry-instrument``, is left alone.

    Raises:
        UserError: A variable names an endpoint and the extra ``otel`` is not installed.
    """
    named = [name for name in _ENDPOINTS if os.environ.get(name)]
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not named or off or tracer() is not None:
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UserError(
            f"{named[0]} is set, and the libraries that send spans are not installed",
            hint="pip install 'reflectory[otel]', or unset the variable",
        ) from error
    named_itself = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named_itself else {"service.name": "reflectory"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
