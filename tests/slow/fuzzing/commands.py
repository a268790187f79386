"""The command line in this process, writing to streams that refuse what UTF-8 cannot hold."""

import contextlib
import io

from fuzzing.tally import Unhandled
from reflectory.cli.main import run_command


def run_verb(*arguments: str) -> tuple[int, str]:
    """Run a verb and return its exit code and what it printed.

    Raises:
        Unhandled: The exit code is none that the command line has, or one of failure without
            a word about it.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    err.reconfigure(errors="backslashreplace")  # as Python opens it
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(list(arguments))
    out.flush()
    err.flush()
    said = out.buffer.getvalue().decode()
    if code not in {0, 1, 2, 3}:
        raise Unhandled(f"exit code {code} of {arguments[0]}")
    if code and not err.buffer.getvalue().strip():
        raise Unhandled(f"{arguments[0]} fails without a word")
    return code, said
