"""The conformance suite of models: what keeps the contract passes, and every breach is named."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from violations import MISSING, violations

from reflectory.errors import BackendError, ReflectoryError, UnsupportedCapability
from reflectory.models.local import LocalModel
from reflectory.models.protocol import (
    Capability,
    Completion,
    Request,
    ScoreRequest,
    Scores,
    TokenScores,
    Usage,
    content_hash,
)
from reflectory.testing.conformance import ConformanceError, check_model
from reflectory.testing.models import ScriptedModel

EVERYTHING = frozenset({Capability.SCORE, Capability.PREFILL, Capability.SEED})


def honest(request: Request) -> str:
    """Say words that follow from the content of the request, within its limits."""
    digest = content_hash([s.text for s in request.segments], request.seed)
    words = [digest[i : i + 5] for i in range(0, 30, 5)]
    text = " ".join([*request.prefill.split(), *words][: request.sampling.max_tokens])
    for stop in request.sampling.stop:
        text = text.split(stop)[0]
    return text


class Honest(ScriptedModel):
    """A double that keeps the whole contract; the broken ones change one thing."""

    def __init__(self, script: Callable[[Request], Any] = honest, **options: Any) -> None:
        super().__init__(script, **{"capabilities": EVERYTHING, "delay_s": 0.001, **options})


def test_a_scripted_model_that_keeps_the_contract_passes() -> None:
    assert violations(check_model(Honest())) == ()
    assert violations(check_model(Honest(context_window=100, delay_s=0.0))) == ()


def test_a_model_that_declares_nothing_and_refuses_passes() -> None:
    class Modest(Honest):
        async def complete(self, request: Request) -> Completion:
            if request.prefill:
                raise UnsupportedCapability("no prefill")
            return await super().complete(request)

    assert violations(check_model(Modest(capabilities=frozenset()))) == ()


def test_the_local_engine_passes_with_a_tiny_transformer() -> None:
    from reflectory.testing.tiny import tiny_model

    model = LocalModel(*tiny_model(0), fingerprint="tiny@0/float32")

    async def run() -> None:
        try:
            await check_model(model)
        finally:
            await model.aclose()

    asyncio.run(run())


def test_a_langchain_chat_model_passes() -> None:
    from langchain_core.language_models import SimpleChatModel

    from reflectory.models.langchain import LangChainModel

    class Repeating(SimpleChatModel):
        """Says the last words that it was told, within the limits that it is given."""

        max_tokens: int = 100

        @property
        def _llm_type(self) -> str:
            return "repeating"

        def _call(self, messages: Any, stop: Any = None, *_: Any, **__: Any) -> str:
            text = " ".join(messages[-1].content.split()[-self.max_tokens :])
            for end in stop or ():
                text = text.split(end)[0]
            return text

    assert violations(check_model(LangChainModel(Repeating()))) == ()


class Turning(Honest):
    """Says something else every time, whatever the seed."""

    async def complete(self, request: Request) -> Completion:
        said = await super().complete(request)
        return said.model_copy(update={"text": f"{len(self.requests)} {said.text}"})


class RoleBound(Honest):
    async def complete(self, request: Request) -> Completion:
        said = await super().complete(request)
        return said.model_copy(update={"text": f"{request.role[:3]}{said.text}"})


class Unlimited(Honest):
    async def complete(self, request: Request) -> Completion:
        said = await super().complete(request)
        return said.model_copy(update={"text": f"{said.text} and" * 40})


class Overcounting(Honest):
    async def complete(self, request: Request) -> Completion:
        said = await super().complete(request)
        return said.model_copy(update={"usage": Usage(prompt_tokens=1, reused_tokens=2)})


class Unstoppable(Honest):
    async def complete(self, request: Request) -> Completion:
        sampling = request.sampling.model_copy(update={"stop": ()})
        return await super().complete(request.model_copy(update={"sampling": sampling}))


class StopsLate(Honest):
    """Ends before the last stop string, at the wrong one."""

    async def complete(self, request: Request) -> Completion:
        said = await super().complete(request)
        return said.model_copy(update={"text": said.text[:-1]}) if request.sampling.stop else said


class Mute(Honest):
    async def complete(self, request: Request) -> Completion:
        return (await super().complete(request)).text  # type: ignore[return-value]


class SelfCancelling(Honest):
    async def complete(self, request: Request) -> Completion:
        said = await super().complete(request)
        return said.model_copy(update={"finish": "cancelled"})


class IgnoresPrefill(Honest):
    async def complete(self, request: Request) -> Completion:
        return await super().complete(request.model_copy(update={"prefill": ""}))


class Raising(Honest):
    async def complete(self, request: Request) -> Completion:
        raise KeyError("choices")


class BareTimeout(Honest):
    async def complete(self, request: Request) -> Completion:
        if request.deadline_s is not None and request.deadline_s < 1.0:
            raise LookupError("too late")
        return await super().complete(request)


class FinalTimeout(Honest):
    async def complete(self, request: Request) -> Completion:
        if request.deadline_s is not None and request.deadline_s < 1.0:
            raise BackendError("too late", retryable=False)
        return await super().complete(request)


class Uncancellable(Honest):
    async def complete(self, request: Request) -> Completion:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
        return await super().complete(request)


class FallsTogether(Honest):
    """When one call is cancelled, all that wait fail."""

    waiting: Any = None

    async def complete(self, request: Request) -> Completion:
        if self.waiting is None:
            self.waiting = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.01, self._open)
        await self.waiting  # Not shielded: one that is cancelled cancels it for all.
        return await super().complete(request)

    def _open(self) -> None:
        if not self.waiting.done():
            self.waiting.set_result(None)
        self.waiting = None


class MixedUp(Honest):
    """Mixes up what runs at the same time."""

    running = 0

    async def complete(self, request: Request) -> Completion:
        self.running += 1
        try:
            await asyncio.sleep(0.002)
            crowd = self.running
            said = await super().complete(request)
        finally:
            self.running -= 1
        return said if crowd == 1 else said.model_copy(update={"text": f"{crowd} {said.text}"})


class Hanging(Honest):
    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(3600)
        raise AssertionError


class Anonymous(Honest):
    @property
    def fingerprint(self) -> str:
        return f"model {id(object())} {len(self.requests)} {np.random.default_rng().random()}"


class Boastful(Honest):
    @property
    def capabilities(self) -> Any:
        return ["score"]


class Windowless(Honest):
    @property
    def context_window(self) -> int | None:
        return 0


class CountsNothing(Honest):
    def count_tokens(self, text: str) -> int:
        return 1


class ScoresSecretly(Honest):
    async def score(self, request: ScoreRequest) -> Scores:
        return Scores(continuations=(TokenScores(logprobs=(-1.0,)),) * 3)


def with_scores(change: Callable[[tuple[TokenScores, ...]], Any]) -> type[Honest]:
    class Scoring(Honest):
        async def score(self, request: ScoreRequest) -> Scores:
            scores = await super().score(request)
            return Scores(continuations=change(scores.continuations))

    return Scoring


def sorted_by_length(entries: tuple[TokenScores, ...]) -> tuple[TokenScores, ...]:
    return tuple(sorted(entries, key=lambda e: len(e.logprobs)))


def normalised(entries: tuple[TokenScores, ...]) -> tuple[TokenScores, ...]:
    lowest = min(e.mean for e in entries)
    return tuple(TokenScores(logprobs=tuple(n / -lowest for n in e.logprobs)) for e in entries)


def constant(*numbers: float) -> Callable[[tuple[TokenScores, ...]], tuple[TokenScores, ...]]:
    return lambda entries: (TokenScores(logprobs=numbers),) * len(entries)


@pytest.mark.parametrize(
    ("broken", "violation"),
    [
        (Turning, "the same request at temperature 0 gives another text"),
        (Turning, "declares SEED, but the same request with the same seed gives another text"),
        (RoleBound, "the text depends on role or deadline"),
        (Unlimited, "more tokens than max_tokens are written"),
        (Overcounting, "more tokens reused than read"),
        (Unstoppable, "a stop string is in the text"),
        (StopsLate, "a completion does not end before the first stop string"),
        (Mute, "complete gives str and no Completion"),
        (SelfCancelling, "a call that nobody cancelled says it was"),
        (IgnoresPrefill, "declares PREFILL, but the text does not begin with the prefill"),
        (Raising, "complete raised KeyError: 'choices'"),
        (BareTimeout, "complete with a deadline raised LookupError: too late"),
        (FinalTimeout, "a passed deadline does not count as retryable"),
        (Uncancellable, "complete: a call that was cancelled did not end as such"),
        (FallsTogether, "complete beside one that was cancelled was cancelled though nobody"),
        (MixedUp, "calls that run together change each other"),
        (Anonymous, "fingerprint changes from one reading to the next"),
        (Boastful, "capabilities is no frozenset of Capability"),
        (Windowless, "context_window is 0, neither a positive number nor None"),
        (CountsNothing, "count_tokens does not count more in a longer text"),
        (with_scores(sorted_by_length), "scores are not in the order of the continuations"),
        (with_scores(normalised), "a score depends on the other continuations of its call"),
        (with_scores(lambda e: e[:1]), "score does not give one entry per text"),
        (with_scores(constant()), "a text is scored without any token"),
        (with_scores(constant(0.5)), "a log-likelihood is above 0"),
        (with_scores(constant(float("-inf"))), "a log-likelihood is not finite"),
    ],
)
def test_a_model_that_breaks_a_point_is_caught(broken: type[Honest], violation: str) -> None:
    found = violations(check_model(broken()))
    assert any(violation in line for line in found), found


def test_what_is_not_declared_must_be_refused() -> None:
    nothing = frozenset()
    assert violations(check_model(ScoresSecretly(capabilities=nothing))) == (
        "score gives something although SCORE is not declared",
    )
    assert violations(check_model(IgnoresPrefill(capabilities=nothing))) == (
        "passes over a prefill instead of raising UnsupportedCapability",
    )


def test_without_seed_a_model_may_say_something_else_every_time() -> None:
    assert violations(check_model(Turning(capabilities=EVERYTHING - {Capability.SEED}))) == (
        "declares PREFILL, but the text does not begin with the prefill",
    )


def test_a_batching_engine_may_say_so() -> None:
    assert violations(check_model(MixedUp(), exact=False)) == ()


def test_a_model_that_hangs_does_not_hang_the_check() -> None:
    found = violations(check_model(Hanging(), timeout_s=0.01))
    assert "complete gave nothing within 0.01 s" in found


def test_something_else_is_no_model() -> None:
    found = violations(check_model(object()))  # type: ignore[arg-type]
    assert found == MISSING


def test_the_error_lists_everything_and_belongs_to_the_package() -> None:
    with pytest.raises(ConformanceError) as caught:
        asyncio.run(check_model(CountsNothing(capabilities=["score"])))  # type: ignore[arg-type]
    error = caught.value
    assert isinstance(error, ReflectoryError)
    assert error.subject == "CountsNothing"
    assert len(error.violations) > 1
    assert "CountsNothing: " in str(error)
    assert all(f"  - {line}" in str(error) for line in error.violations)
    assert error.hint
