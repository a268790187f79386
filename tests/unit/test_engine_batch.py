"""Many calls at once, in any order: none changes what another says."""

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engines import MODEL, TOKENIZER, ask, endless, load, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.models.engine.batch import Batch
from reflectory.models.engine.rendering import render
from reflectory.models.engine.tree import PrefixTree
from reflectory.models.engine.trial import network_for
from reflectory.models.engine.work import Counts
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Completion, ScoreRequest

SCHEDULE = st.lists(
    st.tuples(
        st.text(alphabet="abcdeth .?", min_size=1, max_size=30),
        # Longer than what a node copies of its parent, and than what a row copies of a node.
        st.sampled_from(["ab cd", "ab ce" * 9, "the end", "a long one " * 60]),
        st.integers(1, 12),
        st.sampled_from([0.0, 0.9]),
        st.integers(0, 2),  # base or adapter
        st.integers(0, 3),  # moments to wait before it is asked
        st.sampled_from(["stay", "stay", "stay", "cancel", "score"]),
    ),
    min_size=1,
    max_size=9,
)


@given(SCHEDULE)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_call_depends_on_the_others(
    tiny_folders: tuple[Path, Path, Path], schedule: list[tuple[Any, ...]]
) -> None:
    calls = [
        ScoreRequest(segments=request(text, document).segments, continuations=(text,), role="g")
        if fate == "score"
        else request(text, document, tokens=n, temperature=heat)
        for text, document, n, heat, _, _, fate in schedule
    ]

    async def together() -> list[Any]:
        base = load(tiny_folders[0], max_batch=4, cache_bytes=40_000)
        models = (base, base.with_adapter(tiny_folders[1]), base.with_adapter(tiny_folders[2]))

        async def one(call: Any, who: int, moments: int, fate: str) -> Any:
            await asyncio.sleep(0.002 * moments)
            if fate == "score":
                return await models[who].score(call)
            task = asyncio.create_task(models[who].complete(call))
            if fate == "cancel":
                await asyncio.sleep(0.004)
                task.cancel()
            return (await asyncio.gather(task, return_exceptions=True))[0]

        found = await asyncio.gather(
            *(one(c, s[4], s[5], s[6]) for c, s in zip(calls, schedule, strict=True))
        )
        for model in models:
            await model.aclose()
        return list(found)

    async def alone() -> list[Any]:
        base = LocalModel.load(tiny_folders[0], device="cpu", dtype="float32")
        models = (base, base.with_adapter(tiny_folders[1]), base.with_adapter(tiny_folders[2]))
        found = [
            await (models[s[4]].score(c) if s[6] == "score" else models[s[4]].complete(c))
            for c, s in zip(calls, schedule, strict=True)
        ]
        for model in models:
            await model.aclose()
        return found

    for got, wanted, step in zip(
        asyncio.run(together()), asyncio.run(alone()), schedule, strict=True
    ):
        if step[6] == "score":
            got, wanted = got.continuations[0].logprobs, wanted.continuations[0].logprobs
            assert np.allclose(got, wanted, atol=1e-3)
        elif not isinstance(got, asyncio.CancelledError):
            assert got.text == wanted.text


def test_what_is_read_is_the_trie_of_all_prompts() -> None:
    shuffled = random.Random(0)
    calls = [request(f"Level {i}: why?", f"document {d} " * 8) for d in range(3) for i in range(4)]
    shuffled.shuffle(calls)
    model = LocalModel(MODEL, TOKENIZER, fingerprint="t", batch_invariant=False)
    said = ask(model, *calls, *calls[:2])
    prompts = [render(TOKENIZER, call.segments).token_ids for call in calls]
    trie = {prompt[: i + 1] for prompt in prompts for i in range(len(prompt))}
    read = int(model.engine_stats()["prefilled"])
    # The last token of a prompt is read by each row for itself.
    assert len(trie) <= read <= len(trie) + len(said)
    assert read == sum(c.usage.prompt_tokens - c.usage.reused_tokens for c in said)


def test_rows_in_a_batch_hold_no_prefix_when_they_are_done() -> None:
    network = network_for(MODEL)
    assert network is not None
    tree = PrefixTree(limit_bytes=2**40)
    batch = Batch(network, tree, {2}, TOKENIZER, Counts())
    assert batch.nbytes == 0 and not list(tree.nodes())


def test_a_prompt_that_splits_what_a_row_stands_on_does_not_change_its_text() -> None:
    document = "a long document " * 60
    early = request("Why is that so?" * 3, document, tokens=40)
    late = [request(f"Why {i}?" * i, document + "!" * i, tokens=5) for i in range(1, 5)]

    async def run() -> str:
        model = endless(batch_invariant=False)
        first = asyncio.create_task(model.complete(early))
        for call in late:
            await asyncio.sleep(0.01)
            await model.complete(call)
        text = (await first).text
        await model.aclose()
        return text

    (alone,) = ask(endless(batch_invariant=False), early)
    assert asyncio.run(run()) == alone.text


def test_rows_that_end_while_others_are_read_keep_their_place() -> None:
    short = [request(f"Why {i}?", tokens=1 + i % 2) for i in range(3)]
    long = [request("Who?", f"document {i} " * 120, tokens=3) for i in range(6)]

    async def run() -> list[Completion]:
        model = endless(batch_invariant=False)
        first = [asyncio.create_task(model.complete(call)) for call in short]
        await asyncio.sleep(0.01)
        said = await asyncio.gather(*first, *map(model.complete, long))
        await model.aclose()
        return list(said)

    alone = ask(endless(batch_invariant=False), *short, *long)
    assert [c.text for c in asyncio.run(run())] == [c.text for c in alone]


@pytest.mark.parametrize("error", [RuntimeError("broken"), torch.OutOfMemoryError("out of memory")])
def test_a_call_that_always_fails_ends_alone(error: Exception) -> None:
    model = endless(batch_invariant=False)
    network = model._engine._network
    assert network is not None
    inner = network.forward
    poison = TOKENIZER("Q", add_special_tokens=False)["input_ids"][0]

    def forward(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if bool((ids == poison).any()):
            raise error
        return inner(ids, *rest)

    network.forward = forward  # type: ignore[method-assign]
    fine = request("why?", tokens=60)
    bad = ScoreRequest(segments=fine.segments, continuations=("Q a", "Q b", "ab"), role="g")

    async def run() -> list[Any]:
        calls = (model.complete(fine), model.score(bad), model.complete(request("Q?")))
        done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), timeout=60)
        await model.aclose()
        return list(done)

    said, scored, completed = asyncio.run(run())
    assert isinstance(scored, Exception) and isinstance(completed, Exception)
    (alone,) = ask(endless(batch_invariant=False), fine)
    assert said.text == alone.text
