"""A server on loopback that speaks as much of OpenAI's protocol as its client needs.

Its LoRA paths behave as the sources and documentation of vLLM, SGLang and llama.cpp's server say.
"""

import json
import random
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = (
    "429",
    "429 and when",
    "500",
    "502",
    "503 and when",
    "529",
    "hangs",
    "slow body",
    "closed",
    "cut in the middle",
    "cut in the headers",
    "html",
    "empty",
    "half of it",
    "null",
    "list",
    "no choices",
    "null choices",
    "empty choices",
    "no message",
    "content is a number",
    "usage is a list",
    "an error that is no error",
    "no text",
    "huge",
)
"""Everything that a server, or what stands in front of it, may do instead of answering."""

_BODIES = {
    "html": "<html><body>Under maintenance</body></html>",
    "empty": "",
    "half of it": '{"id": "1", "choices": [{"index": 0, "mess',
    "null": "null",
    "list": "[1, 2]",
    "no choices": "{}",
    "null choices": '{"choices": null}',
    "empty choices": '{"choices": []}',
    "no message": '{"choices": [{}]}',
    "content is a number": '{"choices": [{"message": {"role": "assistant", "content": 1}}]}',
    "usage is a list": '{"choices": [{"message": {"role": "assistant", "content": "a"}}],'
    ' "usage": []}',
    "an error that is no error": '{"error": {"message": "overloaded", "code": 500}}',
    "no text": "\xff\xfe",
}


def faults_at_random(seed: int, share: float, kinds=FAULTS) -> Callable[[dict], str | None]:
    """Return what decides what goes wrong with each request: so many of them, at random."""
    draw, lock = random.Random(seed), threading.Lock()

    def fault(body: dict) -> str | None:
        with lock:
            return draw.choice(kinds) if draw.random() < share else None

    return fault


