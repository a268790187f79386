"""How long a run will still take, and durations in words."""

import pytest

from reflectory.cli.progress_time import Work, about, clock


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
