"""A server on loopback that speaks as much of OpenAI's protocol as its client needs.

Its LoRA paths behave as the sources and documentation of vLLM, SGLang and llama.cpp's server say.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(BaseHTTPRequestHandler):
    """Every instance answers one connection; what is remembered stands on the class."""

    reply: Callable = staticmethod(lambda body: (200, {}, "Hello."))
    kind: str = "plain"
    pause: float = 0.0
    files: tuple[str, ...] = ()
    scale: float = 0.0
    moved_to: str = ""
    url: str

    seen: list
    asked: list
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
            with self.flying():
                return self.chat(body)
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
        time.sleep(self.pause)
        with self.flight["lock"]:
            self.flight["now"] -= 1
        yield

    def chat(self, body):
        self.seen.append(body)
        if self.kind == "vLLM" and body["model"] not in ("served", *self.adapters):
            return self.error(404, f"The model `{body['model']}` does not exist.")
        status, headers, content = self.reply(body)
        if status != 200:
            return self.error(status, content, headers)
        message = {"role": "assistant", "content": content}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        }
        return self.send(200, answer, headers)

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

    def send(self, status, answer, headers=None):
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        kind = "text/plain" if isinstance(answer, str) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_server(**settings) -> Iterator[type[Server]]:
    """Run a server of its own and hand over its class, with the address as ``url``."""
    memory = {
        "seen": [],
        "asked": [],
        "adapters": {},
        "flight": {"now": 0, "most": 0, "lock": threading.Lock()},
    }
    handler = type("ThisServer", (Server,), {**memory, **settings})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
