"""The matrix as a picture. What is drawn is read back from the axes."""

import math
import struct
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.errors import StorageError, UserError
from reflectory.report.heatmap import alignment_png, plot_alignment, save_alignment

NAN = math.nan


def sample(k: int = 4, columns: int = 5, **options: object) -> AlignmentMatrix:
    values = np.linspace(0.0, 1.0, k * columns).reshape(k, columns)
    return AlignmentMatrix([f"level {j}" for j in range(k)], values, **options)  # type: ignore[arg-type]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def mesh(ax: Axes) -> QuadMesh:
    (found,) = [item for item in ax.collections if isinstance(item, QuadMesh)]
    return found


def labels(ax: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): list(np.asarray(line.get_ydata())) for line in ax.lines}


def drawn_figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    return figure


# The cells


def test_easiest_level_is_on_top_and_iterations_run_to_the_right() -> None:
    matrix = sample(3, 4)
    heat, _ = plot_alignment(matrix)
    assert [tick.get_text() for tick in heat.get_yticklabels()] == list(matrix.levels)
    bottom, top = heat.get_ylim()
    assert bottom > top
    np.testing.assert_array_equal(np.asarray(mesh(heat).get_array()), matrix.values)


def test_colour_scale_is_fixed_and_darkens() -> None:
    heat, _ = plot_alignment(AlignmentMatrix(["a"], [[0.4, 0.5]]))
    assert mesh(heat).get_clim() == (0.0, 1.0)
    shades = [sum(mesh(heat).to_rgba(v)[:3]) for v in np.linspace(0, 1, 20)]
    assert shades == sorted(shades, reverse=True)
    assert sum(mesh(heat).to_rgba(0.0)[:3]) < 2.9  # not the white of a pending cell


def test_colour_bar_says_what_it_shows() -> None:
    heat, curve = plot_alignment(sample())
    others = [ax for ax in drawn_figure(heat).axes if ax not in (heat, curve)]
    assert [ax.get_ylabel() for ax in others] == ["alignment A[j,t]"]


def test_values_are_written_in_readable_ink() -> None:
    heat, _ = plot_alignment(AlignmentMatrix(["a"], [[0.0, 0.5, 1.0]]))
    assert texts(heat) == ["0.00", "0.50", "1.00"]
    assert [text.get_color() for text in heat.texts] == ["black", "black", "white"]
    assert texts(plot_alignment(sample(), annotate=False)[0]) == []


@pytest.mark.parametrize("columns", [1, 2, 5, 10, 12, 20, 30, 50])
def test_values_fit_their_cells_or_are_left_out(columns: int) -> None:
    heat, _ = plot_alignment(sample(10, columns))
    drawn_figure(heat)
    width = heat.get_window_extent().width / columns
    height = heat.get_window_extent().height / 10
    assert bool(heat.texts) == (columns <= 20)
    for text in heat.texts:
        box = text.get_window_extent()
        assert box.width < width
        assert box.height < height


def test_failed_cells_are_hatched_and_pending_ones_are_empty() -> None:
    status = [["done", "failed", "pending"]]
    heat, _ = plot_alignment(AlignmentMatrix(["a"], [[0.5, NAN, NAN]], status=status))
    cells = [patch for patch in heat.patches if isinstance(patch, Rectangle)]
    assert [(cell.get_x(), cell.get_hatch()) for cell in cells] == [(0.5, "////"), (1.5, None)]
    assert texts(heat) == ["0.50"]
    crosses = [line for line in heat.lines if line.get_marker() == "x"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in crosses] == [1.0]
    assert "hatched: failed, empty: pending" in heat.get_xlabel()
    assert "hatched" not in plot_alignment(sample())[0].get_xlabel()


# The curve


def test_curve_shows_the_changes_and_epsilon() -> None:
    matrix = sample(epsilon=0.05)
    _, curve = plot_alignment(matrix)
    lines = labels(curve)
    np.testing.assert_allclose(lines["change"], matrix.deltas)
    assert set(lines["epsilon = 0.05"]) == {0.05}
    (dashed,) = [line for line in curve.lines if line.get_linestyle() == "--"]
    assert dashed.get_label() == "epsilon = 0.05"
    legend = curve.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["change", "epsilon = 0.05"]


def test_stopping_point_is_marked_when_converged() -> None:
    settled = AlignmentMatrix(["a"], [[0.1, 0.5, 0.51]], epsilon=0.05, converged=True)
    assert labels(plot_alignment(settled)[1])["converged at t = 2"] == pytest.approx([0.01])
    open_end = AlignmentMatrix(["a"], [[0.1, 0.5, 0.51]], epsilon=0.05)
    assert not any("converged" in label for label in labels(plot_alignment(open_end)[1]))


