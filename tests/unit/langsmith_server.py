"""A server on loopback that takes the runs a LangSmith client sends."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class LangSmithServer:
    """Collects runs; ``runs`` holds each by its id, changes merged in."""

    def __init__(self):
        self.runs = {}
        self.keys = set()
        taken, keys = self.runs, self.keys

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                # No multipart: plain JSON is what this server reads.
                config = {
                    "use_multipart_endpoint": False,
                    "size_limit": 100,
                    "size_limit_bytes": 20_000_000,
                    "scale_up_nthreads_limit": 4,
                    "scale_up_qsize_trigger": 1000,
                    "scale_down_nempty_trigger": 4,
                }
                self._say({"batch_ingest_config": config})

            def do_POST(self):
                keys.add(self.headers.get("x-api-key"))
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(raw)
                posts = body.get("post", [body] if "id" in body else [])
                for run in [*posts, *body.get("patch", [])]:
                    known = taken.setdefault(run["id"], {})
                    known.update({k: v for k, v in run.items() if v is not None})
                self._say({})

            def do_PATCH(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                taken.setdefault(self.path.rsplit("/", 1)[-1], {}).update(json.loads(raw))
                self._say({})

            def _say(self, value):
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