class Server(BaseHTTPRequestHandler):
    """Every instance answers one connection; what is remembered stands on the class."""

    fault: Callable = staticmethod(lambda body: None)
    hanging: float = 0.5
    """Seconds for which a request that is not answered counts as in flight; clients wait longer."""

    reply: Callable = staticmethod(lambda body: (200, {}, "Hello."))
    kind: str = "plain"
    pause: float = 0.0
    files: tuple[str, ...] = ()
    scale: float = 0.0
    moved_to: str = ""
    url: str

    seen: list
    asked: list
    arrived: list
    failed: list
    adapters: dict
    flight: dict

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.asked.append((self.path, None, self.headers.get("Authorization")))
        if self.moved_to:
            return self.moved()
        if self.path == "/v1/models":
            named = [{"id": name, "object": "model"} for name in ("served", *self.adapters)]
            return self.send(200, {"object": "list", "data": named})
        if self.path == "/lora-adapters" and self.kind == "llama.cpp":
            return self.send(
                200,
                [{"id": i, "path": file, "scale": self.scale} for i, file in enumerate(self.files)],
            )
        return self.absent()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.moved_to:
            self.asked.append((self.path, body, self.headers.get("Authorization")))
            return self.moved()
        if self.path == "/v1/chat/completions":
            self.arrived.append(time.monotonic())
            with self.flying():
                fault = self.fault(body)
                if fault is None:
                    return self.chat(body)
                self.failed.append(fault)
                if fault not in ("hangs", "slow body"):
                    return self.fail(fault)
                time.sleep(self.hanging)
            return self.keep_waiting(in_bits=fault == "slow body")
        self.asked.append((self.path, body, self.headers.get("Authorization")))
        if self.path == "/v1/load_lora_adapter" and self.kind == "vLLM":
            return self.load_as_vllm(body)
        if self.path == "/load_lora_adapter" and self.kind == "SGLang":
            return self.load_as_sglang(body)
        return self.absent()

    @contextmanager
    def flying(self) -> Iterator[None]:
        with self.flight["lock"]:
            self.flight["now"] += 1
            self.flight["most"] = max(self.flight["most"], self.flight["now"])
        try:
            time.sleep(self.pause)
            yield
        finally:
            with self.flight["lock"]:
                self.flight["now"] -= 1

    def fail(self, fault):
        """Do one of ``FAULTS``."""
        if fault == "closed":
            return self.cut()
        if fault == "cut in the headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: applic")
            return self.cut()
        if fault == "cut in the middle":
            self.begin()
            return self.cut()
        if fault == "huge":
            return self.send(200, self.answer({"model": "served"}, "ice and " * 50_000))
        if fault in _BODIES:
            kind = "text/html" if fault == "html" else "application/json"
            return self.send(200, _BODIES[fault], {"Content-Type": kind}, encoding="latin-1")
        status, _, when = fault.partition(" ")
        return self.error(int(status), "not now", {"Retry-After": "0.05"} if when else None)

    def cut(self):
        """Close the connection, whatever was promised."""
        self.wfile.flush()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def begin(self):
        """Send the beginning of an answer."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "10000")
        self.end_headers()
        self.wfile.write(b'{"id": "1", "choices": [')
        self.wfile.flush()

    def keep_waiting(self, *, in_bits):
        """Answer nothing until the client has gone away, or send a byte now and then."""
        self.close_connection = True
        with suppress(OSError):
            if in_bits:
                self.begin()
            for _ in range(3000):
                # Readable means that the client has left, for it has nothing more to say.
                if select.select([self.connection], [], [], 0.01)[0]:
                    return
                if in_bits:
                    self.wfile.write(b" ")

    def chat(self, body):
        self.seen.append(body)
        if self.kind == "vLLM" and body["model"] not in ("served", *self.adapters):
            return self.error(404, f"The model `{body['model']}` does not exist.")
        status, headers, content = self.reply(body)
        if status != 200:
            return self.error(status, content, headers)
        return self.send(200, self.answer(body, content), headers)

    def answer(self, body, content):
        """Return a completion as the protocol has it."""
        message = {"role": "assistant", "content": content}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        }

    def load_as_vllm(self, body):
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return self.error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (folder / "adapter_config.json").exists():
            return self.error(404, f"Loading lora {name} failed: No adapter found for {folder}")
        if json.loads((folder / "adapter_config.json").read_text())["r"] > 16:
            return self.error(400, "LoRA rank 32 is greater than max_lora_rank 16.")
        self.adapters[name] = str(folder)
        return self.send(200, f"Success: LoRA adapter '{name}' added successfully.")

    def load_as_sglang(self, body):
        name, success = body["lora_name"], body["lora_name"] not in self.adapters
        self.adapters.setdefault(name, body["lora_path"])
        told = {"success": success, "loaded_adapters": self.adapters}
        if not success:
            told["error_message"] = f"LoRA with name {name} already exists. Loaded LoRAs: ..."
        return self.send(200 if success else 400, told)

    def absent(self):
        return self.send(404, {"detail": "Not Found"})

    def moved(self):
        return self.send(302, "", {"Location": self.moved_to + self.path})

    def error(self, status, text, headers=None):
        told = {"error": {"message": text, "code": None, "type": "x", "param": None}}
        return self.send(status, told, headers or {})

    def send(self, status, answer, headers=None, encoding="utf-8"):
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode(encoding)
        kind = "text/plain" if isinstance(answer, str) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _QuietServer(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients leave in the middle; that is what some tests are about


@contextmanager
def running_server(**settings) -> Iterator[type[Server]]:
    """Run a server of its own and hand over its class, with the address as ``url``."""
    memory = {
        "seen": [],
        "asked": [],
        "arrived": [],
        "failed": [],
        "adapters": {},
        "flight": {"now": 0, "most": 0, "lock": threading.Lock()},
    }
    handler = type("ThisServer", (Server,), {**memory, **settings})
    running = _QuietServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    handler.url = f"http://127.0.0.1:{running.server_port}/v1"
    try:
        yield handler
    finally:
        running.shutdown()
        running.server_close()


def hash_in(name: str) -> str:
    """Return the hash at the end of an adapter's name, or fail."""
    return re.fullmatch(r"[A-Za-z0-9._-]+-([0-9a-f]{12})", name)[1]
