"""A real PostgreSQL server for tests, started in a folder of its own on a socket."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


def _program(name):
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(places[-1]) if places else None)


class PostgresServer:
    """One server; ``start`` and ``stop`` may alternate."""

    def __init__(self, folder, user):
        self.folder = folder
        self._as = [] if user is None else ["setpriv", f"--reuid={user}", "--clear-groups"]
        self._process = None
        initdb = [_program("initdb"), "-D", f"{folder}/data", "-U", "reflectory", "-A", "trust"]
        done = subprocess.run(
            [*self._as, *initdb, "--no-sync", "-E", "UTF8", "--locale=C"],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr

    @property
    def address(self):
        return f"postgresql://reflectory@/postgres?host={self.folder}"

    def start(self):
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"]
        places = ["-D", f"{self.folder}/data", "-k", str(self.folder)]
        self._process = subprocess.Popen(
            [*self._as, _program("postgres"), *places, *options],
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )
        import psycopg

        for _ in range(300):
            try:
                psycopg.connect(self.address).close()
                return self
            except psycopg.OperationalError:
                assert self._process.poll() is None, "the server ended"
                time.sleep(0.05)
        raise TimeoutError("the PostgreSQL server did not start")

    def stop(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # fast: connections are ended
            self._process.wait(30)
            self._process = None

    def rows(self, query):
        import psycopg

        with psycopg.connect(self.address) as connection:
            return connection.execute(query).fetchall()


def running_server():
    """Yield a server that runs; a fixture of the modules that need one."""
    pytest.importorskip("psycopg", reason="needs reflectory[postgres]")
    if _program("initdb") is None or _program("postgres") is None:
        pytest.skip("needs the programs of a PostgreSQL server (Debian: postgresql)")
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, and there is no setpriv to start a server as another user")
        user = pwd.getpwnam("nobody").pw_uid
    # Not in tmp_path: another user cannot enter it, and sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        if user is not None:
            os.chown(folder, user, -1)
        server = PostgresServer(folder, user).start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
