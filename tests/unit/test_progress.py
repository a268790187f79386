"""The progress of a run: what is heard and counted, how long it takes, and how it is drawn."""

import io
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from worlds import world_loop

from reflectory.alignment import AlignmentMatrix
from reflectory.background import BACKGROUND
from reflectory.cli.progress import LinesDisplay, LiveDisplay
from reflectory.cli.progress_activity import Activity
from reflectory.cli.progress_snapshot import LoopNow, Snapshot, Training
from reflectory.cli.progress_time import Work, about, clock
from reflectory.cli.progress_view import ProgressView
from reflectory.cli.progress_words import progress_line
from reflectory.config import BudgetConfig
from reflectory.errors import BackendError
from reflectory.models.protocol import Usage
from reflectory.observability.listening import current_listener, listened_by
from reflectory.report.terminal import matrix_table
from reflectory.runner import Runner
from reflectory.runs import RunView
from reflectory.runs.budget import Ledger, Spent
from reflectory.runs.instructions import read_instructions
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = [f"What is thing {n}?" for n in range(4)]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watching(Activity):
    """Keeps a snapshot of every moment at which something happened."""

    def __init__(self, **options):
        self.seen = []
        super().__init__(**options)

    def node_began(self, place, state):
        super().node_began(place, state)
        self.seen.append(self.snapshot())

    def node_ended(self, place, update):
        super().node_ended(place, update)
        self.seen.append(self.snapshot())


def run_heard(activity, output=None, loop=None, concurrency=2):
    """Run the loops while an activity listens, and return their trajectories."""
    activity.expect("loops", len(ASKED), iterations=2)
    runner = Runner(loop or world_loop(WORLD, max_iterations=2))
    found = []
    with listened_by(activity):
        items = read_instructions(ASKED)
        stream = runner.stream(items, concurrency=concurrency, output=output)
        for trajectory in BACKGROUND.iterate(stream):
            activity.finished(trajectory)
            found.append(trajectory)
    return found


