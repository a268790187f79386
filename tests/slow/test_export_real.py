"""The default student as files: do transformers and llama.cpp read what was trained?

llama.cpp itself is only asked where REFLECTORY_LLAMA_BIN names the folder of its programs.
"""

import copy
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
from test_training_real import rows

from reflectory.config import TrainingConfig
from reflectory.models.engine.loading import load_model, load_tokenizer
from reflectory.training import train_adapter
from reflectory.training.export import check_export, export_student
from reflectory.training.tokens import prompt_ids

pytestmark = pytest.mark.slow

LLAMA = os.environ.get("REFLECTORY_LLAMA_BIN", "")
needs_llama = pytest.mark.skipif(
    not LLAMA, reason="REFLECTORY_LLAMA_BIN names no folder with llama-server"
)
QUESTIONS = (
    "What dates rock 3?",
    "How many millions of years are 1,234 days? Don't guess; say 'unknown'.",
    "Erkläre kurz, was ein Krater ist: naïve façade, 你好 🪐.",
)


@pytest.fixture(scope="module")
def adapter(language_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "first"
    train_adapter(rows(8, 3), language_model, folder, TrainingConfig(max_steps=6, batch_size=2))
    return folder


@pytest.fixture(scope="module")
def merged(language_model, adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged") / "student"
    export_student(language_model, adapter, folder, number_format="f32")
    return folder


def exported(language_model, adapter, folder, **options):
    manifest = export_student(language_model, adapter, folder, **options)
    assert check_export(folder) == manifest
    assert manifest.licence == "apache-2.0"
    return folder / next(name for name in manifest.files if name.endswith(".gguf"))


def prompts(tokenizer):
    return [prompt_ids(tokenizer, rows(1, 3)[0].prompt)] + [
        tuple(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True
            )["input_ids"]
        )
        for text in QUESTIONS
    ]


def greedy(model, prompt, count=24):
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=count, min_new_tokens=count, do_sample=False
        )
    return out[0, len(prompt) :].tolist()


def test_the_file_reads_back_as_the_merged_student(language_model, adapter, merged, tmp_path):
    file = exported(language_model, adapter, tmp_path / "gguf", format="gguf")
    cpu = torch.device("cpu")
    tokenizer = load_tokenizer(merged)
    student, base = (load_model(f, cpu, torch.float32) for f in (merged, language_model))
    read = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    rounded = copy.deepcopy(student)
    for weights in rounded.parameters():
        if weights.dim() > 1:
            weights.data = weights.data.half().float()
    for prompt in prompts(tokenizer):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            wanted, near, found, before = (m(ids).logits for m in (student, rounded, read, base))
        assert (near - found).abs().max() < 1e-3
        # Rounding to eleven bits moves the logits far less than the adapter did.
        assert (wanted - found).abs().max() < 0.2 < (wanted - before).abs().max()


@contextmanager
def llama_server(file, *more):
    """Serve a file and yield a function that asks the server."""
    import socket

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    libraries = os.pathsep.join(filter(None, (LLAMA, os.environ.get("LD_LIBRARY_PATH", ""))))
    process = subprocess.Popen(
        [
            str(Path(LLAMA) / "llama-server"),
            *("--model", str(file), "--host", "127.0.0.1", "--port", str(port)),
            *("--threads", "2", "--ctx-size", "2048", "--parallel", "1", *more),
        ],
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(path, question=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            data=None if question is None else json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    try:
        until = time.monotonic() + 120
        while True:
            assert process.poll() is None, "llama-server refused the file"
            try:
                ask("/health")
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < until
                time.sleep(0.1)
        yield ask
    finally:
        process.kill()
        process.wait()


def continued(ask, prompt, count=24):
    answer = ask(
        "/completion",
        {
            "prompt": list(prompt),
            "n_predict": count,
            "temperature": 0.0,
            "ignore_eos": True,
            "return_tokens": True,
        },
    )
    return answer["tokens"]


@needs_llama
@pytest.mark.parametrize("stored", ["f32", "f16", "bf16"])
def test_llama_cpp_says_what_transformers_says(language_model, adapter, merged, tmp_path, stored):
    file = exported(language_model, adapter, tmp_path / "o", format="ollama", number_format=stored)
    tokenizer = load_tokenizer(merged)
    model = load_model(merged, torch.device("cpu"), torch.float32)
    with llama_server(file) as ask:
        for text in QUESTIONS:
            found = ask("/tokenize", {"content": text, "add_special": True})["tokens"]
            assert found == tokenizer(text)["input_ids"]
            talk = [{"role": "user", "content": text}]
            shown = ask("/apply-template", {"messages": talk})["prompt"]
            assert shown == tokenizer.apply_chat_template(
                talk, tokenize=False, add_generation_prompt=True
            )
        same = [continued(ask, p) == greedy(model, p) for p in prompts(tokenizer)]
    # Two likely tokens can be closer than the rounding of the weights.
    assert sum(same) >= (len(same) if stored == "f32" else len(same) - 1)


@needs_llama
def test_llama_cpp_adds_the_adapter_itself(language_model, adapter, merged, tmp_path):
    base = exported(language_model, None, tmp_path / "b", format="gguf", number_format="f32")
    lora = exported(language_model, adapter, tmp_path / "a", format="adapter-gguf")
    tokenizer = load_tokenizer(merged)
    model = load_model(merged, torch.device("cpu"), torch.float32)
    with llama_server(base, "--lora", str(lora)) as ask:
        for prompt in prompts(tokenizer):
            assert continued(ask, prompt) == greedy(model, prompt)


@needs_llama
def test_llama_cpp_reads_eight_bits(language_model, adapter, merged, tmp_path):
    file = exported(language_model, adapter, tmp_path / "q", format="gguf", number_format="q8_0")
    tokenizer = load_tokenizer(merged)
    model = load_model(merged, torch.device("cpu"), torch.float32)
    with llama_server(file) as ask:
        firsts = [continued(ask, p, 8)[:4] == greedy(model, p, 8)[:4] for p in prompts(tokenizer)]
    assert sum(firsts) >= len(firsts) - 1
