"""The progress of a run: what is heard and counted, and lines where nothing can be drawn."""

import io

import pytest
from drawing import drawn
from rich.console import Console
from worlds import world_loop

from reflectory.background import BACKGROUND
from reflectory.cli.progress import LinesDisplay, LiveDisplay
from reflectory.cli.progress_activity import Activity
from reflectory.cli.progress_words import progress_line
from reflectory.errors import BackendError
from reflectory.models.protocol import Usage
from reflectory.observability.listening import current_listener, listened_by
from reflectory.runner import Runner
from reflectory.runs import RunView
from reflectory.runs.instructions import read_instructions
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = [f"What is thing {n}?" for n in range(4)]


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
