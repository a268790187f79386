"""The matrix that grows while a loop runs, by itself and in a notebook's cell."""

import sys

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from reflectory import ReflectiveLoop
from reflectory.alignment import CellStatus
from reflectory.config import Level, LoopConfig
from reflectory.driver import LoopEvent
from reflectory.report.live import LiveMatrix
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld
from reflectory.types import Examination

WORLD = SyntheticWorld(levels=3)


class Screen:
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, shown: LiveMatrix) -> None:
        self.shown.append(shown._repr_html_())


def world_loop(**config: object) -> ReflectiveLoop:
    return ReflectiveLoop(
        WORLD.documents(),
        teacher=WORLD.teacher(),
        student=WORLD.student(),
        grader=WORLD.grader(),
        embedder=ConstantEmbedder(),
        config=WORLD.config(**config),
    )


def test_it_grows_and_ends_as_the_matrix_of_the_trajectory() -> None:
    screen = Screen()
    with (
        world_loop(max_iterations=3, epsilon=1e-6) as loop,
        LiveMatrix(loop, interval=0.0, display=screen) as live,
    ):
        trajectory = loop.run("Explain the facts.", on_event=live)
    assert np.array_equal(live.matrix.values, trajectory.alignment.values)
    assert (live.loops, live.finished) == (1, 1)
    columns = [html.count('scope="col"') - 1 for html in screen.shown]
    assert columns == sorted(columns) and set(columns) == {0, 1, 2, 3}
    assert any("pending" in html.split("</style>")[1] for html in screen.shown)
    assert "G[3] = " in screen.shown[-1] and screen.shown[-1].endswith("over</p></div>")


def test_several_loops_are_shown_as_their_mean() -> None:
    with world_loop(max_iterations=2, epsilon=1e-6) as loop, LiveMatrix(loop) as live:
        found = list(loop.map(["One.", "Two.", "Three."], on_event=live))
    expected = np.mean([t.alignment.values for t in found], axis=0)
    np.testing.assert_allclose(live.matrix.values, expected)
    assert live._note() == "3 of 3 loops are over"
    assert "Mean A[j,t] of 3 loops" in live._repr_html_()


def test_updates_are_not_more_than_the_interval_allows_and_the_last_one_comes() -> None:
    screen = Screen()
    with (
        world_loop(max_iterations=3) as loop,
        LiveMatrix(loop, interval=3600.0, display=screen) as live,
    ):
        loop.run("Explain the facts.", on_event=live)
    assert len(screen.shown) == 2


def test_outside_of_a_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveMatrix(WORLD.config()) as live:
        live(event("ask", cell=Examination(level="level 1", iteration=0)))
    assert capsys.readouterr() == ("", "")
    assert live.matrix.status[0] == (CellStatus.PENDING,)


def test_names_of_levels_are_text_and_failed_cells_are_failed() -> None:
    bad = "<img src=x onerror=alert(1)>"
    config = LoopConfig(levels=(Level(name=bad, description="is hostile"),))
    live = LiveMatrix(config)
    live(event("ask", cell=Examination(level=bad, iteration=0, status=CellStatus.FAILED)))
    assert live.matrix.status == ((CellStatus.FAILED,),)
    assert "<img" not in live._repr_html_()
    assert ">failed</td>" in live._repr_html_()


def test_an_error_is_not_hidden() -> None:
    live = LiveMatrix(WORLD.config())
    with pytest.raises(RuntimeError), live:
        raise RuntimeError
    assert live._note() == "stopped"


def event(step: str, **update: object) -> LoopEvent:
    return LoopEvent("one", step, 0, "level 1", update)


CELL = """
from reflectory import ReflectiveLoop
from reflectory.report.live import LiveMatrix
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

world = SyntheticWorld(levels=2)
loop = ReflectiveLoop(
    world.documents(), teacher=world.teacher(), student=world.student(), grader=world.grader(),
    embedder=ConstantEmbedder(), config=world.config(max_iterations=2, epsilon=1e-6),
)
with LiveMatrix(loop, interval=0.0) as live:
    trajectory = loop.run("Explain the facts.", on_event=live)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel needs another event loop there")
def test_in_a_notebook_one_output_is_updated_to_the_end(tmp_path) -> None:
    cells = [nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell("trajectory.alignment")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    messages: list[str] = []

    class Client(NotebookClient):
        def process_message(self, msg, cell, cell_index):
            messages.append(msg["msg_type"])
            return super().process_message(msg, cell, cell_index)

    resources = {"metadata": {"path": str(tmp_path)}}
    Client(notebook, kernel_name="python3", timeout=120, resources=resources).execute()
    outputs = notebook.cells[0].outputs
    (shown,) = [o for o in outputs if o.output_type == "display_data"]
    html = shown["data"]["text/html"]
    assert messages.count("update_display_data") > 4
    assert html.count('class="done"') == 4 and "G[2] = " in html
    (after,) = notebook.cells[1].outputs
    assert {"text/html", "image/png", "text/plain"} <= set(after["data"])
