"""The progress of a run as it is drawn: every fact at every width, in any terminal."""

import io
import re
import time

import pytest
from drawing import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from reflectory.alignment import AlignmentMatrix
from reflectory.cli.progress_activity import Activity
from reflectory.cli.progress_snapshot import LoopNow, Snapshot, Training
from reflectory.cli.progress_view import ProgressView
from reflectory.cli.progress_words import progress_line
from reflectory.config import BudgetConfig
from reflectory.models.protocol import Usage
from reflectory.report.terminal import matrix_table
from reflectory.runs.budget import Ledger, Spent

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def test_a_budget_shows_what_is_used_and_left():
    activity = Activity()
    limits = BudgetConfig(calls=1000, tokens=5000, cost=2.5, hours=2)
    activity.budget_opened(Ledger(limits, before=Spent(calls=12, tokens=5100, cost=None)))
    text = drawn(activity.snapshot(), 120)
    assert "calls 12 of 1,000,  988 left" in text and "tokens 5,100 of 5,000,  0 left" in text
    assert "cost unknown of $2.50" in text and "hours 0 of 2,  2 left" in text
    activity.expect("loops", 3)
    line = progress_line(activity.snapshot())
    assert line.endswith("(988 calls, 0 tokens, unknown, 2 hours left)")


TEXTS = st.text(max_size=60)
LOOPS = st.builds(
    LoopNow,
    id=st.text(max_size=4),
    began=st.just(0.0),
    instruction=TEXTS,
    iteration=st.none() | st.integers(0, 9999),
    step=st.sampled_from(["", "respond", "reflect", "odd"]),
    levels=st.dictionaries(TEXTS, st.sampled_from(["ask", "done", "failed"]), max_size=12),
)


SNAPSHOTS = st.builds(
    Snapshot,
    unit=st.sampled_from(["", "loops", "answers"]),
    done=st.integers(0, 10**9),
    total=st.none() | st.integers(0, 10**9),
    failed=st.integers(0, 10**6),
    kept=st.integers(0, 10**6),
    seconds=st.floats(0, 1e8),
    left_s=st.none() | st.floats(0, 1e8),
    running=st.lists(LOOPS, max_size=40).map(tuple),
    iterations=st.none() | st.integers(1, 99),
    calls=st.integers(0, 10**9),
    hits=st.integers(0, 10**9),
    read=st.none() | st.floats(0, 1e6),
    written=st.floats(0, 1e6),
    budget=st.dictionaries(
        st.sampled_from(["calls", "tokens", "cost", "hours"]),
        st.tuples(st.none() | st.floats(0, 1e7), st.floats(0, 1e7)),
    ),
    title=TEXTS,
    matrix=st.none() | st.just(AlignmentMatrix(["a\x1b[2J", "b" * 90], [[0.1] * 30, [0.9] * 30])),
    training=st.none() | st.just(Training(3, 9, 2.5, 3.5, 12.0)),
    doing=TEXTS,
    stopping=st.booleans(),
)


@settings(max_examples=40)
@given(SNAPSHOTS, st.integers(20, 150), st.integers(4, 50))
def test_any_run_fits_into_any_terminal_and_sends_it_no_control_characters(now, width, height):
    text = drawn(now, width, height)
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) < height
    assert max(cell_len(line) for line in lines) < width
    assert not CONTROL.search(text) and not CONTROL.search(progress_line(now))
    assert "\n" not in progress_line(now)


def busy(**changes) -> Snapshot:
    levels = {"basic": "done", "intermediate": "answer", "advanced": "ask", "expert": "evaluate"}
    running = tuple(
        LoopNow(str(n), 0.0, f"Why does [b]thing {n}[/b] differ?", 1, "", dict(levels))
        for n in range(8)
    )
    fields = {
        "done": 37,
        "total": 100,
        "failed": 2,
        "seconds": 760.0,
        "left_s": 1260.0,
        "running": running,
        "iterations": 4,
        "calls": 1204,
        "hits": 311,
        "read": 820.0,
        "written": 48.0,
        "title": "Why?",
        "matrix": AlignmentMatrix(["basic", "expert"], [[0.1, 0.4], [0.6, 0.9]]),
        **changes,
    }
    return Snapshot(**fields)


@pytest.mark.parametrize("width", [40, 60, 100, 140])
def test_every_fact_is_there_at_every_width(width):
    text = drawn(busy(), width)
    for fact in ("37/100", "2 failed", "8 running", "12:40 elapsed", "about 21 min left"):
        assert fact in text
    for fact in ("1,204 calls", "311 from the cache", "48 tokens/s written, 820 read", "0.90"):
        assert fact in text
    steps = "basic done, intermediate answering" if width >= 140 else "1 done, 1 answering"
    assert f"t=1/4 {steps}" in text
    assert "Why does [b]thing 0[/b]" in text or width < 100  # text, and no markup


def test_where_there_is_little_room_the_matrix_goes_first_and_then_loops():
    assert "0.90" not in drawn(busy(), height=12) and "thing 7" in drawn(busy(), height=12)
    small = drawn(busy(), height=7)
    assert "thing 0" in small and "thing 7" not in small and "more: " in small


def test_a_loop_and_a_level_with_many_words_are_shortened():
    loop = LoopNow("1", 0.0, "界" * 400, 0, "", {"level " * 50: "ask"})
    assert re.search(r"界 ?\.\.\n", drawn(busy(running=(loop,), matrix=None), 60) + "\n")


def test_training_has_a_bar_and_an_estimate_of_its_own():
    now = Snapshot(unit="", training=Training(6, 24, 2.5, 3.25, 60.0))
    text = drawn(now)
    assert "6/24 steps" in text and "loss 2.500 (first 3.250)" in text
    assert "about 3 min left" in text
    assert "6/24 steps" in progress_line(now)


def test_it_is_loading_until_a_model_was_called_and_one_call_is_one():
    assert "0/3 loops, loading" in progress_line(Snapshot(total=3))
    between = Snapshot(total=3, calls=1)  # no loop is running: one has just ended, or failed
    assert progress_line(between) == "0/3 loops, 1 call"
    assert "loading" not in drawn(between) and "loading" not in drawn(Snapshot(total=3, hits=2))


def test_a_bar_needs_neither_colour_nor_unicode():
    plain = drawn(busy(), no_color=True, color_system="truecolor")
    assert "━" in plain and "╌" in plain and not re.search(r"\x1b\[[0-9;]*(3|4|9)\d", plain)
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80, height=40, color_system=None, force_terminal=True)
    console.print(ProgressView(lambda: busy()))
    file.flush()
    assert b"===" in file.buffer.getvalue() and b"---" in file.buffer.getvalue()


def test_sixteen_colours_grow_darker_with_the_value_and_stay_readable():
    matrix = AlignmentMatrix(["basic"], [[0.05, 0.3, 0.6, 0.95]])
    console = Console(
        file=io.StringIO(), width=60, color_system="standard", force_terminal=True, no_color=False
    )
    console.print(matrix_table(matrix))
    codes = re.findall(r"\x1b\[([0-9;]+)m (0\.\d\d) ", console.file.getvalue())
    # Ink and paper: black on white, bright yellow and yellow, then white on red.
    assert [code for code, _ in codes] == ["30;107", "30;103", "30;43", "97;41"]


def test_a_snapshot_and_a_drawing_are_cheap():
    """Bounds that a busy machine keeps: what an event costs is measured in docs/terminal.md."""
    activity = Activity()
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    began = time.thread_time()
    for _ in range(20_000):
        activity.call_ended(usage, cached=False)
    assert time.thread_time() - began < 1.0
