"""What the terminal shows, read back from a console of a given width."""

import io
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from reflectory.alignment import AlignmentMatrix
from reflectory.report.terminal import matrix_table, scores_table, trajectory_summary
from reflectory.types import (
    Answer,
    ContextAddition,
    Failure,
    Feedback,
    Flag,
    Passage,
    Response,
    Statement,
    StopReason,
    Trajectory,
)

NAN = math.nan
LEVELS = ("basic", "intermediate", "advanced", "expert")


def shown(renderable: RenderableType, width: int = 80, *, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        legacy_windows=False,
    )
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each line by its first word."""
    return {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}


def response(iteration: int, text: str, score: float | None) -> Response:
    grade = None if score is None else Feedback(score=score, reason="", grader="test")
    return Response(iteration=iteration, answer=Answer(text=text), grade=grade)


def trajectory(**changes: object) -> Trajectory:
    fields: dict[str, object] = {
        "id": "1",
        "instruction": "Why do they disagree?",
        "levels": LEVELS,
        "responses": (
            response(0, "first words", 0.25),
            response(1, "middle words", None),
            response(2, "final words", 0.75),
        ),
        "chosen": 2,
        "stop": StopReason(rule="epsilon", converged=True, iterations=2, detail="change 0.01"),
    }
    return Trajectory(**(fields | changes))


# The matrix


def test_matrix_shows_values_failures_and_gaps() -> None:
    status = [["done", "failed"], ["done", "pending"]]
    matrix = AlignmentMatrix(["basic", "expert"], [[0.25, NAN], [1.0, NAN]], status=status)
    found = rows(shown(matrix_table(matrix)))
    assert found["level"] == ["t=0", "t=1"]
    assert found["basic"] == ["0.25", "fail"]
    assert found["expert"] == ["1.00", "-"]
    assert found["change"] == ["?"]


def test_change_stands_below_the_matrix_beside_epsilon() -> None:
    matrix = AlignmentMatrix(["a"], [[0.1, 0.5, 0.52]], epsilon=0.05, converged=True)
    text = shown(matrix_table(matrix))
    assert rows(text)["change"] == ["0.40", "0.02*"]
    assert "* < epsilon 0.05" in text
    assert text.rstrip().endswith("converged at t = 2")
    assert list(rows(text))[:3] == ["level", "a", "change"]


def test_star_means_strictly_below_epsilon() -> None:
    matrix = AlignmentMatrix(["a"], [[0.5, 0.75]], epsilon=0.25)
    assert rows(shown(matrix_table(matrix)))["change"] == ["0.25"]


def test_columns_line_up() -> None:
    matrix = AlignmentMatrix(["a", "b"], [[0.1, 0.2, 0.9], [0.3, NAN, 0.5]], epsilon=1.0)
    lines = shown(matrix_table(matrix)).splitlines()
    starts = [[m.start() for m in re.finditer(r"0\.\d\d", line)] for line in lines]
    assert starts[1] == [starts[1][0] + 6 * i for i in range(3)]
    assert starts[2] == [starts[1][0], starts[1][2]]


def test_blocks_darken_and_their_text_stays_readable() -> None:
    text = shown(matrix_table(AlignmentMatrix(["a"], [[0.0, 0.5, 1.0]])), colour=True)
    styles = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m (\d\.\d\d) ", text)
    assert [found[6] for found in styles] == ["0.00", "0.50", "1.00"]

    def luminance(channels: tuple[str, ...]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (int(channel) / 255 for channel in channels)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    backs = [luminance(found[3:6]) for found in styles]
    assert backs == sorted(backs, reverse=True)


@pytest.mark.parametrize("value", [i / 40 for i in range(41)])
def test_contrast_of_every_shade(value: float) -> None:
    """At least 4 to 1 between text and block, over the 3 to 1 of large text in WCAG 2."""
    text = shown(matrix_table(AlignmentMatrix(["a"], [[value]])), colour=True)
    found = re.search(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m", text)
    assert found is not None
    channels = [int(channel) / 255 for channel in found.groups()]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    ink, back = (0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear[:3], linear[3:]))
    assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) > 4.0


def test_plain_where_there_are_no_colours() -> None:
    status = [["done", "failed", "pending"]]
    matrix = AlignmentMatrix(["a"], [[0.5, NAN, NAN]], status=status, epsilon=0.1)
    text = shown(matrix_table(matrix))
    assert text.isascii()
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("columns", [0, 1, 5, 30])
def test_iterations_are_folded_to_the_width(width: int, columns: int) -> None:
    names = ["a tier whose name is rather long", "中文难度", "x"]
    matrix = AlignmentMatrix(names, [[0.5] * columns] * 3, epsilon=0.1)
    text = shown(matrix_table(matrix), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert re.findall(r"t=(\d+)", text) == [str(t) for t in range(columns)]
    assert text.count("0.50") == 3 * columns
    assert text.count("中文难度") == text.count("level ")
    if columns == 0:
        assert "no iteration yet" in text


# A trajectory


@pytest.mark.parametrize("width", [60, 80, 120])
def test_summary_shows_first_and_final_response(width: int) -> None:
    text = shown(trajectory_summary(trajectory()), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    beside = any("first words" in line and "final words" in line for line in text.splitlines())
    assert beside == (width >= 80)
    for words in (
        "instruction: Why do they disagree?",
        "R_0, the first response",
        "R_2, the last response",
        "G = 0.25",
        "G = 0.75",
        "t=0 0.25  t=1 -  t=2 0.75*",
    ):
        assert words in text
    assert "middle words" not in text
    assert "ended by: epsilon after 2 iterations (converged): change 0.01" in " ".join(text.split())


def test_summary_shows_what_is_grounded_and_what_was_added() -> None:
    answer = Answer(
        text="It is red. It is on\n\x1b[2JMars.",
        statements=(
            Statement(start=0, end=10, supported=True),
            Statement(start=11, end=30, supported=False),
        ),
        groundedness=0.5,
    )
    added = [
        ContextAddition(
            iteration=t, passage=f"p{t}", level="basic", question="?", reason=reason, score=1.0
        )
        for t, reason in ((1, "useful"), (2, "unknown"))
    ]
    source = trajectory(
        responses=(response(0, "a", 0.1), Response(iteration=1, answer=answer)),
        chosen=1,
        additions=tuple(added),
        passages={
            "p1": Passage(id="p1", document_id="d", title="Planets", text="x", start=0, end=1)
        },
    )
    text = shown(trajectory_summary(source), 120)
    for words in (
        "grounded:  t=0 -  t=1 0.50*",
        "no passage supports: It is on [2JMars.",
        "added for t=1: Planets (basic: a good answer used it)",
        "added for t=2: p2 (basic: not known)",
    ):
        assert words in text
    assert "\x1b" not in text
    assert "grounded" not in shown(trajectory_summary(trajectory()))


def test_summary_says_when_another_response_than_the_last_is_returned() -> None:
    best = trajectory(
        responses=(response(0, "a", 0.1), response(1, "b", 0.9), response(2, "c", 0.5)), chosen=1
    )
    assert "R_1, the best response by G" in shown(trajectory_summary(best))
    first = shown(trajectory_summary(trajectory(chosen=0)))
    assert "R_2, the last (R_0 is returned)" in first
    assert "t=0 0.25*" in first


def test_summary_of_a_loop_without_reflection() -> None:
    text = shown(trajectory_summary(trajectory(responses=(response(0, "", None),), chosen=0)))
    assert "(empty)" in text
    assert "not graded" in text
    assert text.count("R_") == 1


def test_summary_of_a_failed_loop() -> None:
    error = Failure(step="respond", kind="BackendError", message="the server is gone")
    text = shown(trajectory_summary(trajectory(responses=(), chosen=0, stop=None, error=error)))
    assert "failed: BackendError in the step respond: the server is gone" in text
    assert "did not finish" in text


def test_summary_explains_every_flag() -> None:
    text = shown(trajectory_summary(trajectory(flags=tuple(Flag))), 200)
    for flag in Flag:
        assert re.search(rf"look twice \[{flag.value}\]: \w+ ", text)


def test_texts_are_neither_markup_nor_commands_to_the_terminal() -> None:
    nasty = "\x1b[2J\x1b]0;title\x07[bold red]words[/bold red][/] \x9b1m\x08"
    source = trajectory(
        instruction=nasty,
        responses=(response(0, nasty, 0.5), response(1, nasty, 0.5)),
        chosen=1,
        stop=StopReason(rule="[x]", converged=False, iterations=1, detail=nasty),
    )
    text = shown(trajectory_summary(source), 120)
    assert not set(text) & {"\x1b", "\x07", "\x08", "\x9b"}
    assert text.count("[bold red]words[/bold red][/]") == 4
    levels = AlignmentMatrix(["[red]a[/]", "\x1b[2Jb"], [[0.5], [0.5]])
    assert "[red]a[/]" in shown(matrix_table(levels))
    assert "\x1b" not in shown(matrix_table(levels))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200), st.integers(40, 160))
def test_any_text_is_shown_within_the_width(text: str, width: int) -> None:
    words = text.encode("utf-8", "replace").decode("utf-8")
    source = trajectory(instruction="I", responses=(response(0, words, 0.5),), chosen=0)
    lines = shown(trajectory_summary(source), width).split("\n")
    framed = [line for line in lines if line.startswith("│")]
    assert all(cell_len(line) == width and line.endswith("│") for line in framed)


# Scores


def test_scores_stand_beside_one_another() -> None:
    before = {"F1": 0.0771, "rows": 50, "old": 0.5, "bad": NAN}
    after = {"F1": 0.1542, "rows": 60, "new": 0.25, "bad": 0.5}
    found = rows(shown(scores_table(before, after)))
    assert found["metric"] == ["before", "after", "change"]
    assert found["F1"] == ["0.077", "0.154", "+0.077"]
    assert found["rows"] == ["50", "60", "+10"]
    assert found["old"] == ["0.500", "-", "-"]
    assert found["new"] == ["-", "0.250", "-"]
    assert found["bad"] == ["-", "0.500", "-"]


def test_scores_can_be_named_and_may_fall() -> None:
    text = shown(
        scores_table({"loss [nats]": 2.0}, {"loss [nats]": 1.5}, names=("base", "adapter"))
    )
    assert "base" in text
    assert "adapter" in text
    assert "loss [nats]" in text
    assert "-0.500" in text


def test_no_scores_make_an_empty_table() -> None:
    assert scores_table({}, {}).row_count == 0
