"""The shape of both graphs is a snapshot: a change of it is a readable difference.

``python tests/unit/test_topology.py`` writes snapshot and figure again.
"""

from pathlib import Path

from reflectory import LoopConfig
from reflectory.graphs.reflective_loop import build_reflective_loop
from reflectory.graphs.self_improvement import build_self_improvement
from reflectory.report.graph_figure import draw_graph, mermaid

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
SNAPSHOT, FIGURE = FIGURES / "reflective_loop.mmd", FIGURES / "reflective_loop.svg"
ROUNDS = FIGURES / "self_improvement.mmd"


def mermaid_now() -> str:
    return mermaid(build_reflective_loop(LoopConfig())).rstrip() + "\n"


def rounds_now() -> str:
    return mermaid(build_self_improvement(review=("rows", "promotion"))).rstrip() + "\n"


def test_the_graph_is_that_of_the_snapshot():
    assert mermaid_now() == SNAPSHOT.read_text(encoding="utf-8")


def test_the_graph_of_rounds_is_that_of_its_snapshot():
    assert rounds_now() == ROUNDS.read_text(encoding="utf-8")


def test_without_reviews_nobody_is_asked():
    nodes = set(build_self_improvement().get_graph().nodes)
    with_reviews = set(build_self_improvement(review=("rows", "promotion")).get_graph().nodes)
    assert with_reviews - nodes == {"review_rows", "review_promotion"}


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
    ROUNDS.write_text(rounds_now(), encoding="utf-8")
    draw_graph(build_reflective_loop(LoopConfig()), FIGURE)