def drawn(snapshot: Snapshot, width: int = 80, height: int = 40, **options) -> str:
    """Return what a console of that size shows."""
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        **{"color_system": None, "legacy_windows": False, "force_terminal": True, **options},
    )
    console.print(ProgressView(lambda: snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# What is heard of a run.


def test_calls_loops_and_steps_are_those_that_the_run_recorded(tmp_path):
    activity = Watching()
    found = run_heard(activity, tmp_path / "run")
    now = activity.snapshot()
    totals = RunView.read(tmp_path / "run").manifest.totals
    assert (now.calls, now.hits) == (totals.calls, totals.hits) and now.calls > 0
    assert (now.done, now.total, now.failed, now.kept) == (4, 4, 0, 0) and now.running == ()
    assert current_listener() is None
    steps = {loop.step for seen in activity.seen for loop in seen.running}
    assert {"preprocess", "retrieve", "respond", "reflect", "check", "conclude"} <= steps
    states = {s for seen in activity.seen for loop in seen.running for s in loop.levels.values()}
    assert {"ask", "answer", "evaluate", "align", "done"} <= states
    assert {loop.iteration for seen in activity.seen for loop in seen.running} >= {None, 0, 1}
    assert max(len(seen.running) for seen in activity.seen) == 2
    asked = {loop.instruction for seen in activity.seen for loop in seen.running}
    assert asked - {""} == set(ASKED)
    # The matrix grows cell by cell, and the last one is that of the last loop.
    grown = [int((seen.matrix.values >= 0).sum()) for seen in activity.seen if seen.matrix]
    assert set(range(1, 5)) <= set(grown)
    assert now.matrix == found[-1].alignment and now.title == found[-1].instruction


def test_what_is_kept_from_before_is_told_apart_and_teaches_no_estimate(tmp_path):
    run_heard(Activity(), tmp_path / "run")
    activity = Activity()
    run_heard(activity, tmp_path / "run", world_loop(WORLD, max_iterations=2))
    now = activity.snapshot()
    assert (now.done, now.kept, now.calls, now.left_s) == (4, 4, 0, None)
    assert "4 kept from before" in drawn(now)


def test_failed_loops_are_counted_and_none_stays_in_the_making(tmp_path):
    async def broken(request):
        raise BackendError("the server is away", hint="wait")

    loop = world_loop(WORLD, max_iterations=2, student=ScriptedModel(broken, name="broken"))
    activity = Activity()
    run_heard(activity, tmp_path / "run", loop)
    now = activity.snapshot()
    assert (now.done, now.failed, now.running, now.matrix) == (4, 4, (), None)
    assert "4 failed" in progress_line(now)


def test_nobody_is_told_where_nobody_listens():
    activity = Activity()
    loop = world_loop(WORLD, max_iterations=1)
    loop.run("What is known?")
    assert activity.snapshot().calls == 0 and current_listener() is None


def test_rates_are_means_over_the_last_while_and_unknown_at_first():
    watch = Clock()
    activity = Activity(clock=watch)
    assert activity.snapshot().written is None
    for second in range(1, 61):
        watch.now = float(second)
        speed = 10 if second <= 30 else 50
        activity.call_ended(
            Usage(prompt_tokens=200, reused_tokens=100, completion_tokens=speed), cached=False
        )
        activity.call_ended(Usage(completion_tokens=1000), cached=True)  # nobody wrote that
        now = activity.snapshot()
        if second == 30:
            assert now.written == pytest.approx(10, rel=0.1)
    assert now.written == pytest.approx(50, rel=0.1) and now.read == pytest.approx(100, rel=0.1)
    assert (now.calls, now.hits) == (60, 60)


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


def test_answers_of_an_evaluation_are_counted_as_it_counts_them():
    watch = Clock()
    activity = Activity(clock=watch)
    activity.expect("answers", None)
    for done in range(1, 4):  # an earlier session's: no call was made for them
        activity.answered(done, 10, "direct", failed=False)
    assert activity.snapshot().kept == 3 and activity.snapshot().left_s is None
    for done in range(4, 9):
        watch.now += 10
        activity.call_ended(Usage(), cached=False)
        activity.answered(done, 10, "loop", failed=done == 5)
    now = activity.snapshot()
    assert (now.done, now.total, now.failed, now.kept, now.doing) == (8, 10, 1, 3, "loop")
    assert now.left_s is not None and 15 <= now.left_s <= 25
    activity.answered(8, 10, "figures and judge", failed=False)
    assert "figures and judge" in drawn(activity.snapshot())


# How long it will take.


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_estimate_of_loops_that_are_alike_is_right_as_soon_as_there_is_one(concurrency):
    """Loops of ten nodes, one node a second: the truth is known at every moment."""
    loops, nodes, total = 20, 10, 20 * 10 / concurrency
    work = Work()
    for second in range(int(total) + 1):
        work.begin(0.0)
        batch, inside = divmod(second, nodes)
        if inside == 0 and second:
            for _ in range(concurrency):
                work.finish(float(second), nodes, float(nodes))
        finished = batch * concurrency
        running = [inside] * min(concurrency, loops - finished)
        left = work.left(float(second), loops - finished, running)
        if batch == 0:
            assert left is None
        else:
            assert left == pytest.approx(total - second, abs=1.0)


def test_the_last_loops_are_not_thought_to_share_the_work_of_many():
    work = Work()
    for _ in range(8):  # side by side, in 100 seconds
        work.begin(0.0)
        work.finish(100.0, 50, 100.0)
    assert work.left(100.0, 1, [0]) == pytest.approx(100.0)
    assert work.left(100.0, 2, []) == pytest.approx(100.0)
    assert work.left(100.0, 80, []) == pytest.approx(1000.0)
    assert work.left(150.0, 1, [25]) == pytest.approx(50.0)


def test_nothing_is_guessed_without_a_total_or_without_time():
    work = Work()
    assert work.left(5.0, 10, [3]) is None
    work.finish(5.0, 4)
    assert work.left(5.0, 10, []) is None and work.left(9.0, None, []) is None
    assert work.left(9.0, 0, []) == 0.0


def test_durations_in_words():
    assert [clock(s) for s in (0, 7.9, 760, 11110)] == ["0:00", "0:07", "12:40", "3:05:10"]
    assert [about(s) for s in (0, 44, 720, 12600, 181440)] == [
        "10 s",
        "40 s",
        "12 min",
        "3.5 h",
        "2.1 days",
    ]


# How it is drawn.

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


# Lines, where nothing can be drawn.


def test_lines_become_seldom_and_are_never_said_twice():
    watch = Clock()
    activity = Activity(clock=watch)
    activity.expect("loops", 100_000)
    console = Console(file=io.StringIO(), width=80)
    display = LinesDisplay(activity, console, clock=watch)
    for second in range(4 * 36_000):
        watch.now = second / 4
        if second % 4 == 0:
            activity._done += 1
        display.show()
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "[0:00] 1/100,000 loops" and 50 < len(lines) < 250
    early = [line for line in lines if line.startswith("[0:")]
    assert len(early) >= 5
    before = len(lines)
    display.say()
    display.say()
    assert len(console.file.getvalue().splitlines()) <= before + 1


def test_a_terminal_that_was_closed_ends_no_run():
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    for console in (Console(file=Gone(), force_terminal=True), Console(file=Gone())):
        activity = Activity()
        activity.expect("loops", 3)
        kind = LiveDisplay if console.is_terminal else LinesDisplay
        display = kind(activity, console)
        display.start()
        display.stage("Running 3 reflective loops")
        with display.paused():
            pass
        display.stop()


def test_a_snapshot_and_a_drawing_are_cheap():
    """Bounds that a busy machine keeps: what an event costs is measured in docs/terminal.md."""
    activity = Activity()
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    began = time.thread_time()
    for _ in range(20_000):
        activity.call_ended(usage, cached=False)
    assert time.thread_time() - began < 1.0
