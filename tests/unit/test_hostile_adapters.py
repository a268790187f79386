"""Adapters that are damaged, foreign or ill-meant: refused by name, and nothing is run."""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reflectory.config.methods import MethodConfig
from reflectory.errors import BackendError, ModelError
from reflectory.models.engine.adapters import is_plain_lora
from reflectory.models.engine.loading import load_model
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Request, SamplingParameters, Segment
from reflectory.models.resolve import ModelPool
from reflectory.testing.models import ScriptedModel
from reflectory.testing.tiny import save_tiny_model
from reflectory.training.methods import add_adapter, own_randomness, save_adapter

METHODS = ("lora", "dora", "ia3", "prefix", "prompt", "p-tuning", "bitfit")
CALL = Request(
    segments=(Segment(text="Why?"),),
    role="student.answer",
    sampling=SamplingParameters(max_tokens=3),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(base: Path) -> Iterator[LocalModel]:
    loaded = LocalModel.load(base, device="cpu", dtype="float32")
    yield loaded
    # Whatever was refused, the base still answers, and alone.
    assert asyncio.run(loaded.complete(CALL)).usage.completion_tokens > 0
    assert not loaded._engine._adapters
    asyncio.run(loaded.aclose())


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for method in METHODS:
        found[method] = tmp_path_factory.mktemp(method) / method
        found[method].mkdir()
        with own_randomness(0):
            config = MethodConfig(method=method, rank=2, virtual_tokens=3)
            adapted = add_adapter(load_model(base, torch.device("cpu"), torch.float32), config)
        save_adapter(adapted, found[method], base_name="tiny")
    return found


@pytest.fixture
def copied(whole: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda method: shutil.copytree(whole[method], tmp_path / method)


def settings_of(folder: Path, **changed: Any) -> None:
    """Change settings in adapter_config.json."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def weights_of(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of the adapter in place, or by what ``change`` returns."""
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors) or tensors, file)


def refused(model: LocalModel, folder: Path, said: str) -> None:
    users = model._engine._users
    with pytest.raises(ModelError, match=said) as caught:
        model.with_adapter(folder)
    assert caught.value.hint and str(folder) in str(caught.value)
    assert model._engine._users == users


