"""The table of tokens and rates."""

from rich.console import Console

from reflectory.report.statistics import statistics_table


def test_the_table_says_what_each_role_took() -> None:
    roles = {
        "student.answer": {
            "calls": 3,
            "prompt_tokens": 100,
            "reused_tokens": 80,
            "completion_tokens": 30,
            "seconds": 2.0,
        }
    }
    engines = {"student": {"prefilled": 20, "decoded": 33, "busy_seconds": 0.0}}
    console = Console(width=100, record=True, file=None)
    with console.capture() as capture:
        console.print(statistics_table(roles, engines))
    lines = capture.get().splitlines()
    row = next(line.split() for line in lines if "student.answer" in line)
    assert row == ["student.answer", "3", "20", "80", "30", "2.0", "15.0"]
    row = next(line.split() for line in lines if "engine of student" in line)
    assert row[-4:] == ["20", "33", "0.0", "-"]


def test_what_does_not_fit_is_left_out_as_a_whole() -> None:
    sums = {
        "calls": 1234,
        "prompt_tokens": 1_000_000,
        "reused_tokens": 100_000,
        "completion_tokens": 65_432,
        "seconds": 2.0,
    }
    engines = {"teacher and student": {"prefilled": 20, "decoded": 33, "busy_seconds": 2.0}}
    for width, there in ((40, ["1,234", "65,432"]), (60, ["900,000", "32716.0"])):
        console = Console(width=width)
        with console.capture() as capture:
            console.print(statistics_table({"student.respond": sums}, engines))
        lines = capture.get().splitlines()
        row = next(line.split() for line in lines if "student.respond" in line)
        assert set(there) <= set(row) and max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