def test_unknown_changes_are_marked_and_not_bridged() -> None:
    lines = labels(plot_alignment(AlignmentMatrix(["a"], [[0.1, 0.2, NAN, 0.4, 0.5]]))[1])
    assert np.isnan(lines["change"]).tolist() == [False, True, True, False]
    assert lines["not known"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("matrix", "note"),
    [
        (sample(2, 1, epsilon=0.1), "one iteration"),
        (AlignmentMatrix(["a"], [[0.1, NAN]], status=[["done", "failed"]]), "no change is known"),
    ],
)
def test_note_instead_of_an_empty_curve(matrix: AlignmentMatrix, note: str) -> None:
    _, curve = plot_alignment(matrix)
    assert not curve.lines
    assert note in texts(curve)[0]


def test_legend_covers_no_point() -> None:
    rising = np.linspace(0.0, 1.0, 12) ** 2
    _, curve = plot_alignment(AlignmentMatrix(["a"], [rising], epsilon=0.01, converged=True))
    drawn_figure(curve)
    legend = curve.get_legend()
    assert legend is not None
    points = curve.transData.transform(np.column_stack([np.arange(1, 12), np.diff(rising)]))
    assert points[:, 1].max() < legend.get_window_extent().y0


# Shapes


@pytest.mark.parametrize("k", [1, 2, 4, 10])
@pytest.mark.parametrize("columns", [0, 1, 2, 7, 50])
def test_nothing_is_cut_or_overlaps(k: int, columns: int) -> None:
    names = [f"level {j} with quite a long name that goes on to sixty"[:60] for j in range(k)]
    values = np.random.default_rng(0).uniform(size=(k, columns))
    matrix = AlignmentMatrix(names, values, epsilon=0.1, converged=columns > 1)
    heat, curve = plot_alignment(matrix, title="An instruction of some length " * 4)
    figure = drawn_figure(heat)
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    for box in boxes:
        assert box is not None
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    ordered = sorted((box for box in boxes if box is not None), key=lambda box: box.x0)
    assert all(a.x1 <= b.x0 for a, b in pairwise(ordered))
    ticks = [tick.get_window_extent() for tick in heat.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in pairwise(ticks))
    (title,) = figure.texts
    assert title.get_window_extent().x0 >= 0
    assert title.get_window_extent().y0 >= max(b.y1 for b in ordered)
    assert curve in figure.axes


def test_text_with_dollars_and_backslashes_is_no_formula() -> None:
    matrix = AlignmentMatrix(["costs $5 and $\\frac$", "a_b^c"], [[0.5, 0.6], [0.7, 0.8]])
    heat, _ = plot_alignment(matrix, title="$x_ and \\y")
    drawn_figure(heat)
    assert heat.get_yticklabels()[0].get_text() == "costs $5 and $\\frac$"


# Where it is drawn


def test_draws_into_given_axes() -> None:
    figure = Figure(figsize=(9, 3))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    assert plot_alignment(sample(), axes=(left, right), title="T $") == (left, right)
    assert left.get_title() == "T $"
    assert texts(left)
    assert labels(right)
    figure.canvas.draw()


def test_method_of_the_matrix_draws_the_same() -> None:
    heat, curve = sample().plot(annotate=False)
    assert not heat.texts
    assert curve.lines


def test_png_for_notebooks() -> None:
    data = alignment_png(sample())
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert 400 < width < 2000
    assert 200 < height < 1000
    assert sample()._repr_png_() == data


@pytest.mark.parametrize(
    ("name", "start"),
    [("m.png", b"\x89PNG"), ("m.PNG", b"\x89PNG"), ("m.svg", b"<?xml"), ("m.pdf", b"%PDF")],
)
def test_format_follows_the_suffix(tmp_path: Path, name: str, start: bytes) -> None:
    path = save_alignment(sample(), tmp_path / name, title="T")
    assert path == tmp_path / name
    content = path.read_bytes()
    assert content.startswith(start)
    assert b"dc:date" not in content
    assert b"CreationDate" not in content


@pytest.mark.parametrize("name", ["matrix", "matrix.jpg", "matrix.json", ".png"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=name) as caught:
        save_alignment(sample(), tmp_path / name)
    assert ".svg" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none/m\.png"):
        save_alignment(sample(), tmp_path / "none" / "m.png")


def test_many_threads_draw_at_once() -> None:
    drawn: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: drawn.append(alignment_png(sample(2, 3)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 6
    assert len(set(drawn)) == 1


def test_pyplot_is_never_loaded_and_matplotlib_only_to_draw() -> None:
    program = """
import sys
import reflectory.report.heatmap as heatmap
from reflectory.alignment import AlignmentMatrix
assert "matplotlib" not in sys.modules
heatmap.alignment_png(AlignmentMatrix(["a"], [[0.1, 0.2]]))
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_thousand_iterations_are_drawn() -> None:
    status = [[CellStatus.DONE] * 999 + [CellStatus.FAILED]]
    values = [[*np.linspace(0, 1, 999), NAN]]
    data = alignment_png(AlignmentMatrix(["a"], values, status=status, epsilon=0.01))
    assert struct.unpack(">I", data[16:20])[0] < 2500