@pytest.mark.parametrize("method", METHODS)
def test_all_are_whole_to_begin_with(
    model: LocalModel, whole: dict[str, Path], method: str
) -> None:
    student = model.with_adapter(whole[method])
    assert asyncio.run(student.complete(CALL)).usage.completion_tokens > 0
    asyncio.run(student.aclose())


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_of_another_base_names_both(
    model: LocalModel, copied: Callable[[str], Path], method: str
) -> None:
    folder = copied(method)
    note = json.dumps({"base_fingerprint": "other@0123/float32"})
    (folder / "reflectory.json").write_text(note)
    refused(model, folder, r"other@0123/float32.*tiny@")
    (folder / "reflectory.json").unlink()
    settings_of(folder, base_model_name_or_path="somebody/Large-7B")
    refused(model, folder, "'Large-7B'.*'tiny'")


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_or_damaged_file_is_named(
    model: LocalModel, copied: Callable[[str], Path], method: str
) -> None:
    folder = copied(method)
    file = folder / "adapter_model.safetensors"
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], content[:5], b"", b"\xff" * 64):
        file.write_bytes(damaged)
        refused(model, folder, "weights of the adapter.*cannot be read")
    save_file({}, file)
    refused(model, folder, "holds no weights")
    file.unlink()
    torch.save({}, folder / "adapter_model.bin")
    refused(model, folder, "has no adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('["peft"]')
    file.write_bytes(content)
    refused(model, folder, "holds no settings")
    (folder / "adapter_config.json").unlink()
    refused(model, folder, "adapter_config.json is missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_no_numbers(
    model: LocalModel, copied: Callable[[str], Path], method: str, value: float
) -> None:
    folder = copied(method)
    weights_of(folder, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(value) and 0)
    refused(model, folder, "weights that are not numbers")


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_that_is_missing_strange_or_of_another_shape(
    model: LocalModel, copied: Callable[[str], Path], tmp_path: Path, method: str
) -> None:
    folder = copied(method)
    intact = (folder / "adapter_model.safetensors").read_bytes()
    weights_of(folder, lambda tensors: {k: v.repeat(2, 2) for k, v in tensors.items()})
    refused(model, folder, "does not fit")
    (folder / "adapter_model.safetensors").write_bytes(intact)
    weights_of(folder, lambda tensors: {**tensors, "base_model.model.other": torch.ones(2)})
    refused(model, folder, "which this model does not have")
    (folder / "adapter_model.safetensors").write_bytes(intact)
    names = sorted(load_file(folder / "adapter_model.safetensors"))
    if len(names) > 1:
        weights_of(folder, lambda tensors: tensors.pop(names[0]) is None or None)
        refused(model, folder, "lacks|does not fit")


@pytest.mark.parametrize("method", ["prefix", "prompt", "p-tuning"])
def test_virtual_tokens_in_another_number_than_said(
    model: LocalModel, copied: Callable[[str], Path], method: str
) -> None:
    folder = copied(method)
    settings_of(folder, num_virtual_tokens=50)
    refused(model, folder, "does not fit")


@pytest.mark.parametrize(
    "changed",
    [
        {"lora_alpha": "much"},
        {"lora_alpha": float("nan")},
        {"alpha_pattern": {"(": 3}},
        {"alpha_pattern": ["q_proj"]},
    ],
    ids=str,
)
def test_a_scale_that_cannot_be_read(
    model: LocalModel, copied: Callable[[str], Path], changed: dict[str, Any]
) -> None:
    folder = copied("lora")
    settings_of(folder, **changed)
    refused(model, folder, "scale|cannot be read")


def test_kinds_and_settings_that_nobody_knows(
    model: LocalModel, copied: Callable[[str], Path]
) -> None:
    folder = copied("lora")
    settings_of(folder, from_the_future=None)  # Not set, so it changes nothing.
    asyncio.run(model.with_adapter(folder).aclose())
    settings_of(folder, from_the_future=True)
    assert not is_plain_lora(json.loads((folder / "adapter_config.json").read_text()))
    refused(model, folder, "sets from_the_future")
    settings_of(folder, peft_type="MAGIC")
    refused(model, folder, "type 'MAGIC'")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that leaves a mark when it is imported."""
    place = tmp_path / "modules"
    place.mkdir()
    (place / "sprung_trap.py").write_text("class Model: pass\n")
    monkeypatch.syspath_prepend(place)
    sys.modules.pop("sprung_trap", None)
    return "sprung_trap"


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_runs_no_code(
    model: LocalModel, copied: Callable[[str], Path], trap: str, method: str
) -> None:
    folder = copied(method)
    (folder / f"{trap}.py").write_text((Path(sys.path[0]) / f"{trap}.py").read_text())
    # A note for another door of PEFT; here nobody reads it.
    settings_of(
        folder,
        task_type="CAUSAL_LM",
        auto_mapping={"parent_library": trap, "base_model_class": "Model"},
    )
    student = model.with_adapter(folder)
    asyncio.run(student.complete(CALL))
    asyncio.run(student.aclose())
    for changed in (
        {"megatron_config": {"tensor_model_parallel_size": 1}, "megatron_core": trap},
        {"trust_remote_code": True},
        {"tokenizer_kwargs": {"trust_remote_code": True}},
    ):
        settings_of(folder, **changed)
        refused(model, folder, "names code to be run")
    assert trap not in sys.modules
    __import__(trap)  # The trap works.
    assert trap in sys.modules


# Closing


def test_a_pool_closes_all_its_models_also_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from reflectory.models import resolve

    closed = []

    class Failing(ScriptedModel):
        async def aclose(self) -> None:
            closed.append(self.fingerprint)
            if "bad" in self.fingerprint:
                raise BackendError("the connection is gone")

    monkeypatch.setattr(
        resolve, "resolve_model", lambda spec, **_: Failing(lambda request: "x", name=spec)
    )
    pool = ModelPool()
    for name in ("a:bad1", "a:good1", "a:bad2", "a:good2"):
        pool.get(name)
    with pytest.raises(BackendError, match="connection is gone") as caught:
        asyncio.run(pool.aclose())
    assert len(closed) == 4
    assert "closing another model failed too" in caught.value.__notes__[0]
    asyncio.run(pool.aclose())
    assert len(closed) == 4


def test_a_pool_lets_the_students_of_earlier_rounds_go(
    base: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reflectory.models.resolve.check_allowed", lambda spec: None)
    pool, spec = ModelPool(device="cpu", dtype="float32"), f"local:{base}"
    plain = pool.get(spec)
    assert isinstance(plain, LocalModel)
    for method in ("lora", "prefix", "prompt"):
        student = pool.get(spec, adapter=whole[method])
        asyncio.run(student.complete(CALL))
        asyncio.run(pool.release(spec, adapter=whole[method]))
        asyncio.run(pool.release(spec, adapter=whole[method]))  # It is gone already.
        with pytest.raises(BackendError, match="closed"):
            asyncio.run(student.complete(CALL))
        asyncio.run(plain.complete(CALL))
        assert not plain._engine._adapters
    asyncio.run(pool.aclose())


def test_many_threads_open_and_close_one_engine(base: Path, whole: dict[str, Path]) -> None:
    """The last to leave closes it, and only the last."""
    from concurrent.futures import ThreadPoolExecutor

    model = LocalModel.load(base, device="cpu", dtype="float32", batch_invariant=False)

    def use(number: int) -> int:
        student = model.with_adapter(whole[("lora", "prefix", "prompt")[number % 3]])

        async def both() -> int:
            said = await student.complete(CALL)
            await asyncio.gather(student.aclose(), student.aclose())
            return said.usage.completion_tokens

        return asyncio.run(both())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(48)))
    assert model._engine._users == 1
    asyncio.run(model.complete(CALL))
    assert not model._engine._adapters
    asyncio.run(model.aclose())
    with pytest.raises(BackendError, match="closed"):
        model.with_adapter(whole["lora"])
