"""Examples and notebook without real models."""

import importlib.util
import json
import re

import pytest
from notebooks import EXAMPLES, NOTEBOOKS, check, execute
from pages import ROOT

from reflectory import ReflectiveLoop
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld
from reflectory.training import read_dataset

SCRIPTS = sorted(EXAMPLES.glob("*.py"))
INSTRUCTIONS = ["Explain the first fact.", "Explain the second fact."]


def load(name: str):
    """Return an example as a module; importing it runs nothing."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def loop():
    world = SyntheticWorld()
    with ReflectiveLoop(
        world.documents(),
        teacher=world.teacher(),
        student=world.student(),
        grader=world.grader(),
        embedder=ConstantEmbedder(),
        config=world.config(),
    ) as made:
        yield made


def test_there_is_a_script_for_each_use():
    names = ["improve", "make_dataset", "plot_matrices", "run_loops"]
    assert [s.stem for s in SCRIPTS] == names


def test_improve_says_what_became_of_each_round(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "unit"))
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "0")  # its student is tiny and made here
    import improving

    from reflectory.evaluation import general

    monkeypatch.setattr(general, "general_instructions", general.general_instructions)
    monkeypatch.setattr(general, "ANSWER_TOKENS", 4)
    improving.few_general_instructions()
    improving.prepare(tmp_path)
    rounds = improving.rounds(tmp_path)
    assert load("improve").improve(rounds) == 0
    said = capsys.readouterr().out
    assert "round 0: promoted: f1 0.000 -> " in said and "note: only 8" in said
    assert f"the student is number 1: {rounds.adapter()}" in said


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_short_and_have_a_command_line(script, capsys):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 50
    with pytest.raises(SystemExit) as leave:
        load(script.stem).main(["--help"])
    assert leave.value.code == 0
    assert "--" in capsys.readouterr().out


def test_run_loops_prints_response_grades_and_matrix(loop, capsys):
    assert load("run_loops").run_loops(loop, INSTRUCTIONS) == 0
    said = capsys.readouterr().out
    assert all(instruction in said for instruction in INSTRUCTIONS)
    assert "R_0:     I answer with skill 1" in said
    assert "R_final: I answer with skill 4" in said
    assert "G:       0.25, 0.50, 0.75, 1.00" in said
    assert "level 4" in said


def test_a_run_becomes_a_data_set_and_pictures(loop, tmp_path):
    manifest = load("make_dataset").make_dataset(loop, INSTRUCTIONS, tmp_path)
    rows = read_dataset(tmp_path / "dataset").training_rows()
    assert len(rows) == manifest.rows > 0
    assert {row.provenance.what for row in rows} == {"response", "answer"}
    assert min(row.provenance.score for row in rows) >= 0.5
    pictures = load("plot_matrices").plot_matrices(tmp_path / "run", tmp_path / "pictures")
    assert len(pictures) == len(INSTRUCTIONS)
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_plot_matrices_says_where_the_pictures_are(loop, tmp_path, capsys):
    list(loop.map(INSTRUCTIONS[:1], output=tmp_path / "run"))
    arguments = [str(tmp_path / "run"), "-o", str(tmp_path / "pictures")]
    assert load("plot_matrices").main(arguments) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "pictures" / "0000.png")]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_small_and_without_outputs(notebook):
    text = notebook.read_text(encoding="utf-8")
    content = json.loads(text)
    cells = content["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(cell["metadata"] == {} and "attachments" not in cell for cell in cells)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert 8 <= len(cells) <= 20
    assert len(text) < 20_000
    assert not re.search(r"/(home|root|tmp|work|Users)/|[A-Z]:\\\\", text), "a machine's path"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_say_first_what_they_are_about(notebook):
    first, *_, last = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert first["cell_type"] == last["cell_type"] == "markdown"
    assert first["source"][0].startswith("# ")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "".join(line for c in cells if c["cell_type"] == "markdown" for line in c["source"])
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert (EXAMPLES / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_without_real_models(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "docs"))
    check(execute(notebook, tmp_path, doubles=True, timeout_s=600))
