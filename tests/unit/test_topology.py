"""The shape of Algorithm 1's graph is a snapshot: a change of it is a readable difference.

``python tests/unit/test_topology.py`` writes snapshot and figure again.
"""

from pathlib import Path

from reflectory import LoopConfig
from reflectory.graphs.reflective_loop import build_reflective_loop
from reflectory.report.graph_figure import draw_graph, mermaid

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
SNAPSHOT, FIGURE = FIGURES / "reflective_loop.mmd", FIGURES / "reflective_loop.svg"


def mermaid_now() -> str:
    return mermaid(build_reflective_loop(LoopConfig())).rstrip() + "\n"


def test_the_graph_is_that_of_the_snapshot():
    assert mermaid_now() == SNAPSHOT.read_text(encoding="utf-8")


def test_the_figure_shows_every_node():
    topology = build_reflective_loop(LoopConfig()).get_graph(xray=True)
    short = {name.rsplit(":", 1)[-1].strip("_") for name in topology.nodes}
    drawn = FIGURE.read_text(encoding="utf-8")  # texts are drawn as curves, each behind a comment
    assert {"ask", "align", "grade", "reflect", "start", "end"} <= short
    assert [name for name in sorted(short) if f"<!-- {name} -->" not in drawn] == []


def test_the_figure_is_drawn_from_this_graph(tmp_path):
    """Same comments in the same order: names and frames, placed by the same layout."""

    def comments(file: Path) -> list[str]:
        lines = file.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip().startswith("<!-- ")]

    drawn = draw_graph(build_reflective_loop(LoopConfig()), tmp_path / "now.svg")
    assert comments(drawn) == comments(FIGURE)


if __name__ == "__main__":
    SNAPSHOT.write_text(mermaid_now(), encoding="utf-8")
    draw_graph(build_reflective_loop(LoopConfig()), FIGURE)
