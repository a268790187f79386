"""One matrix, two and many as pictures. What is drawn is read back from the axes."""

import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.errors import UserError
from reflectory.evaluation.matrices import LevelTrend, MatrixReport
from reflectory.report import plots

NAN = math.nan
LEVELS = ("basic", "intermediate", "advanced", "expert")


def sample(levels: int, columns: int, seed: int = 0) -> AlignmentMatrix:
    names = [LEVELS[j] if j < 4 else f"a further level of number {j}" for j in range(levels)]
    values = np.random.default_rng(seed).random((levels, columns))
    return AlignmentMatrix(names, values)


def mesh(ax: Axes) -> QuadMesh:
    (found,) = [item for item in ax.collections if isinstance(item, QuadMesh)]
    return found


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def assert_nothing_overlaps(figure: Figure) -> None:
    """Every text of the figure lies inside it, and no two lie over one another."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = []
    for ax in figure.axes:
        if not ax.axison:
            continue
        texts = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        ticks = [tick for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()]
        texts += [label for tick in ticks for label in (tick.label1, tick.label2)]
        for text in texts:
            if text.get_visible() and text.get_text():
                boxes.append((text.get_text(), text.get_window_extent(renderer)))
    whole = figure.bbox
    for name, box in boxes:
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, f"{name!r} is cut"
        assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1, f"{name!r} is cut"
    for (one, a), (other, b) in combinations(boxes, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 1.5 or high < 1.5, f"{one!r} lies over {other!r}"


@pytest.mark.parametrize(("levels", "columns"), [(1, 1), (4, 3), (12, 20), (2, 0)])
def test_one_matrix_is_drawn_at_any_size(levels: int, columns: int) -> None:
    matrix = sample(levels, columns)
    ax = plots.plot_matrix(matrix, title="A title that is rather long for so small a picture")
    if columns:
        np.testing.assert_array_equal(np.asarray(mesh(ax).get_array()), matrix.values)
        assert mesh(ax).get_clim() == (0.0, 1.0)
    assert_nothing_overlaps(figure_of(ax))


def test_a_difference_is_the_second_less_the_first_with_zero_in_the_middle() -> None:
    first = AlignmentMatrix(["a", "b"], [[0.2, 0.5, 0.1], [NAN, 0.5, 0.3]])
    second = AlignmentMatrix(["a", "b"], [[0.5, 0.4], [0.9, 0.5]])
    ax = plots.plot_difference(first, second)
    drawn = np.ma.filled(mesh(ax).get_array(), NAN)
    np.testing.assert_allclose(drawn, [[0.3, -0.1, NAN], [NAN, 0.0, NAN]], atol=1e-12)
    low, high = mesh(ax).get_clim()
    assert low == -high == pytest.approx(-0.3)
    assert [t.get_text() for t in ax.texts] == ["+0.30", "-0.10", "+0.00"]
    assert "empty: not in both" in ax.get_xlabel()
    more, less = mesh(ax).to_rgba(0.3)[:3], mesh(ax).to_rgba(-0.3)[:3]
    assert more[0] > more[2] and less[2] > less[0]  # orange and purple


def test_a_cell_that_failed_in_either_is_failed_in_the_difference() -> None:
    status = [[CellStatus.FAILED]]
    failed = AlignmentMatrix(["a"], [[NAN]], status=status)
    ax = plots.plot_difference(failed, AlignmentMatrix(["a"], [[0.5]]))
    assert "hatched: failed in one" in ax.get_xlabel()
    assert [patch.get_hatch() for patch in ax.patches] == ["////"]


def test_equal_matrices_differ_by_nothing_and_minus_zero_is_not_written() -> None:
    ax = plots.plot_difference(sample(2, 2), sample(2, 2))
    assert {t.get_text() for t in ax.texts} == {"+0.00"}
    small = AlignmentMatrix(["a"], [[0.501]])
    (text,) = plots.plot_difference(small, AlignmentMatrix(["a"], [[0.5]])).texts
    assert text.get_text() == "+0.00"


def test_other_levels_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="levels differ: basic, intermediate and a"):
        plots.plot_comparison(sample(2, 2), AlignmentMatrix(["a"], [[0.1]]))


@pytest.mark.parametrize(("levels", "first", "second"), [(1, 1, 1), (4, 3, 2), (12, 8, 14)])
def test_two_and_their_difference_share_scale_and_width(levels, first, second) -> None:
    left, middle, right = plots.plot_comparison(
        sample(levels, first), sample(levels, second, 1), names=("before $x$", "after")
    )
    assert mesh(left).get_clim() == mesh(middle).get_clim() == (0.0, 1.0)
    assert left.get_xlim() == middle.get_xlim() == right.get_xlim()
    assert left.get_title() == "before $x$"
    assert_nothing_overlaps(figure_of(left))


def test_two_need_three_axes() -> None:
    axes = Figure().subplots(1, 2)
    with pytest.raises(UserError, match="three axes, got 2"):
        plots.plot_comparison(sample(1, 1), sample(1, 1), axes=list(axes))


@pytest.mark.parametrize("count", [1, 5, 7])
def test_many_are_drawn_small_with_one_colour_bar(count: int) -> None:
    many = {f"Explain the {n}th of the facts, and say why": sample(4, 3, n) for n in range(count)}
    axes = plots.plot_many(many)
    assert axes.shape == (count,)
    for ax, matrix in zip(axes, many.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(mesh(ax).get_array()), matrix.values)
    figure = figure_of(axes[0])
    assert [ax.get_ylabel() for ax in figure.axes].count("alignment A[j,t]") == 1
    assert_nothing_overlaps(figure)


def test_many_of_different_sizes_name_their_own_levels() -> None:
    axes = plots.plot_many({"one": sample(1, 1), "two": sample(4, 5), "none": sample(2, 0)})
    assert [len(ax.get_yticklabels()) for ax in axes] == [1, 4, 2]
    assert_nothing_overlaps(figure_of(axes[0]))


def test_of_very_many_the_first_are_drawn_and_it_is_said() -> None:
    read = []

    def endless():
        while True:
            read.append(1)
            yield type("Loop", (), {"instruction": "Why?", "alignment": sample(2, 2)})

    axes = plots.plot_many(endless(), most=3)
    assert len(axes) == 3 and len(read) == 4
    assert [ax.get_xlabel() for ax in axes] == [""] * 3  # once below all of them
    assert figure_of(axes[0]).get_supxlabel() == "iteration t"
    assert figure_of(axes[0]).get_suptitle() == "the first 3; there are more"
    with pytest.raises(UserError):
        plots.plot_many({}, most=0)
    assert plots.plot_many({}).shape == (1,)


def trend(level: str, means: list[float | None]) -> LevelTrend:
    counts = tuple(0 if mean is None else 5 - t for t, mean in enumerate(means))
    spreads = tuple(None if mean is None else 0.125 for mean in means)
    return LevelTrend(level=level, means=tuple(means), spreads=spreads, counts=counts)


def test_the_mean_has_its_spread_and_how_many_loops_there_are() -> None:
    levels = (trend("basic", [0.25, 1.0 + 1e-16]), trend("expert", [0.5, None]))
    ax = plots.plot_mean(MatrixReport(loops=5, levels=levels), title="a run")
    written = {t.get_text() for t in ax.texts}
    assert written == {"0.25\n\u00b10.12", "1.00\n\u00b10.12", "0.50\n\u00b10.12"}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0\n(5)", "1\n(4)"]
    assert_nothing_overlaps(figure_of(ax))
    assert "no loop" in plots.plot_mean(MatrixReport(loops=0)).texts[0].get_text()


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_a_picture_is_saved_with_its_fonts_and_the_same_bytes(tmp_path, suffix: str) -> None:
    axes, same = (plots.plot_many({"\u00fcber": sample(2, 2)}) for _ in range(2))
    first = plots.save(axes, tmp_path / f"a{suffix}").read_bytes()
    again = plots.save(figure_of(same[0]), tmp_path / f"a{suffix}").read_bytes()
    assert first == again
    if suffix == ".pdf":
        assert b"/FontFile2" in first and b"/Type3" not in first
    if suffix == ".svg":
        assert b"<text" not in first and b"font-family" not in first


def test_what_is_no_picture_is_not_saved(tmp_path) -> None:
    for nothing in ([], "axes", None, {}):
        with pytest.raises(UserError, match="is no picture"):
            plots.save(nothing, tmp_path / "a.png")
    with pytest.raises(UserError, match=r"\.pdf"):
        plots.save(plots.plot_matrix(sample(1, 1)), tmp_path / "a.gif")


def test_a_figure_shows_itself_without_pyplot() -> None:
    figure = plots.plot_matrix(sample(2, 2)).figure
    assert figure._repr_png_().startswith(b"\x89PNG")
