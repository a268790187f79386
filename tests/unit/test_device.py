"""Choosing device and number format. Nothing is assumed about the machine of the test."""

import json
from types import SimpleNamespace

import pytest
import torch

from reflectory.errors import UserError
from reflectory.models import device as module
from reflectory.models.device import (
    choose_device,
    choose_dtype,
    describe_device,
    has_native_bfloat16,
)

CPU = torch.device("cpu")
HAVE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def test_auto_takes_the_best_that_is_there():
    best = next(kind for kind in ("cuda", "mps", "cpu") if HAVE[kind])
    assert choose_device("auto").type == best
    assert choose_device().type == best
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", [kind for kind, there in HAVE.items() if not there])
def test_an_absent_device_is_named_with_those_present(name):
    with pytest.raises(UserError, match=name) as caught:
        choose_device(name)
    assert "cpu" in caught.value.hint


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(UserError, match="unknown number format 'int4'"):
        choose_dtype("int4", CPU)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_a_named_format_is_taken_as_it_is(name):
    assert choose_dtype(name, CPU) is getattr(torch, name)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx512_f": True}, torch.float32),  # 512-bit vectors without bfloat16 only emulate it
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),  # ARM
    ],
)
def test_processor_gets_bfloat16_only_where_it_has_it(monkeypatch, flags, expected):
    monkeypatch.setattr(module, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert choose_dtype("auto", CPU) is expected
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_dtype("auto", CPU) is torch.float32


def test_accelerators_fall_back_to_what_they_compute_with(monkeypatch):
    asked = []

    def supported(*, including_emulation):
        asked.append(including_emulation)
        return False

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_dtype("auto", SimpleNamespace(type="cuda")) is torch.float16
    assert asked == [False]
    assert choose_dtype("auto", SimpleNamespace(type="mps")) is torch.float32


def test_description_is_json_and_true():
    facts = describe_device(CPU)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["device"] == "cpu" and facts["name"] and facts["cores"] >= 1
    assert facts["threads"] == torch.get_num_threads()
    assert facts["bfloat16"] == has_native_bfloat16(CPU)
    assert facts["torch"] == torch.__version__


@pytest.mark.gpu
def test_cuda_is_described():
    if not HAVE["cuda"]:
        pytest.skip("no CUDA device")
    facts = describe_device(choose_device("cuda"))
    assert facts["device"] == "cuda" and facts["memory_bytes"] > 0


def test_integers_are_for_answering_on_processors_that_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(module, "has_native_bfloat16", lambda place: False)
    monkeypatch.setattr(module, "_cpu_flags", lambda: {"avx512_vnni": True})
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("auto", cpu, integers=True) == torch.int8
    monkeypatch.setattr(module, "_cpu_flags", lambda: {"avx2": True})
    assert choose_dtype("auto", cpu, integers=True) == torch.float32
    assert choose_dtype("int8", cpu) == torch.int8
    with pytest.raises(UserError, match="int8"):
        choose_dtype("int8", torch.device("cuda"))
    monkeypatch.setattr(module, "has_native_bfloat16", lambda place: True)
    assert choose_dtype("auto", cpu, integers=True) == torch.bfloat16
