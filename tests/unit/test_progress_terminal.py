"""``reflectory run`` in a real pseudo terminal, and where there is none: what a person sees."""

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="POSIX terminals")
import termios  # noqa: E402

import pyte  # noqa: E402
from holding import held  # noqa: E402

HERE = Path(__file__).parent
COUNT = 6
CURSOR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-ln-z]")  # all but colours, which end with m


@pytest.fixture
def folder(tmp_path):
    lines = [json.dumps({"instruction": f"What is thing {n}?"}) for n in range(COUNT)]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    return tmp_path


def command(folder, *options, delay):
    return [
        *(sys.executable, str(HERE / "run_target.py"), str(folder / "log"), str(delay)),
        *("run", "-d", "nothing", "--instructions", str(folder / "asked.jsonl")),
        *("-o", str(folder / "run"), "--max-iterations", "2", "--concurrency", "2", *options),
    ]


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "PYTHONPATH": str(HERE), "TERM": "xterm-256color", **changes}


class Terminal:
    """A process in a pseudo terminal, and the screen that it draws."""

    def __init__(self, arguments, columns=100, rows=30, **changes):
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(**changes),
            start_new_session=True,
        )
        os.close(slave)

    def resize(self, columns, rows):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def everything(self):
        """What has scrolled off the top, and the screen."""
        gone = [
            "".join(line[x].data for x in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return "\n".join([*gone, self.text])

    def read(self, seconds=0.1):
        """Take in what is written within so many seconds; return whether there may be more."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 1024)  # so that no view is drawn over unseen
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, found, seconds=120):
        """Read until the screen has what is looked for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            more = self.read()
            if found(self.text):
                return
            if not more:
                break
        raise AssertionError(f"the screen never showed it:\n{self.everything}")

    def end(self):
        """Read to the end and return the exit code."""
        while self.read(1.0):
            pass
        return self.process.wait(timeout=60)


def test_a_view_is_drawn_in_place_and_leaves_nothing_but_the_summary(folder):
    with held(folder / "log", 30):  # two loops are done, and two have a column each
        terminal = Terminal(command(folder, "--max-calls", "500", delay=0.05))
        wanted = ("t=1/2", "0.", "2 running", "about", " left", "thing 2?", "thing 3?")
        terminal.until(
            lambda text: (
                all(word in text for word in wanted) and re.search("^matrix of: .*[23]", text, re.M)
            )
        )
        assert terminal.screen.cursor.hidden
        assert f"2/{COUNT}" in terminal.text and "budget   calls" in terminal.text
        running = set(re.findall(r"\S +(What is thing \d\?)$", terminal.text, re.M))
        shown = re.search(r"^matrix of: (What is thing \d\?)$", terminal.text, re.M)
        assert len(running) == 2 and shown and shown[1] in running
        # Narrower and shorter, in the middle of it.
        terminal.resize(44, 16)
        terminal.until(lambda text: re.search(r"^loops ", text, re.M) and "elapsed" in text)
    assert terminal.end() == 0
    assert not terminal.screen.cursor.hidden and terminal.raw.count(b"\x1b[?25l") == 1
    left = terminal.everything
    assert f"{COUNT} done, 0 failed" in left and "grade G" in left and "next" in left
    for line in ("matrix of:", " running", "elapsed"):
        assert line not in left.split("tokens\n")[-1]


def test_the_first_ctrl_c_is_answered_in_the_view_and_the_terminal_is_clean_behind_it(folder):
    with held(folder / "log", 4):
        terminal = Terminal(command(folder, delay=0.1))
        terminal.until(lambda text: "t=0/2" in text)
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.until(lambda text: "Ctrl-C once more stops at once" in text)
        assert "2 running" in terminal.text
    assert terminal.end() == 130
    assert not terminal.screen.cursor.hidden and "Traceback" not in terminal.everything
    assert "goes on from there" in terminal.everything.replace("\n", " ")
    assert "Ctrl-C once more" not in terminal.everything


def test_two_ctrl_c_leave_a_clean_terminal(folder):
    with held(folder / "log", 4):
        terminal = Terminal(command(folder, delay=0.1))
        terminal.until(lambda text: "t=0/2" in text)
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.until(lambda text: "once more" in text)
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130  # while what is in flight will never be answered
    assert not terminal.screen.cursor.hidden and "Traceback" not in terminal.everything
    assert "2 running" not in terminal.text


def test_a_dumb_terminal_gets_lines(folder):
    terminal = Terminal(command(folder, delay=0.0), TERM="dumb")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.raw and f"{COUNT}/{COUNT} loops" in terminal.everything


def test_a_log_on_the_terminal_and_the_progress_do_not_spoil_each_other(folder):
    terminal = Terminal(command(folder, "--log-json", "/dev/stderr", delay=0.0))
    assert terminal.end() == 0
    assert not CURSOR.search(terminal.raw)
    said = terminal.raw.decode().replace("\r\n", "\n").split("\n")
    logged = [json.loads(line) for line in said if line.startswith("{")]
    assert len([line for line in logged if line["message"] == "reflective_loop finished"]) == COUNT
    assert any(f"{COUNT}/{COUNT} loops" in line for line in said)


def test_no_terminal_gets_a_few_lines_without_control_characters(folder):
    """Also where a CI says that colours are welcome."""
    done = subprocess.run(
        command(folder, delay=0.0),
        env=environment(FORCE_COLOR="1"),
        capture_output=True,
        timeout=200,
        check=True,
    )
    assert not CURSOR.search(done.stderr) and b"\r" not in done.stderr
    lines = done.stderr.decode().splitlines()
    assert f"{COUNT}/{COUNT} loops" in lines[-1] and len(lines) < 12
    assert b"grade G" in done.stdout
    quiet = subprocess.run(
        command(folder, "--quiet", delay=0.0),
        env=environment(),
        capture_output=True,
        timeout=200,
        check=True,
    )
    assert (quiet.stdout, quiet.stderr) == (b"", b"")
