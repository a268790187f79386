"""The figures of the concepts page can be drawn from any run, and what models said stays text."""

import importlib.util
import re
import shutil

import pytest
from pages import ROOT

from reflectory import ReflectiveLoop
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

FIGURES = ROOT / "docs" / "figures"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return the script as a module, with a copy of the page to write into."""
    spec = importlib.util.spec_from_file_location("make_figures", FIGURES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGE", shutil.copy(module.PAGE, tmp_path / "concepts.md"))
    return module


@pytest.fixture
def run(tmp_path):
    world = SyntheticWorld()
    with ReflectiveLoop(
        world.documents(),
        teacher=world.teacher(),
        student=world.student(),
        grader=world.grader(),
        embedder=ConstantEmbedder(),
        config=world.config(),
    ) as loop:
        list(loop.map(["Explain <b>the</b> facts.", "Explain more."], output=tmp_path / "run"))
    return tmp_path / "run"


def test_every_figure_of_the_page_is_drawn_and_the_table_written(make, run, tmp_path):
    made = {file.name for file in make.draw_all(run, tmp_path)}
    page = (tmp_path / "concepts.md").read_text("utf-8")
    shown = set(re.findall(r"!\[[^\]]*\]\(figures/([^)]+)\)", page))
    assert made == shown | {"concepts.md"}
    assert all((tmp_path / name).read_text("utf-8").startswith("<?xml") for name in shown)
    table = page.split("<!-- one iteration -->")[1].split("<!-- end")[0]
    assert "&lt;b&gt;the&lt;/b&gt;" in table and "<b>" not in table
    assert table.count("| level ") == 4 + 1  # four levels of that name, and the heading


def test_what_a_model_said_does_nothing_in_markdown(make):
    said = "a | b\n# c <script>x</script> *d* [e](f) `g`"
    shown = make.said_as_data(said)
    assert shown == r"a \| b \# c &lt;script&gt;x&lt;/script&gt; \*d\* \[e\](f) \`g\`"
    assert len(make.said_as_data("word " * 1000)) < 300


def test_a_page_without_marks_is_left_as_it_is(make, tmp_path):
    page = tmp_path / "other.md"
    page.write_text("nothing", "utf-8")
    with pytest.raises(SystemExit, match="no marks"):
        make.write_between(page, "one iteration", "text")
    assert page.read_text("utf-8") == "nothing"
