"""Adapters come and go: an engine holds what is used, and forgets the rest."""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest
from serving import METHODS, answers, load, peft_says, plain, request, shaken

from reflectory.config.methods import MethodConfig
from reflectory.models.engine.batch import Batch
from reflectory.models.local import LocalModel
from reflectory.models.protocol import ScoreRequest
from reflectory.testing.tiny import save_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "base")


def adapter(base: Path, folder: Path, method: str) -> Path:
    config = MethodConfig(method=method, rank=3, virtual_tokens=6)
    return shaken(plain(base), folder / method, config)


def residents(model: LocalModel) -> dict[str, int]:
    """Count what an engine holds for adapters."""
    engine = model._engine
    batch, network = engine._scheduler._batch, engine._network
    assert isinstance(batch, Batch) and network is not None
    return {
        "adapters": len(engine._adapters) + len(engine._virtual),
        "matrices": sum(len(p._adapters) for p in network._projections()),
        "trees": sum(1 for name in batch._tree._roots if name not in {"", ("",)}),
        "kv": len(batch._virtual_kv),
        "scores": sum(1 for name, _ in batch._scores._known if name),
    }


def test_twenty_rounds_leave_one_adapter(base: Path, tmp_path: Path) -> None:
    call = request("Why?")
    graded = ScoreRequest(segments=call.segments, continuations=("the tide",), role="teacher.grade")

    async def run() -> None:
        model = load(base, batch_invariant=False)
        (first,) = await answers(model, [call])
        student, seen, networks = model, [], []
        for number in range(20):
            method = METHODS[number % len(METHODS)]
            config = MethodConfig(method=method, rank=2, virtual_tokens=3)
            folder = shaken(plain(base), tmp_path / str(number), config, seed=number)
            following = model.with_adapter(folder)
            (said,) = await answers(following, [call])
            await following.score(graded)
            if student is not model:
                await student.aclose()
            student = following
            if following._engine is not model._engine:
                networks.append(weakref.ref(following._engine._network))
            assert said == peft_says(base, folder, call)
            assert await answers(model, [call]) == [first]
            seen.append(residents(model))
        assert max(one["adapters"] for one in seen[2:]) <= 2 * 1
        assert max(one["trees"] for one in seen) <= 1
        assert max(one["kv"] for one in seen) <= 1
        assert max(one["scores"] for one in seen) == 1
        await student.aclose()
        gc.collect()
        assert networks and not any(network() for network in networks)
        assert await answers(model, [call]) == [first]
        assert residents(model) == dict.fromkeys(residents(model), 0)
        await model.aclose()

    asyncio.run(run())


def test_an_adapter_stays_until_its_calls_are_answered(base: Path, tmp_path: Path) -> None:
    call = request("Why?", tokens=30)
    folder = adapter(base, tmp_path, "lora")

    async def run() -> None:
        model = load(base, batch_invariant=False)
        alone = model.with_adapter(folder)
        (wanted,) = await answers(alone, [call])
        running = asyncio.create_task(alone.complete(call))
        await asyncio.sleep(0)
        await alone.aclose()  # It takes no more calls; this one it has taken.
        assert (await running).text == wanted
        # Two of one content are one adapter, and the second keeps it.
        first, second = model.with_adapter(folder), model.with_adapter(folder)
        await first.aclose()
        assert await answers(second, [call]) == [wanted]
        # A cancelled call gives its adapter back as well.
        cancelled = asyncio.create_task(second.complete(call))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await second.aclose()
        await answers(model, [call])
        assert residents(model)["adapters"] == 0
        await model.aclose()

    asyncio.run(run())


def test_an_adapter_leaves_a_sleeping_model_without_waking_it(base: Path, tmp_path: Path) -> None:
    call = request("Why?")

    async def run() -> None:
        model = load(base)
        kept = model.with_adapter(adapter(base, tmp_path, "prefix"))
        gone = model.with_adapter(adapter(base, tmp_path, "lora"))
        wanted = await answers(kept, [call])
        await asyncio.to_thread(model.sleep)
        await gone.aclose()
        await asyncio.sleep(0.05)
        assert model._engine._network is None
        assert await answers(kept, [call]) == wanted
        assert len(model._engine._adapters) == 1
        await kept.aclose()
        await model.aclose()

    asyncio.run(run())
