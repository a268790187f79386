"""The conformance suite: what keeps the contracts passes, and every breach is named."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from reflectory.agents import PromptSet
from reflectory.agents.graders import FunctionGrader, GradingTask, SpokenGrader
from reflectory.config import RetrievalConfig
from reflectory.errors import (
    BackendError,
    OutputError,
    ReflectoryError,
    UnsupportedCapability,
    UserError,
)
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
from reflectory.retrieval.retriever import DocumentRetriever
from reflectory.testing.conformance import (
    ConformanceError,
    check_embedder,
    check_grader,
    check_model,
    check_retriever,
)
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld
from reflectory.types import Feedback, ScoredPassage

EVERYTHING = frozenset({Capability.SCORE, Capability.PREFILL, Capability.SEED})


def violations(check: Any) -> tuple[str, ...]:
    """Return what a check finds; nothing when the contract is kept."""
    try:
        asyncio.run(check)
    except ConformanceError as error:
        return error.violations
    return ()


# Models


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
    assert found == ("members of the protocol are missing",)


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


# Embedders


class Embedding:
    """Embeds honestly, and lets a function spoil the vectors."""

    fingerprint = "spoiled"
    dimension = 16

    def __init__(self, spoil: Callable[[Sequence[str], Any], Any]) -> None:
        self._inner = HashingEmbedder(16)
        self._spoil = spoil

    async def embed(self, texts: Sequence[str]) -> Any:
        return self._spoil(texts, await self._inner.embed(texts))


def in_crowds(texts: Sequence[str], vectors: Any) -> Any:
    """Vectors that lean towards the mean of the call."""
    mixed = vectors + vectors.mean(axis=0, keepdims=True) if len(texts) else vectors
    return (mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)).astype("f4")


def test_the_doubles_keep_the_contract_of_embedders() -> None:
    assert violations(check_embedder(HashingEmbedder())) == ()
    assert violations(check_embedder(HashingEmbedder(64))) == ()
    assert violations(check_embedder(ConstantEmbedder())) == ()
    assert violations(check_embedder(Embedding(lambda texts, vectors: vectors))) == ()


SHAPE = "embed does not give float32 of shape (texts, dimension)"
DRAW = np.random.default_rng(0)


def random_vectors(texts: Sequence[str], vectors: Any) -> Any:
    drawn = DRAW.normal(size=vectors.shape)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def forgetful(texts: Sequence[str], vectors: Any) -> Any:
    texts.clear()  # type: ignore[attr-defined]
    return vectors


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (lambda texts, vectors: vectors * 2, "a vector has the length 2 instead of 1"),
        (lambda texts, vectors: vectors * 0, "a vector has the length 0 instead of 1"),
        (lambda texts, vectors: vectors.astype(np.float64), SHAPE),
        (lambda texts, vectors: vectors.tolist(), SHAPE),
        (lambda texts, vectors: vectors[:, :8], SHAPE),
        (lambda texts, vectors: vectors[:1], SHAPE),
        (lambda texts, vectors: vectors if len(texts) else np.zeros(0, "f4"), SHAPE),
        (lambda texts, vectors: vectors * np.float32("nan"), "a vector is not finite"),
        (lambda texts, vectors: np.sort(vectors, axis=0), "vectors do not follow their texts"),
        (random_vectors, "the same texts get other vectors"),
        (in_crowds, "a vector depends on the texts beside it"),
        (forgetful, "embed changes the list of texts"),
        (lambda texts, vectors: 1 / 0, "embed raised ZeroDivisionError: division by zero"),
    ],
)
def test_an_embedder_that_breaks_a_point_is_caught(spoil: Any, violation: str) -> None:
    assert violation in violations(check_embedder(Embedding(spoil)))


def test_something_else_is_no_embedder() -> None:
    missing = ("members of the protocol are missing",)
    assert violations(check_embedder(object())) == missing  # type: ignore[arg-type]


# Retrievers


def world_retriever() -> DocumentRetriever:
    config = RetrievalConfig(passage_tokens=16)
    documents = [
        document.model_copy(update={"text": f"{document.text} " * 6})
        for document in SyntheticWorld().documents()
    ]
    return DocumentRetriever(documents, HashingEmbedder(), config)


class Retrieving:
    """Retrieves honestly, and lets a function spoil what is found."""

    fingerprint = "spoiled"

    def __init__(self, spoil: Callable[..., Any]) -> None:
        self._inner = world_retriever()
        self._spoil = spoil

    async def prepare(self) -> int:
        return await self._inner.prepare()

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> Any:
        found = await self._inner.retrieve(query, per_document=100, limit=100)
        return self._spoil(found, per_document, limit)


def quota(found: Sequence[ScoredPassage], per_document: int, limit: int) -> list[ScoredPassage]:
    taken: dict[str, int] = {}
    kept = []
    for scored in found:
        name = scored.passage.document_id
        taken[name] = taken.get(name, 0) + 1
        if taken[name] <= per_document:
            kept.append(scored)
    return kept[:limit]


def moved(found: Sequence[ScoredPassage], per_document: int, limit: int) -> list[ScoredPassage]:
    """Offsets that do not fit the text."""
    return [
        s.model_copy(update={"passage": s.passage.model_copy(update={"end": s.passage.end + 1})})
        for s in quota(found, per_document, limit)
    ]


def levelled(found: Sequence[ScoredPassage], per_document: int, limit: int) -> Any:
    """Equal scores, ordered by nothing."""
    equal = [s.model_copy(update={"score": 1.0}) for s in quota(found, per_document, limit)]
    return sorted(equal, key=lambda s: s.passage.id, reverse=True)


def test_the_retriever_of_the_world_passes() -> None:
    assert violations(check_retriever(world_retriever(), "Which fact is known?")) == ()
    assert violations(check_retriever(Retrieving(quota), "Which fact is known?")) == ()


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (lambda found, per, limit: quota(found, per, 100), "more passages than limit are found"),
        (
            lambda found, per, limit: quota(found, 100, limit),
            "more passages of one document than per_document are found",
        ),
        (
            lambda found, per, limit: quota(found, per, limit - 1),
            "fewer passages than limit are found although there are more",
        ),
        (
            lambda found, per, limit: quota(found, per, limit)[::-1],
            "scores rise from one passage to the next",
        ),
        (levelled, "passages with equal scores are not ordered by id"),
        (
            lambda found, per, limit: [found[0]] * min(per, limit),
            "two passages have the same id",
        ),
        (moved, "the offsets of a passage do not fit its text"),
        (lambda found, per, limit: tuple(found), "retrieve gives no list of ScoredPassage"),
        (
            lambda found, per, limit: [s.passage for s in found],
            "retrieve gives no list of ScoredPassage",
        ),
        (lambda found, per, limit: {}["x"], "retrieve raised KeyError: 'x'"),
    ],
)
def test_a_retriever_that_breaks_a_point_is_caught(spoil: Any, violation: str) -> None:
    assert violation in violations(check_retriever(Retrieving(spoil), "Which fact is known?"))


def test_a_retriever_that_wavers_is_caught() -> None:
    class Wavering(Retrieving):
        calls = 0

        async def retrieve(self, query: str, *, per_document: int, limit: int) -> Any:
            self.calls += 1
            found = await super().retrieve(query, per_document=per_document, limit=limit)
            return [s.model_copy(update={"score": s.score + self.calls}) for s in found]

        @property
        def fingerprint(self) -> str:  # type: ignore[override]
            return f"after {self.calls} calls"

    found = violations(check_retriever(Wavering(quota), "Which fact is known?"))
    assert "the same query finds something else" in found
    assert "fingerprint changes with use" in found


def test_a_retriever_that_falls_with_one_cancelled_call_is_caught() -> None:
    class Fragile(Retrieving):
        shared: Any = None

        async def retrieve(self, query: str, *, per_document: int, limit: int) -> Any:
            if self.shared is None or self.shared.done():
                call = super().retrieve(query, per_document=per_document, limit=limit)
                self.shared = asyncio.ensure_future(call)
            return list(await self.shared)

    (violation,) = violations(check_retriever(Fragile(quota), "Which fact is known?"))
    assert violation.startswith("retrieve beside one that was cancelled was cancelled though")


def test_a_query_that_finds_nothing_shows_nothing() -> None:
    with pytest.raises(UserError, match="finds nothing for 'x'"):
        asyncio.run(check_retriever(Retrieving(lambda *_: []), "x"))


def test_something_else_is_no_retriever() -> None:
    missing = ("members of the protocol are missing",)
    assert violations(check_retriever(object(), "x")) == missing  # type: ignore[arg-type]


# Graders


def by_length(task: GradingTask) -> tuple[float, str]:
    return min(1.0, len(task.answer) / 100), "Its length."


class Grading:
    """Grades honestly, and lets a function spoil the feedback."""

    fingerprint = "spoiled"

    def __init__(self, spoil: Callable[[GradingTask, Feedback], Any]) -> None:
        self._inner = FunctionGrader(by_length)
        self._spoil = spoil

    async def grade(self, task: GradingTask) -> Any:
        return self._spoil(task, await self._inner.grade(task))


def changed(**changes: Any) -> Callable[[GradingTask, Feedback], Feedback]:
    return lambda task, feedback: feedback.model_copy(update=changes)


def failing(error: Exception) -> Callable[[GradingTask, Feedback], Any]:
    def spoil(task: GradingTask, feedback: Feedback) -> Any:
        raise error

    return spoil


def test_graders_that_keep_the_contract_pass() -> None:
    assert violations(check_grader(FunctionGrader(by_length))) == ()
    assert violations(check_grader(Grading(changed()))) == ()
    judge = ScriptedModel(
        lambda request: f"So it is.\nScore: {len(request.segments[-1].text) % 10}"
    )
    assert violations(check_grader(SpokenGrader(judge, PromptSet.with_replacements()))) == ()
    world = SyntheticWorld()
    tasks = [GradingTask("Do it.", f"I answer with skill {n}") for n in range(3)]
    assert violations(check_grader(world.grader(), tasks)) == ()


def test_a_grader_may_fail_on_some_tasks() -> None:
    def empty(task: GradingTask) -> float:
        return 0.5 if task.answer else -1.0

    assert violations(check_grader(FunctionGrader(empty))) == ()


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (changed(score=1.5), "a score lies outside [0, 1]"),
        (changed(score=float("nan")), "a score lies outside [0, 1]"),
        (changed(reason=" "), "a reason is blank"),
        (changed(grader=""), "feedback does not name its grader"),
        (changed(signals={"fit": float("-inf")}), "a signal is not finite"),
        (lambda task, feedback: feedback.score, "grade gives no Feedback"),
        (failing(ValueError("no number")), "grade raised ValueError: no number"),
        (failing(OutputError("unreadable", raw="?")), "no task could be graded"),
        (failing(OutputError("unreadable", raw=None)), "a failure does not hold the raw text"),
        (
            lambda task, feedback: feedback.model_copy(update={"score": DRAW.random()}),
            "the same task gets other feedback",
        ),
    ],
)
def test_a_grader_that_breaks_a_point_is_caught(spoil: Any, violation: str) -> None:
    assert violation in violations(check_grader(Grading(spoil)))


class Crowded:
    """Gives less to what is graded beside others."""

    fingerprint = "crowded"
    running = 0

    async def grade(self, task: GradingTask) -> Feedback:
        self.running += 1
        await asyncio.sleep(0.001)
        score = 0.5 + 0.01 * self.running
        await asyncio.sleep(0.001)
        self.running -= 1
        return Feedback(score=score, reason="So.", grader="crowded")


def test_a_grader_whose_calls_change_each_other_is_caught_unless_it_is_granted() -> None:
    assert violations(check_grader(Crowded())) == ("calls that run together change each other",)
    assert violations(check_grader(Crowded(), tolerance=0.2)) == ()


def test_something_else_is_no_grader() -> None:
    missing = ("members of the protocol are missing",)
    assert violations(check_grader(object())) == missing  # type: ignore[arg-type]
